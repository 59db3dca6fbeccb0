"""Activations: what the place holds."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each


@dataclass(frozen=True, kw_only=True)
class Activations(Method):
    """What does this layer hold for this input?

    How: the layer's value as it is, and at the input the input itself; no gradient is asked.
    Units: those of the layer; the values sum to nothing in particular.
    Misleads when: it is read as an explanation: what is large need not matter, and the target plays no part. Input x gradient
    at the same layer weighs each activation by what it does to the target.
    Source: Zeiler, Fergus 2013, arXiv:1311.2901, section 4, shows them for the layers of a network.
    """

    card = Card(title="Activations", gives="hidden semantics", paper="arXiv:1311.2901", needs=Needs.VALUE, promises=Promise.NONE, cost="2 forward rows")

    def attribute(self, q: Question) -> Values:
        return Values(each(torch.clone, q.point))
