"""Input x gradient: the gradient weighted by the input."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Method):
    """How much does each part contribute, if the model were as linear as it looks from here?

    How: z * df/dz; with `against_baseline`, (z - baseline) * df/dz.
    Units: target units; the sum equals f(z) - f(baseline) only for linear models.
    Misleads when: the model is far from linear: the share of the sum that is missing is the completeness gap of one step.
    Source: Shrikumar, Greenside, Shcherbina, Kundaje 2016, arXiv:1605.01713.
    """

    card = Card(title="Input x gradient", paper="arXiv:1605.01713", needs=Needs.GRADIENT,
                promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT, cost="1 forward and 1 backward row", baseline=True)
    against_baseline: bool = param(False, "multiply by the difference to the baseline instead of the input")

    def attribute(self, q: Question) -> Values:
        g = q.grad()
        z = each(torch.sub, q.point, q.start) if self.against_baseline else q.point
        return Values(each(torch.mul, z, g))
