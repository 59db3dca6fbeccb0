"""Writes the pictures of docs/how-to/read-the-pictures.md into docs/images/views. `python docs/pictures.py` runs it; it takes a minute."""

import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import pellucid as pel

HERE = Path(__file__).parent / "images" / "views"
GOOD = (
    "a warm and clever film", "not bad at all, rather good", "the cast is wonderful", "a quiet story, tender and true", "I loved the ending", "surprisingly good and never dull",
    "great fun from start to finish", "a moving, honest piece of work",
)  # fmt: skip
BAD = (
    "a dull and clumsy film", "bad from start to finish", "the cast is awful", "a loud story, shrill and false", "I hated the ending", "surprisingly bad and never funny", "a waste of time",
    "an overlong, boring piece of work",
)  # fmt: skip
REVIEW = "Not bad at all: a quiet, tender film with a wonderful cast, though the overlong ending nearly ruins it."
WIDTH = 1200


def main() -> None:
    """Explains a photo, a wine, many wines and a sentence, and draws them."""
    HERE.mkdir(parents=True, exist_ok=True)
    data = load_wine(as_frame=True)
    trees = GradientBoostingClassifier(random_state=0).fit(data.data.to_numpy(), data.target)
    wines = pel.wrap(trees, labels=["barolo", "grignolino", "barbera"], columns=list(data.data), name="wines")
    rows = data.data.to_numpy()
    drawn("overlay", pel.explain("efficientnet-lite0", "sample:coffee", target=967, method="lime", masker="slic:50", budget=1000, ids=["sample:coffee"]))
    one = pel.explain(wines, rows[:1], target="barolo", method="permutation-shapley", baseline=pel.Samples(torch.tensor(rows[::4])), budget=300)
    drawn("waterfall", one)
    drawn("force", one, kind="force")
    drawn("network", pel.explain(wines, rows[:1], target="barolo", method="tree-shap", interactions=True, evidence="none"), kind="network")
    drawn("beeswarm", pel.explain(wines, rows, target="barolo", method="tree-shap", evidence="none"))
    reviews = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=20)).fit([*GOOD, *BAD], [1] * len(GOOD) + [0] * len(BAD))
    model = pel.wrap(reviews.predict_proba, labels=["negative", "positive"], name="reviews")
    drawn("tint", pel.explain(model, REVIEW, target="positive", method="permutation-shapley", masker=pel.TextMasker(), budget=600))


def drawn(name: str, e: pel.Explanation, **asked: Any) -> None:
    """One picture, as wide as a page."""
    whole = io.BytesIO()
    e.plot(**asked).savefig(whole)
    picture = Image.open(whole).convert("RGB")
    small = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    small.save(HERE / f"{name}.jpg", quality=84, optimize=True)


if __name__ == "__main__":
    main()
