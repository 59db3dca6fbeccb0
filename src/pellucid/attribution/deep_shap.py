"""DeepSHAP: DeepLIFT against many baselines."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.points import Points
from ..core.procedure import Method, Values, sum_of
from ..core.question import Question, Samples
from ..core.rules import Rules
from ..core.tree import Tree, is_float, leaves
from ._reveal_cancel import reveal_cancel
from ._secant import RESCALE

HELD = 2**26
"""Bytes of baselines, at the place that is explained, that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class DeepSHAP(Method):
    """How much does each part contribute to what sets this input apart from a whole set of baselines?

    How: the mean of DeepLIFT's values over the baselines of `pel.Samples`, each with its standard error.
    Units: target units; a row's values sum to f(z) less the mean of f over the baselines, whatever the network. For a linear
    model they are w (z - mean of the baselines), the Shapley values.
    Misleads when: the baselines are no inputs like those the model knows, or too few: the standard error takes them for a draw
    from many. Shapley values only where the network is linear between baseline and point.
    Source: Lundberg, Lee 2017, arXiv:1705.07874, section 4.2; Chen, Lundberg, Lee 2021, arXiv:1911.11888.
    """

    card = Card(title="DeepSHAP", paper="arXiv:1705.07874", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.COMPLETE | Promise.LOCAL,
                cost="a baseline 2 forward rows and 1 backward row, one more forward at a layer", baseline=True, samples=True)
    rule: str = param("rescale", "what nonlinear operations hand back: one slope, or one for what raises and one for what lowers them", choices=("rescale", "reveal-cancel"))

    def attribute(self, q: Question) -> Values:
        local: set[str] = set()
        rules = RESCALE if self.rule == "rescale" else reveal_cancel(local)
        q.resolved_target()
        sums, there = _Sums(leaves(q.point)), list[Tensor]()
        for start in _starts(q):
            against = _Against(leaves(q.point), start)
            against.add(q, rules, sums)
            there.append(q.value(against.points()))
        values, error = q.pack(sums.mean()), q.pack(sums.error()) if sums.n > 1 else None
        notes = _told(q, values, torch.cat(there)) if isinstance(q.baseline, Samples) else ()
        if local:
            notes += (f"positive and negative parts were not known everywhere: the difference was split by its sign at {', '.join(sorted(local))}",)
        return Values(values, error=error, notes=notes)


def _told(q: Question, values: Tree, there: Tensor) -> tuple[str, ...]:
    gap = sum_of(values) - (q.target_values() - there.mean(0))
    return (f"averaged over {len(there)} baselines; the values miss f less the baselines' mean, {float(there.mean()):.4g}, by {float(gap.abs().max()):.1e} at most",)


def _starts(q: Question) -> Iterator[list[Tensor]]:
    """Baselines at the place, (n, 1 or B, ...), as many as are held at once."""
    if not isinstance(q.baseline, Samples):
        yield [t[None] for t in leaves(q.start)]
        return
    alike = all(is_float(t) for t in leaves(q.x) if isinstance(t, Tensor) and t.ndim)  # nothing of a row is left once the baseline is in its place
    rows = torch.zeros(1, dtype=torch.long) if alike else torch.arange(q.size)
    many = max(1, HELD // max(1, sum(t[rows].numel() * t.element_size() for t in leaves(q.point))))
    for first in range(0, q.baseline.n, many):
        which = torch.arange(first, min(first + many, q.baseline.n))
        asked, spread = rows.repeat(len(which)), which.repeat_interleave(len(rows))
        held = q.take(asked).with_baseline(tuple(p[spread] for p in q.baseline.parts)).start
        yield [t.reshape(len(which), len(rows), *t.shape[1:]) for t in leaves(held)]


class _Against:
    """All pairs of a row and a baseline; the chunk that is worked on makes its own."""

    def __init__(self, point: list[Tensor], start: list[Tensor]) -> None:
        self.point, self.start = point, start

    def points(self) -> Points:
        """The baselines."""
        return Points(len(self.start[0]), lambda s, rows: tuple(t[s, rows if t.shape[1] > 1 else 0] for t in self.start))

    def add(self, q: Question, rules: Rules, sums: "_Sums") -> None:
        """Streams the values of every pair into the sums."""
        here = Points(len(self.start[0]), lambda s, rows: tuple(t[rows] for t in self.point))
        baselines = self.points()

        def fold(g: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> None:
            ends = zip(here.make(s, rows), baselines.make(s, rows), g, strict=True)
            sums.add([(z - z0) * m for z, z0, m in ends], rows)

        q.with_rules(rules, baselines).stream(here, fold)
        sums.n += baselines.n


class _Sums:
    """Sums and sums of squares for each row, in double precision, of values that come in any order."""

    def __init__(self, like: list[Tensor]) -> None:
        self.n, self.like = 0, like
        self.first, self.second = list[Tensor](), list[Tensor]()

    def add(self, values: list[Tensor], rows: Tensor) -> None:
        if not self.first:
            self.first, self.second = ([torch.zeros(t.shape, dtype=torch.float64, device=t.device) for t in self.like] for _ in range(2))
        for one, two, v in zip(self.first, self.second, values, strict=True):
            at, wide = rows.to(v.device), v.double()
            one.index_add_(0, at, wide)
            two.index_add_(0, at, wide.square_())

    def mean(self) -> list[Tensor]:
        return [(t / self.n).to(p.dtype) for t, p in zip(self.first, self.like, strict=True)]

    def error(self) -> list[Tensor]:
        """The standard error of the mean."""
        n, both = self.n, zip(self.first, self.second, self.like, strict=True)
        return [((b - a.square() / n).clamp(min=0) / (n - 1) / n).sqrt().to(p.dtype) for a, b, p in both]
