"""Linear models on vectorizers of texts: what every feature adds to the answer, and which characters of the text it stands for."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import NotApplicable
from ..core.question import Question
from .inside import estimator_behind

Floats = NDArray[np.float64]
Term = tuple[str, tuple[int, ...]]
"""A term of a text, and the places of its characters."""


@dataclass(frozen=True, eq=False)
class Vectorized:
    """A linear model on texts: (K, F) weights, (K,) biases; `before` turns texts into features, `kept` says which of the vectorizers' features are left."""

    before: Any
    vectorizers: tuple[Any, ...]
    starts: tuple[int, ...]
    kept: NDArray[np.int64]
    weights: Floats
    bias: Floats
    classes: tuple[str, ...]
    last: Any

    def features(self, texts: Sequence[str]) -> Any:
        """(n, F) sparse features."""
        from scipy.sparse import csr_matrix

        return csr_matrix(self.before.transform(list(texts)))

    def margin(self, output: int) -> tuple[Floats, float]:
        """Weights and bias of one output; of two classes the first is the other way round."""
        if len(self.weights) == 1 and len(self.classes) == 2:
            sign = 1.0 if output == 1 else -1.0
            return sign * self.weights[0], sign * float(self.bias[0])
        return self.weights[output], float(self.bias[output])

    def occurrences(self, text: str) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(feature, places of its characters) of every term in a text that the model has a weight for."""
        place = np.full(self.starts[-1], -1)
        place[self.kept] = np.arange(len(self.kept))
        for v, start in zip(self.vectorizers, self.starts, strict=False):
            terms = terms_of(v, text)
            for (_, at), k in zip(terms, numbers_of(v, [t for t, _ in terms]), strict=True):
                if k >= 0 and place[start + k] >= 0:
                    yield int(place[start + k]), at

    def characters(self, text: str, output: int) -> tuple[Floats, float]:
        """(what every character adds, what belongs to none): together with the bias exactly the decision function."""
        weights, _ = self.margin(output)
        row = self.features([text])
        worth = dict(zip(row.indices.tolist(), (weights[row.indices] * row.data).tolist(), strict=True))
        out, found = np.zeros(len(text)), dict[int, list[tuple[int, ...]]]()
        for f, at in self.occurrences(text):
            found.setdefault(f, []).append(tuple(i for i in at if not text[i].isspace()))
        for f, where in found.items():
            share, shown = worth.get(f, 0.0) / len(where), [at for at in where if at]
            for at in shown:
                out[list(at)] += share / len(at)
            if shown:
                worth[f] = share * (len(where) - len(shown))
        return out, float(sum(worth.values()))


def vectorized(q: Question, who: str) -> Vectorized:
    """The linear model on vectorizers behind a question about texts."""
    whole = estimator_behind(q.model)
    if whole is None or not hasattr(whole, "steps"):
        raise NotApplicable(f"{who} needs a pipeline of a vectorizer and a linear model; {q.model.name} is another thing. Take occlusion or shapley on words.")
    before, last = whole[:-1], whole.steps[-1][1]
    leaves = tuple(_vectorizers(before, who))
    widths = [v.n_features if not hasattr(v, "vocabulary_") else len(v.vocabulary_) for v in leaves]
    starts = (0, *itertools.accumulate(widths))
    weights, bias = _linear(last, who)
    kept = _kept(before, starts[-1])
    if len(kept) != weights.shape[1]:
        raise NotApplicable(f"{who} needs every feature to come from a vectorizer; the pipeline makes {weights.shape[1]} of {len(kept)}. Take occlusion or shapley on words.")
    return Vectorized(before, leaves, starts, kept, weights, bias, tuple(map(str, getattr(last, "classes_", ()))), last)


def _linear(last: Any, who: str) -> tuple[Floats, Floats]:
    """(weights, biases) of a linear model, or of multinomial naive Bayes, which is one in log space."""
    if hasattr(last, "coef_"):
        weights = last.coef_.toarray() if hasattr(last.coef_, "toarray") else np.asarray(last.coef_)
        weights = np.atleast_2d(weights.astype(np.float64))
        return weights, np.broadcast_to(np.atleast_1d(np.asarray(last.intercept_, dtype=np.float64)), (len(weights),))
    if hasattr(last, "feature_log_prob_") and type(last).__name__ == "MultinomialNB":
        w, b = last.feature_log_prob_, last.class_log_prior_
        return (w[1:] - w[:1], b[1:] - b[:1]) if len(w) == 2 else (w, b)
    raise NotApplicable(f"{who} reads linear models; {type(last).__name__} is none. Take occlusion or shapley on words.")


def _vectorizers(step: Any, who: str) -> Iterator[Any]:
    """The vectorizers, in the order of their features."""
    if hasattr(step, "steps"):
        yield from _vectorizers(step.steps[0][1], who)
    elif hasattr(step, "transformer_list"):
        for _, one in step.transformer_list:
            if one not in ("drop", "passthrough"):
                yield from _vectorizers(one, who)
    elif hasattr(step, "build_analyzer"):
        yield step
    else:
        readable = "CountVectorizer, TfidfVectorizer and HashingVectorizer, alone or in a FeatureUnion"
        raise NotApplicable(f"{who} reads {readable}; {type(step).__name__} is none of them. Take occlusion or shapley on words.")


def _kept(before: Any, width: int) -> NDArray[np.int64]:
    """Which features of the vectorizers are left after selection."""
    kept = np.arange(width)
    for _, step in before.steps[1:]:
        if hasattr(step, "get_support"):
            kept = kept[step.get_support(indices=True)]
    return kept


# -- terms and where they stand ----------------------------------------------------------------------------------------------


def numbers_of(v: Any, terms: Sequence[str]) -> list[int]:
    """Each term's feature, -1 where the vectorizer has none."""
    if hasattr(v, "vocabulary_"):
        return [int(v.vocabulary_.get(t, -1)) for t in terms]
    if not terms:
        return []
    from sklearn.base import clone

    one = clone(v).set_params(analyzer=_alone, norm=None, alternate_sign=False, binary=False).transform(list(terms))
    return [int(k) for k in one.indices]


def _alone(term: str) -> list[str]:
    return [term]


def terms_of(v: Any, text: str) -> list[Term]:
    """The terms that a vectorizer sees in a text, each with the places of its characters; checked against its own analyzer."""
    plain, at = _preprocessed(v, text)
    made = _words(v, plain, at) if v.analyzer == "word" else _grams(v, plain, at) if v.analyzer == "char" else _bounded(v, plain, at) if v.analyzer == "char_wb" else None
    if made is None or sorted(t for t, _ in made) != sorted(v.build_analyzer()(text)):
        raise NotApplicable(f"{type(v).__name__} cuts texts in a way of its own (an analyzer or tokenizer), so that its terms cannot be found in the text. Take occlusion or shapley on words.")
    return made


def _preprocessed(v: Any, text: str) -> tuple[str, list[int]]:
    """The text as the vectorizer reads it, and of each of its characters the place in the text it came from."""
    change = v.build_preprocessor()
    whole, parts = change(text), [change(c) for c in text]
    if "".join(parts) != whole:
        return whole, list(range(len(whole))) if len(whole) == len(text) else [0] * len(whole)
    return whole, [i for i, p in enumerate(parts) for _ in p]


def _words(v: Any, plain: str, at: list[int]) -> list[Term]:
    tokens = list[tuple[str, tuple[int, int]]]()
    if v.tokenizer is None:
        for m in re.finditer(v.token_pattern, plain):
            group = 1 if m.re.groups else 0
            tokens.append((m.group(group), m.span(group)))
    else:
        start = 0
        for t in v.tokenizer(plain):
            found = plain.find(t, start)
            if found < 0:
                return []
            tokens.append((t, (found, found + len(t))))
            start = found + len(t)
    stop = v.get_stop_words() or ()
    kept = [(t, tuple(dict.fromkeys(at[a:b]))) for t, (a, b) in tokens if t not in stop]
    low, high = v.ngram_range
    return [(" ".join(t for t, _ in part), tuple(itertools.chain.from_iterable(p for _, p in part))) for n in range(low, high + 1) for part in (kept[i : i + n] for i in range(len(kept) - n + 1))]


def _grams(v: Any, plain: str, at: list[int]) -> list[Term]:
    """Runs of spaces count as one."""
    kept = [(" " if m.group().isspace() and len(m.group()) > 1 else m.group(), m.start()) for m in re.finditer(r"\s\s+|.", plain, re.DOTALL)]
    text, place, (low, high) = "".join(c for c, _ in kept), [at[i] for _, i in kept], v.ngram_range
    return [(text[i : i + n], tuple(dict.fromkeys(place[i : i + n]))) for n in range(low, min(high, len(text)) + 1) for i in range(len(text) - n + 1)]


def _bounded(v: Any, plain: str, at: list[int]) -> list[Term]:
    """Within words, a space on each side; a word shorter than a gram is taken once."""
    out, (low, high) = list[Term](), v.ngram_range
    for m in re.finditer(r"\S+", plain):
        word, place = f" {m.group()} ", [None, *at[m.start() : m.end()], None]
        for n in range(low, high + 1):
            starts = range(max(1, len(word) - n + 1))
            out += [(word[i : i + n], tuple(dict.fromkeys(p for p in place[i : i + n] if p is not None))) for i in starts]
            if len(starts) == 1:
                break
    return out
