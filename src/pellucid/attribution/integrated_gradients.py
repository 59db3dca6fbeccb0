"""Integrated gradients: the gradient averaged along a straight path from a baseline."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import Tree, each, leaves
from ._quadrature import Ladder, Placement, Rule, gauss_legendre, kronrod, midpoint, smooth

PROBES = 40
FIRST = 20
"""Cells of the first round; a refinement splits each in three."""
APART = 1.75
"""How many times its own error a map lies from the map of every other node: 1.6 to 2.2 on photos, from 18 to 162 nodes."""


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Method):
    """How much did each part add to the answer on the way from nothing to this input?

    How: (z - z0) times the mean of df/dz over the straight path from the baseline z0 to z.
    With steps="auto", forward probes along the path tell where the target changes and whether it does so smoothly:
    smooth rows get 21 Gauss-Kronrod nodes, others get nodes where the change is, refined until the estimated error of
    the map is below `tol`. The completeness gap is reported and stops nothing: on networks with shattered gradients a
    small gap is luck.
    Units: target units; a row's values sum to f(z) - f(z0).
    Misleads when: the baseline is itself a meaningful input, or the path runs where the model was never trained.
    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equation 1.
    """

    card = Card(title="Integrated gradients", paper="arXiv:1703.01365", needs=Needs.GRADIENT, baseline=True,
                promises=Promise.COMPLETE | Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
                cost="steps forward and backward rows; auto: 41 probes and 20 to 540 nodes, 60 on most photos")
    steps: int | str = param("auto", 'nodes on the path, or "auto"', ge=1, le=100_000, unit="gradient rows", choices=("auto",))
    rule: str = param("gauss-legendre", "where a fixed number of nodes lies", choices=("gauss-legendre", "midpoint"))
    tol: float = param(0.08, "error of the map at which auto stops", ge=0, unit="relative L2")
    most: int = param(540, "nodes at which auto gives up refining", ge=20, unit="gradient rows")

    def attribute(self, q: Question) -> Values:
        return self._auto(q) if self.steps == "auto" else self._fixed(q)

    def _fixed(self, q: Question) -> Values:
        rule = (gauss_legendre if self.rule == "gauss-legendre" else midpoint)(int(self.steps), q.size)
        whole, half = _maps(q, rule)
        return Values(whole, convergence=agreement(whole, half) if int(self.steps) > 1 else None, notes=(f"{self.steps} {self.rule} nodes",))

    def _auto(self, q: Question) -> Values:
        probes = q.value(q.path(torch.linspace(0, 1, PROBES + 1, dtype=torch.float64))).cpu()
        plain = smooth(probes)
        found = _Found(q)
        if plain.any():
            rows = plain.nonzero()[:, 0]
            whole, half = _maps(_of(q, rows), kronrod(len(rows)))
            error = _distance(whole, half)
            found.keep(rows, whole, half, error, 21)
            plain[rows[error > self.tol]] = False
        if not plain.all():
            self._refine(q, found, (~plain).nonzero()[:, 0], probes)
        return found.values(self.tol)

    def _refine(self, q: Question, found: "_Found", rows: Tensor, probes: Tensor) -> None:
        """Cells of equal change, split in three until the map stands still."""
        part, sums = _of(q, rows), None
        ladder = Ladder(Placement(probes[:, rows]), FIRST, self.most)
        for r, n in enumerate(ladder.sizes):
            rule = ladder.round(r)
            new = part.grad(part.path(rule.nodes), weights=rule.weights)
            sums = new if sums is None else each(torch.add, sums, new)
            span = each(torch.sub, part.point, part.start)
            whole, half = (each(lambda s, t, i=i: s * t[i], span, sums) for i in (2 * r, 2 * r + 1))
            error = _error(whole, half)
            found.keep(rows, whole, half, error, n)
            more = (error > self.tol).nonzero()[:, 0]
            if not len(more):
                return
            rows, part = rows[more], _of(part, more)
            sums = each(lambda s, m=more: s[:, m], sums)
            ladder = Ladder(Placement(probes[:, rows]), FIRST, self.most)


def _of(q: Question, rows: Tensor) -> Question:
    """The question about those rows: itself, where they are all."""
    return q if len(rows) == q.size else q.take(rows)


def _maps(q: Question, rule: Rule) -> tuple[Tree, Tree]:
    """The map by a rule, and by the coarser rule on the same nodes."""
    g = q.grad(q.path(rule.nodes), weights=rule.weights)
    span = each(torch.sub, q.point, q.start)
    return each(lambda s, t: s * t[0], span, g), each(lambda s, t: s * t[1], span, g)


def _distance(whole: Tree, half: Tree) -> Tensor:
    """(B,) how far the coarser map lies from the map, relative to the map."""
    a, b = (torch.cat([t.double().flatten(1) for t in leaves(m)], 1) for m in (whole, half))
    return ((a - b).norm(dim=1) / a.norm(dim=1).clamp(min=1e-30)).cpu()


def _error(whole: Tree, half: Tree) -> Tensor:
    """(B,) the map's relative error, from what every other node alone would have given."""
    return _distance(whole, half) / APART


class _Found:
    """Maps of rows that were settled with different numbers of nodes."""

    def __init__(self, q: Question) -> None:
        self.map = each(torch.zeros_like, q.point)
        self.half = each(torch.zeros_like, q.point)
        self.error = torch.zeros(q.size, dtype=torch.float64)
        self.nodes = torch.zeros(q.size, dtype=torch.long)

    def keep(self, rows: Tensor, whole: Tree, half: Tree, error: Tensor, n: int) -> None:
        for total, part in ((self.map, whole), (self.half, half)):
            each(lambda t, p: t.index_copy_(0, rows.to(t.device), p), total, part)
        self.error[rows], self.nodes[rows] = error, n

    def values(self, tol: float) -> Values:
        rule = "Gauss-Kronrod nodes (smooth path)" if (self.nodes == 21).all() else "nodes placed where the target changes"
        spent = "-".join(str(int(n)) for n in sorted({int(self.nodes.min()), int(self.nodes.max())}))
        short = "" if (self.error <= tol).all() else f"; {int((self.error > tol).sum())} of {len(self.error)} rows stopped at the most nodes, above tol {tol:g}"
        return Values(self.map, convergence=agreement(self.map, self.half), notes=(f"{spent} {rule}; estimated error of the map {float(self.error.max()):.3f}{short}",))
