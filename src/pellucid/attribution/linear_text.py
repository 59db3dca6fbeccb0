"""Exact contributions of words to a linear model on a vectorizer."""

from dataclasses import dataclass

import numpy as np
import torch

from ..backends.vectorized import vectorized
from ..core.card import Card, Needs, Promise
from ..core.errors import CannotComplete, NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.target import Label, Output, Probability, of_row

WHO = "linear-text"


@dataclass(frozen=True, kw_only=True)
class LinearText(Method):
    """What does every word of a text add to the answer of a linear model on word or character counts?

    How: a feature adds its weight times its value (count, tf-idf, hash); what it adds is shared by the places where it stands in the text, and there by their characters;
    a word gets what its characters get. n-grams of words and characters, stop words, lower case, accents and several vectorizers side by side are followed.
    Units: the decision function (log-odds of a logistic regression, log joint probability of naive Bayes); values and the base, which is the bias, sum to it exactly.
    Misleads when: terms are long: what "not bad" adds is shared by both words, though neither adds it alone; tf-idf's norm makes each word's share depend on all others.
    Source: the sum that the model is; TeamHG-Memex 2016, ELI5 (highlighting of texts).
    """

    card = Card(title="Linear model of a text", paper="https://eli5.readthedocs.io", needs=Needs.TOKENS, promises=Promise.COMPLETE | Promise.LINEAR, cost="1 forward row")

    def attribute(self, q: Question) -> Values:
        model, reads = vectorized(q, WHO), q.model.function  # type: ignore[attr-defined]
        target, texts = q.resolved_target(), [reads.texts[i] for i in q.x["row"].tolist()]
        values, base, total = torch.zeros_like(q.point, dtype=torch.float64), list[float](), list[float]()
        own = model.features(texts)
        for i, text in enumerate(texts):
            output = _output(of_row(target, i))
            weights, bias = model.margin(output)
            chars, rest = model.characters(text, output)
            for j, (a, b) in enumerate(reads.spans[int(q.x["row"][i])]):
                values[i, j] = float(chars[a:b].sum())
            whole = float(own[i].dot(weights)[0]) + bias
            if not np.isclose(whole, chars.sum() + rest + bias, rtol=1e-9, atol=1e-9):
                raise CannotComplete(f"{WHO} found terms of row {i} that add up to {chars.sum() + rest + bias:.6g}, where the model says {whole:.6g}. This is a fault of the method.")
            base.append(whole - float(values[i].sum()))
            total.append(whole)
        bases, totals = (torch.tensor(v, dtype=torch.float64) for v in (base, total))
        return Values(values, base=bases, total=totals, notes=("the values are in units of the decision function; the base is the bias",))


def _output(target: object) -> int:
    if isinstance(target, Output):
        return 0
    if isinstance(target, (Label, Probability)) and isinstance(target.index, int):
        return target.index
    raise NotApplicable(f"{WHO} explains one class, or the output of a regression; got {type(target).__name__}. Take target=0, or a class's name.")
