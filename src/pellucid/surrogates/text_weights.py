"""The words that weigh most in a linear model of texts."""

from dataclasses import dataclass

import numpy as np

from ..backends.vectorized import Vectorized, numbers_of, terms_of, vectorized
from ..core.card import Card, Needs, param
from ..core.estimator import Estimator
from ..core.question import Question
from ._terms import LinearSummary, Term


@dataclass(frozen=True, kw_only=True)
class TextWeights(Estimator):
    """Which words and characters speak most for and against every class of a linear model on texts?

    How: the weights of the fitted model, each with its term; of a HashingVectorizer terms are those that the given texts hold. Nothing is fitted.
    Units: a weight is what one unit of a feature (a count, a tf-idf value) adds to the decision function (log-odds of a logistic regression).
    Misleads when: features differ in size: rare words have large weights and seldom matter; hashed terms may share a feature, and are named together.
    Source: the weights that the model is; TeamHG-Memex 2016, ELI5 (show_weights).
    """

    card = Card(title="Text weights", paper="https://eli5.readthedocs.io", needs=Needs.TOKENS, cost="1 forward row a text", reach="specific")
    count: int = param(10, "terms for and against every class", ge=1)

    def fit(self, q: Question) -> LinearSummary:
        m = vectorized(q, "text-weights")
        names = terms_named(m, q.model.function.texts)  # type: ignore[attr-defined]
        two = len(m.classes) == 2
        labels = list(map(str, q.model.labels)) if q.model.labels is not None else list(m.classes) or [f"output {k}" for k in range(len(m.weights))]
        outputs, terms = labels[1:] if two else labels[: len(m.weights)], list[Term]()
        for name, weights in zip(outputs, m.weights, strict=True):
            known = np.array([k for k in np.argsort(-weights, kind="stable") if k in names], dtype=np.int64)
            for k in dict.fromkeys([*known[: self.count].tolist(), *known[-self.count :].tolist()]):
                if weights[k]:
                    terms.append(Term(name, names[k], names[k], float(weights[k]), float(weights[k])))
        unit = "log-odds" if type(m.last).__name__.startswith("LogisticRegression") else "the decision function" if m.classes else "the answer"
        return LinearSummary(terms=tuple(terms), intercept=tuple(zip(outputs, map(float, m.bias), strict=True)), unit=unit, name=type(m.last).__name__, model=m.last, step="unit of the term")


def terms_named(m: Vectorized, texts: list[str]) -> dict[int, str]:
    """Every feature's term, as people read it."""
    place, out = {int(k): f for f, k in enumerate(m.kept)}, dict[int, str]()
    for v, start in zip(m.vectorizers, m.starts, strict=False):
        words = v.vocabulary_ if hasattr(v, "vocabulary_") else {}
        if not words:
            seen = list(dict.fromkeys(t for text in texts for t, _ in terms_of(v, text)))
            pairs = zip(seen, numbers_of(v, seen), strict=True)
        else:
            pairs = zip(words, map(int, words.values()), strict=True)
        for term, k in pairs:
            told = term if v.analyzer == "word" else f"“{term.replace(' ', '␣')}”"
            if start + k in place:
                f = place[start + k]
                out[f] = f"{out[f]} / {told}" if f in out else told
    return out
