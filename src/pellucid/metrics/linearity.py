"""Linearity: is the map of a sum the sum of the maps?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.target import Custom, Label, PerRow, of_row
from ._mask_pool import generator
from ._near import flat
from ._subject import live
from ._told import told


@dataclass(frozen=True)
class Sum:
    """a times one output and b times another."""

    i: int
    j: int
    a: float
    b: float

    def __call__(self, out: Tensor) -> Tensor:
        return self.a * out[:, self.i] + self.b * out[:, self.j]


@dataclass(frozen=True, kw_only=True)
class Linearity(Metric):
    """Is the map of a weighted sum of two outputs the same sum of their maps?

    How: the method explains the target's output, another one, and a f + b g; |map of the sum - (a map of f + b map of g)| / |map of the sum|.
    Units: relative difference, Euclidean. Lower is better; 0 holds the axiom.
    Chance: about 1.4 for unrelated maps.
    Misleads when: taken for a fault: a ReLU on top, as in Grad-CAM, or absolute values break it on purpose.
    Source: Sundararajan, Taly and Yan, 2017, section 4.
    """

    card = Card(title="Map of a sum, sum of maps", paper="arXiv:1703.01365", better="lower", cost="two more explanations", random=True)
    weights: tuple[float, ...] = param((1.0, -0.5), "the factors a and b")

    def score(self, e: Explanation) -> Scores:
        """The relative difference, a row."""
        s = live(e)
        own, out = s.q.resolved_target(), s.q.own_outputs()
        mine = [of_row(own, i) for i in range(s.size)]
        if s.method is None or out.ndim != 2 or out.shape[1] < 2 or not all(isinstance(t, Label) and isinstance(t.index, int) for t in mine):
            raise NotApplicable("linearity adds two outputs up and runs the method on the sum; this explanation was made elsewhere, or is not about an output (Label).")
        first = [int(t.index) for t in mine]  # type: ignore[attr-defined]
        second = [(i + 1 + int(torch.randint(out.shape[1] - 1, (), generator=generator(s.q.seed, row, "linear")))) % out.shape[1] for i, row in zip(first, s.q.ids, strict=True)]
        a, b = self.weights
        other = flat(s.method(s.q.with_target(PerRow(tuple(map(Label, second))))).values)
        both = flat(s.method(s.q.with_target(PerRow(_sums(first, second, a, b)))).values)
        size = both.norm(dim=1)
        gap = (both - a * flat(e.values) - b * other).norm(dim=1)
        return told(torch.where(size > 0, gap / size.clamp_min(1e-300), torch.nan), "Relative difference between the map of a sum and the sum of the maps", "lower", "the map of the sum is empty")


def _sums(first: Sequence[int], second: Sequence[int], a: float, b: float) -> tuple[Custom, ...]:
    return tuple(Custom(Sum(i, j, a, b)) for i, j in zip(first, second, strict=True))
