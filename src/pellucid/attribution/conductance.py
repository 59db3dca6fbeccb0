"""Conductance: what of an integrated gradient flows through each unit of a layer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.target import Neuron
from ..core.tree import Tree, each, leaves
from ._along import along, is_start
from ._quadrature import Placement, gauss_legendre
from .integrated_gradients import IntegratedGradients, _distance

PROBES = 32
"""Values of the target along the path, by which the cells of auto are placed."""
FIRST = 30
"""Cells of auto's first round."""
MARGIN = 1.5
"""More cells than the error asks for where it falls with their number, as it does on paths with kinks."""
APART = 1.3
"""How much further every other node lies from all nodes than those from the truth: 1.1 to 1.7 on photographs, 1.6 to 3 on small and smooth networks."""


@dataclass(frozen=True, kw_only=True)
class Conductance(Method):
    """How much of the answer came through each unit of this layer, as the input came into being?

    How: the integral of df/dh dh over the straight path of the *input* from the baseline; h is the layer's value. At the input
    it is integrated gradients; `through` asks there for the part that flows through one neuron.
    The trapezoid rule takes value and gradient of h from one pass a node. A fixed number of cells is even; auto's lie where
    the target changes.
    Units: target units; over a layer that all ways to the target pass, the values sum to f(x) - f(baseline). The result's note tells
    which part of that sum the layer carries. Integrated gradients at a layer differ: their path is straight in the layer.
    Misleads when: units rise and fall along the path and their parts cancel, or the baseline is not neutral.
    Source: Dhamdhere, Sundararajan, Yan 2018, arXiv:1805.12233, equations 2 and 3.
    """

    card = Card(title="Conductance", paper="arXiv:1805.12233", needs=Needs.GRADIENT,
                promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT, baseline=True,
                cost="at a layer: steps + 1 rows forward and backward; auto 33 probes and 31 to about 900 nodes, 400 to 500 on photos; at the input as integrated gradients")
    steps: int | str = param("auto", 'cells of the path, or "auto"', ge=1, le=100_000, unit="gradient rows", choices=("auto",))
    tol: float = param(0.08, "error of the map at which auto stops", ge=0, unit="relative L2")
    most: int = param(540, "cells at which auto gives up refining", ge=30, unit="gradient rows")
    through: Any = param(None, "at the input: only what flows through this neuron, a Neuron or (layer, index)")

    def attribute(self, q: Question) -> Values:
        if self.through is not None:
            return self._through(q)
        if is_start(q):
            return IntegratedGradients(steps=self.steps, tol=self.tol).attribute(q)
        source = q.source()
        found = self._refined(q, source) if self.steps == "auto" else self._at_layer(q, torch.linspace(0, 1, int(self.steps) + 1, dtype=torch.float64)[:, None])
        return found.values(self.tol, q.target_values() - source.value(source.path(torch.zeros(1)))[0])

    def _refined(self, q: Question, source: Question) -> "_Map":
        """Cells of equal change of the target; rows whose map still moves get the number that their error asks for."""
        probes = source.value(source.path(torch.linspace(0, 1, PROBES + 1, dtype=torch.float64))).cpu()
        nodes = lambda rows, n: Placement(probes[:, rows]).at(torch.linspace(0, 1, n + 1, dtype=torch.float64))  # noqa: E731
        found = self._at_layer(q, nodes(torch.arange(q.size), FIRST))
        while len(rows := ((found.error > self.tol) & (found.cells < self.most)).nonzero()[:, 0]):
            asked = 10 * (found.cells * found.error / self.tol * MARGIN / 10).ceil()
            asked = asked.clamp(max=self.most).long().maximum((4 * found.cells // 3).clamp(max=self.most))[rows]
            for n in asked.unique().tolist():
                mine = rows[asked == n]
                found.replace(mine, self._at_layer(q.take(mine), nodes(mine, n)))
        return found

    def _at_layer(self, q: Question, t: Tensor) -> "_Map":
        """The trapezoid rule on nodes `t`, (n + 1, B) or (n + 1, 1), and on every other one of them."""
        whole, half, done, n = _Trapezoids(), _Trapezoids(), 0, len(t) - 1
        for block in along(q, t.expand(-1, q.size), "Conductance"):
            k = torch.arange(done, done + len(block.values[0]))
            coarse = ((k % 2 == 0) | (k == n)).to(block.values[0].device)
            whole.add(block.values, block.slopes)
            half.add([h[coarse] for h in block.values], [g[coarse] for g in block.slopes])
            done += len(k)
        like = leaves(q.point)
        maps = [q.pack([v.to(p.dtype) for v, p in zip(m.sums, like, strict=True)]) for m in (whole, half)]
        return _Map(maps[0], maps[1], n)

    def _through(self, q: Question) -> Values:
        """(x - baseline) times the mean of df/dh dh/dx along the path, for one unit h: first its df/dh at all nodes, then the weighted sum of dh/dx."""
        if not is_start(q):
            raise UsageError(f"Conductance through a neuron is told at the input; got at={q.at!r}. Leave out at=, or leave out through= for all units of that layer.")
        unit = self.through if isinstance(self.through, Neuron) else _neuron(self.through)
        rule = gauss_legendre(50 if self.steps == "auto" else int(self.steps), q.size)
        index = unit.index if isinstance(unit.index, tuple) else (unit.index,)
        outer = torch.cat([_at(block.slopes[0], index) for block in along(q.at_layer(unit.layer), rule.nodes, "Conductance through a neuron")])
        inner = q.about(unit).grad(q.path(rule.nodes), weights=rule.weights * outer.double().cpu())
        span = each(torch.sub, q.point, q.start)
        whole, half = (each(lambda s, t, i=i: s * t[i], span, inner) for i in (0, 1))
        return Values(whole, convergence=agreement(whole, half) if len(rule.nodes) > 1 else None, notes=(f"{len(rule.nodes)} gauss-legendre nodes, through {unit.text(None)}",))


def _neuron(given: Any) -> Neuron:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise UsageError(f"Conductance needs through as a pel.Neuron or (layer, index); got {given!r}.")
    layer, index = given
    return Neuron(layer, tuple(index) if isinstance(index, list) else index)


def _at(values: Tensor, index: tuple[int, ...]) -> Tensor:
    """(n, B) of (n, B, ...): one position of every row."""
    for i in index:
        values = values.select(2, i)
    return values


class _Trapezoids:
    """The sum of mean gradients times changes of value between neighbouring nodes, which come in blocks."""

    def __init__(self) -> None:
        self.sums, self.last = list[Tensor](), list[tuple[Tensor, Tensor]]()

    def add(self, values: list[Tensor], slopes: list[Tensor]) -> None:
        """The next (n, B, ...) values and gradients."""
        ends = [(h[-1:], g[-1:]) for h, g in zip(values, slopes, strict=True)] if len(values[0]) else self.last
        if self.last:
            values = [torch.cat([a, h]) for (a, _), h in zip(self.last, values, strict=True)]
            slopes = [torch.cat([b, g]) for (_, b), g in zip(self.last, slopes, strict=True)]
        wide = [(h.to(torch.promote_types(h.dtype, torch.float32)), g.to(torch.promote_types(g.dtype, torch.float32))) for h, g in zip(values, slopes, strict=True)]
        new = [((g[1:] + g[:-1]) / 2 * h.diff(dim=0)).sum(0) for h, g in wide]
        self.sums, self.last = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else new, ends


class _Map:
    """A map and the map from every other node, of rows that were settled with different numbers of cells."""

    def __init__(self, whole: Tree, half: Tree, cells: int) -> None:
        self.whole, self.half = whole, half
        self.error = _distance(whole, half) / APART
        self.cells = torch.full((len(self.error),), cells)

    def replace(self, rows: Tensor, new: "_Map") -> None:
        """Those rows anew."""
        for old, fresh in ((self.whole, new.whole), (self.half, new.half), (self.error, new.error), (self.cells, new.cells)):
            each(lambda t, p: t.index_copy_(0, rows.to(t.device), p), old, fresh)

    def values(self, tol: float, change: Tensor) -> Values:
        """The map, and which part of the target's change it holds."""
        carried = sum(t.double().flatten(1).sum(1) for t in leaves(self.whole)) / change.double()
        cells = "-".join(str(n) for n in sorted({int(self.cells.min()), int(self.cells.max())}))
        short = "" if (self.error <= tol).all() else f"; {int((self.error > tol).sum())} of {len(self.error)} rows stopped above tol {tol:g}"
        note = f"{cells} cells of the input's path; estimated error of the map {float(self.error.max()):.3f}{short}"
        carry = f"the layer carries {100 * float(carried.median()):.0f}% of f(x) - f(baseline){' (median of the rows)' if len(carried) > 1 else ''}"
        return Values(self.whole, convergence=agreement(self.whole, self.half), notes=(note, carry))
