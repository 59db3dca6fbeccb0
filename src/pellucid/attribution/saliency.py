"""Saliency: the gradient of the target."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each


@dataclass(frozen=True, kw_only=True)
class Saliency(Method):
    """Where would a small change move the answer most?

    How: the derivative of the target with respect to the point, |df/dz| unless `absolute=False`.
    Units: target units for one unit of the input; the values sum to nothing in particular.
    Misleads when: the target is saturated (a flat spot says nothing of what brought it there), or gradients are shattered.
    Source: Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 3.
    """

    card = Card(title="Saliency", paper="arXiv:1312.6034", needs=Needs.GRADIENT,
                promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT, cost="1 forward and 1 backward row")
    absolute: bool = param(True, "give sizes, without signs")

    def attribute(self, q: Question) -> Values:
        g = q.grad()
        return Values(each(torch.abs, g) if self.absolute else g, signed=not self.absolute)
