"""Linear models on vectorizers: words add up to the decision function, and stand where the analyzer found them."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union

import pellucid as pel
from pellucid.backends.vectorized import terms_of
from pellucid.core.errors import NotApplicable

TEXTS = [
    "A good film, really GOOD fun!", "Not good: a bad, dull film.", "Dull and slow; bad   acting.", "Great fun and great acting",
    "The café scene was good", "Naïve plot, bad scene", "It is what it is", "fun fun fun",
]  # fmt: skip
LABELS = [1, 0, 0, 1, 1, 0, 2, 1]
TWO = [min(c, 1) for c in LABELS]
VECTORIZERS = {
    "count": CountVectorizer(), "tf-idf with pairs": TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), "stop words": TfidfVectorizer(stop_words="english", ngram_range=(1, 3)),
    "accents": CountVectorizer(strip_accents="unicode"), "letters": TfidfVectorizer(analyzer="char", ngram_range=(2, 4)), "within words": TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5)),
    "hashed": HashingVectorizer(n_features=64), "hashed, one sign": HashingVectorizer(n_features=2**12, alternate_sign=False, norm="l1", ngram_range=(1, 2)),
    "union": make_union(TfidfVectorizer(), CountVectorizer(analyzer="char_wb", ngram_range=(3, 3))), "group": CountVectorizer(token_pattern=r"(\w)\w+"),
    "binary": CountVectorizer(binary=True, lowercase=False), "own tokenizer": CountVectorizer(tokenizer=str.split, token_pattern=None), "rare left out": CountVectorizer(min_df=2),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORIZERS)
def test_words_add_up_to_the_decision_function(name: str) -> None:
    for labels, model in ((TWO, LogisticRegression()), (LABELS, RidgeClassifier())):
        own = make_pipeline(VECTORIZERS[name], model).fit(TEXTS, labels)
        unseen = [*TEXTS, "  never\n seen good  İstanbul-words "]
        for target in sorted(set(labels)):
            e = pel.explain(own, unseen, method="linear-text", target=target, evidence="none")
            made = own.decision_function(unseen)
            expected = made[:, target] if made.ndim == 2 else made * (1 if target else -1)
            np.testing.assert_allclose(e.base + e.values.sum(1), expected, atol=1e-9)
            np.testing.assert_allclose(e.total, expected, atol=1e-9)
            assert float(e.gap.abs().max()) < 1e-9
            bias = np.atleast_1d(own[-1].intercept_)
            if name in ("count", "binary", "own tokenizer", "hashed"):
                np.testing.assert_allclose(e.base, float(bias[target]) if made.ndim == 2 else float(bias[0]) * (1 if target else -1), atol=1e-9)


def test_every_word_gets_its_own_weight() -> None:
    own = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, TWO)
    e = pel.explain(own, ["GOOD, but not a bad film film"], method="linear-text", target=1, evidence="none")
    word = dict(zip(own[0].get_feature_names_out(), own[-1].coef_[0], strict=True))
    expected = [word["good"], 0.0, word["not"], 0.0, word["bad"], word["film"], word["film"]]
    np.testing.assert_allclose(e.values[0], expected, atol=1e-12)
    assert "tint" in e._repr_html_()


def test_pairs_are_shared_by_their_words_and_hashes_by_their_places() -> None:
    pairs = make_pipeline(CountVectorizer(ngram_range=(2, 2), stop_words=["a"]), LogisticRegression()).fit(TEXTS, TWO)
    e = pel.explain(pairs, ["good a film"], method="linear-text", target=1, evidence="none")
    weight = pairs[-1].coef_[0][pairs[0].vocabulary_["good film"]]
    np.testing.assert_allclose(e.values[0], [weight / 2, 0, weight / 2], atol=1e-12)  # four letters each
    letters = make_pipeline(CountVectorizer(analyzer="char", ngram_range=(1, 1)), LogisticRegression()).fit(TEXTS, TWO)
    e = pel.explain(letters, ["ab ba"], method="linear-text", target=1, evidence="none")
    a, b, space = (letters[-1].coef_[0][letters[0].vocabulary_[c]] for c in "ab ")
    np.testing.assert_allclose(e.values[0], [a + b, a + b], atol=1e-12)
    np.testing.assert_allclose(e.base, letters[-1].intercept_[0] + space, atol=1e-12)


READERS = [
    CountVectorizer(lowercase=True, strip_accents="unicode"), CountVectorizer(analyzer="char_wb", ngram_range=(2, 6)), CountVectorizer(analyzer="char", ngram_range=(1, 3)),
]  # fmt: skip


@pytest.mark.parametrize("vectorizer", READERS)
def test_terms_stand_where_they_are_read(vectorizer: CountVectorizer) -> None:
    for text in [*TEXTS, "Ärger  im\tCafé", "x", ""]:
        for term, at in terms_of(vectorizer, text):
            shown = "".join(text[i] for i in at)
            plain = vectorizer.build_preprocessor()(shown)
            assert plain.split() == term.split()


def test_selection_transformers_and_naive_bayes() -> None:
    own = make_pipeline(CountVectorizer(), TfidfTransformer(), SelectKBest(chi2, k=6), LogisticRegression()).fit(TEXTS, TWO)
    e = pel.explain(own, TEXTS, method="linear-text", target=1, evidence="none")
    np.testing.assert_allclose(e.base + e.values.sum(1), own.decision_function(TEXTS), atol=1e-9)
    bayes = make_pipeline(CountVectorizer(), MultinomialNB()).fit(TEXTS, LABELS)
    e = pel.explain(bayes, TEXTS, method="linear-text", target=2, evidence="none")
    np.testing.assert_allclose(e.total, bayes[-1].predict_joint_log_proba(bayes[:-1].transform(TEXTS))[:, 2], atol=1e-9)
    two = make_pipeline(CountVectorizer(), MultinomialNB()).fit(TEXTS, TWO)
    odds = np.log(two.predict_proba(TEXTS))
    np.testing.assert_allclose(pel.explain(two, TEXTS, method="linear-text", target=1, evidence="none").total, odds[:, 1] - odds[:, 0], atol=1e-9)
    ridge = make_pipeline(TfidfVectorizer(), Ridge()).fit(TEXTS, np.array(LABELS, float))
    np.testing.assert_allclose(pel.explain(ridge, TEXTS, method="linear-text", evidence="none").total, ridge.predict(TEXTS), atol=1e-9)


def test_top_words_of_every_class() -> None:
    own = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)
    found = pel.learn(own, TEXTS, method="text-weights", count=3)
    names, weights = own[0].get_feature_names_out(), own[-1].coef_
    for k in range(3):
        mine = [t for t in found.terms if t.output == str(k)]
        order = np.argsort(-weights[k], kind="stable")
        assert [t.name for t in mine] == [names[j] for j in (*order[:3], *order[-3:])]
        assert [t.slope for t in mine] == pytest.approx([weights[k, j] for j in (*order[:3], *order[-3:])])
    assert "one unit of the term" in found._repr_html_()
    hashed = make_pipeline(HashingVectorizer(n_features=2**14), LogisticRegression()).fit(TEXTS, TWO)
    assert {"good", "fun"} & {t.name for t in pel.learn(hashed, TEXTS, method="text-weights", count=4).terms}
    letters = make_pipeline(CountVectorizer(analyzer="char_wb", ngram_range=(3, 3)), LogisticRegression()).fit(TEXTS, TWO)
    assert all(t.name.startswith("“") for t in pel.learn(letters, TEXTS, method="text-weights").terms)


def test_others_are_refused() -> None:
    with pytest.raises(NotApplicable, match="RandomForestClassifier is none"):
        pel.explain(make_pipeline(CountVectorizer(), RandomForestClassifier(3)).fit(TEXTS, TWO), TEXTS[:1], method="linear-text")
    own = make_pipeline(CountVectorizer(analyzer=lambda t: t.split("o")), LogisticRegression()).fit(TEXTS, TWO)
    with pytest.raises(NotApplicable, match="a way of its own"):
        pel.explain(own, TEXTS[:1], method="linear-text")
    with pytest.raises(NotApplicable, match="needs a model that offers tokens"):
        pel.explain(torch.nn.Linear(3, 2).eval(), torch.rand(1, 3), method="linear-text")
    with pytest.raises(NotApplicable, match="is another thing"):
        pel.explain(lambda texts: np.array([[len(t)] for t in texts], float), TEXTS[:1], method="linear-text")
