"""FullGrad: the input's share and every bias's share of the answer, drawn where they arise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core._kept import vjp
from ..core._ledger import Ledger
from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.rules import Call, Rules
from ..core.tree import leaves
from ._layer import Grid, grid_of, picture_size, resized

HOMOGENEOUS = frozenset(["relu", "leaky_relu", "prelu", "abs"])
"""Activations without a bias of their own: the value is input times slope."""


@dataclass(frozen=True, kw_only=True)
class FullGrad(Method):
    """What do the input and every bias of the network add to the answer, and where?

    How: near the point a network is affine: f = x . df/dx + the sum over operations of b . df/db, where b is what an operation adds
    beyond its own slope: biases, the shifts of BatchNorm, the curvature of a smooth activation. Each term is a map; maps are enlarged
    to the picture and added. With aggregate="signed" the values of a row add up to f; what lies in no place is spread evenly.
    aggregate="paper" takes magnitudes, rescales each channel's map to [0, 1] and adds, as published: strong edges, no sum, no sign.
    Units: target units ("signed"); arbitrary ("paper").
    Misleads when: the shares of biases are taken for evidence in the picture: on networks with BatchNorm they hold nearly all of f.
    Source: Srinivas, Fleuret 2019, arXiv:1905.00780, equations 3 and 6.
    """

    card = Card(title="FullGrad", paper="arXiv:1905.00780", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    aggregate: str = param("signed", "how the maps are added", choices=("signed", "paper"))

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        size, paper = picture_size(q), self.aggregate == "paper"
        ruled = q.with_rules(Rules(pointwise=_metered, product=_metered, scale=_metered, softmax=_metered, fold=False, ledger=lambda rows: Maps(rows, size, paper)))
        g, h = leaves(ruled.grad()), leaves(ruled.point)
        grid = grid_of(tuple(h[0].shape[1:]), size) if len(h) == 1 else None
        if grid is None:
            raise NotApplicable(f"FullGrad draws a map and needs a picture, or a layer with a spatial grid; {q.at or 'the input'} has none. Use input-x-gradient or integrated-gradients.")
        share, terms = h[0] * g[0], ruled.absorbed()
        own, rest = grid.planes(share), _outside(share, grid)
        goal = (grid.height, grid.width)
        if rest is not None:
            terms["point", "tokens without a place"] = rest
        total = _psi(own, goal, paper) + sum(_enlarged(t, goal, paper) for t in terms.values())
        note = f"the input and {len(terms)} operations with a bias"
        if paper:
            return Values(total, notes=(note,), signed=False)
        f = ruled.target_values()
        gap = (total.flatten(1).sum(1) - f).abs().max() / f.abs().max().clamp(min=torch.finfo(f.dtype).tiny)
        kept = 1 - float((own.flatten(1).sum(1) / f).abs().mean())
        return Values(total, notes=(f"{note} add up to the answer (relative gap {float(gap):.0e}); biases hold {kept:.0%} of it",))


class Maps(Ledger):
    """Keeps where each operation absorbed relevance: (rows, h, w) maps, or (rows,) where it lies in no place."""

    def __init__(self, rows: int, size: tuple[int, int] | None, paper: bool) -> None:
        super().__init__(rows)
        self.size, self.paper = size, paper

    def constant(self, where: str, name: str, amount: Tensor, g: Tensor) -> None:
        self.map(where, name, amount * g)

    def lost(self, where: str, name: str, value: Tensor, g: Tensor, xs: Sequence[Tensor], given: Sequence[Tensor | None]) -> None:
        m = value * g
        for x, r in zip(xs, given, strict=True):
            if r is not None and x.shape == value.shape:
                m = m - x.detach() * r
            elif r is not None:
                self.map(where, name, -x.detach() * r)
        self.map(where, name, m)

    def map(self, where: str, name: str, m: Tensor) -> None:
        """Enters one bias term."""
        known = m.ndim > 0 and len(m) == self.rows
        grid = grid_of(tuple(m.shape[1:]), self.size) if known else None
        if grid is None:
            amount = m.flatten(1).sum(1) if known and m.ndim > 1 else m if known else (m.sum() / self.rows).expand(self.rows)
            self.enter(where, name, amount.abs() if self.paper else amount, known)
            return
        planes, rest = grid.planes(m), _outside(m, grid)
        key = f"{name} {grid.height} x {grid.width}"
        self.enter(where, key, _rescaled(planes).sum(1) if self.paper else planes.sum(1), True)
        if rest is not None and not self.paper:
            self.enter(where, f"{name} of tokens without a place", rest, True)


def _metered(c: Call) -> Tensor:
    """The operation's own gradient; what it does not hand on is entered as its bias."""
    xs = c.live()
    if c.name in HOMOGENEOUS:
        return c.native()
    at = [i for i, a in enumerate(c.args) if isinstance(a, Tensor) and a.requires_grad]
    if len(at) != len(xs):
        raise NotApplicable(f"FullGrad needs the operands of {c.name!r} one by one; in module {c.module!r} they come in a list. Use input-x-gradient.")

    def run(*zs: Tensor) -> Tensor:
        args = list(c.args)
        for i, z in zip(at, zs, strict=True):
            args[i] = z
        return c.f(*args, **c.kwargs)

    return c.keep(c.output(), lambda g: vjp(run, xs, g), *xs)


def _outside(m: Tensor, grid: Grid) -> Tensor | None:
    """(rows,) what class and register tokens hold."""
    return m[:, : grid.skip].flatten(1).sum(1) if grid.kind == "tokens" and grid.skip else None


def _rescaled(planes: Tensor) -> Tensor:
    """Magnitudes of each channel's map between 0 and 1."""
    a = planes.abs()
    low, high = a.amin((2, 3), keepdim=True), a.amax((2, 3), keepdim=True)
    return (a - low) / (high - low).clamp(min=torch.finfo(a.dtype).tiny)


def _psi(planes: Tensor, goal: tuple[int, int], paper: bool) -> Tensor:
    return _enlarged((_rescaled(planes) if paper else planes).sum(1), goal, paper)


def _enlarged(m: Tensor, goal: tuple[int, int], paper: bool) -> Tensor:
    """(B, 1, H, W) of a (B, h, w) map, its sum kept unless magnitudes are drawn; of (B,) numbers, spread evenly, or nothing in the paper's way."""
    if m.ndim == 1:
        flat = m.reshape(-1, 1, 1, 1).expand(-1, 1, *goal) / (goal[0] * goal[1])
        return torch.zeros_like(flat) if paper else flat
    big = resized(m[:, None], goal)
    if paper:
        return big
    big = big * (m.shape[1] * m.shape[2] / (goal[0] * goal[1]))
    short = m.flatten(1).sum(1) - big.flatten(1).sum(1)
    return big + short.reshape(-1, 1, 1, 1) / (goal[0] * goal[1])
