"""Perceptual ball: the smallest change of the input that turns the answer and hardly moves what the layers in between say."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable, UsageError
from ..core.model import LayerInfo
from ..core.places import Place
from ..core.procedure import Method, Values
from ..core.question import Question, as_places
from ..core.target import Label, Target, of_row
from ..core.tree import Tree, leaves
from ._masks import descended
from ._path import wide

AUTO = 4
"""Layers that are watched where none are named."""

SAME = ("Pad", "Identity", "Dropout", "Flatten")
"""Kinds of layers that say what the layer before them said."""


@dataclass(frozen=True, kw_only=True)
class PerceptualBall(Method):
    """Which parts must change for the answer to turn, if what the network sees inside may hardly change?

    How: x' starts at the point and goes downhill on (what is left to fall)^2 + closeness * |x' - x|^2 / var(x) + ball * mean over layers of
    |h(x') - h(x)|^2 / |h(x)|^2. For a class, its lead over the best other class is to fall to -margin (or by margin, where it is there already); any
    other target is to fall by its own size. What is left is a part of that fall. Steps are Adam's with one pace a row, so that x' moves where the gradient is.
    Units: |x' - x| in standard deviations of the row, an element each; sums compare within a row.
    Misleads when: the fall is not reached (the notes tell): then the map shows where it began. Without layers, or with a small `ball`, x' is an adversarial
    example, noise that no eye sees and that says little of the object.
    Source: Elliott, Law, Russell 2021, arXiv:1912.09405, equations 6 to 9. The paper: L-BFGS, weights 1e4 and 1 on plain squares, six layers of a VGG, the map
    is the root of the mean square over channels, blurred.
    """

    card = Card(title="Perceptual ball", paper="arXiv:1912.09405", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LOCAL,
                cost="steps times (1 + layers) forward and backward rows, those of a layer only as far as the layer", signed=False)
    steps: int = param(60, "steps downhill", ge=1, le=100_000, unit="gradient rows, and one more a layer")
    ball: float = param(10.0, "price of what changes inside", ge=0, le=1e9)
    closeness: float = param(1.0, "price of what changes outside", ge=0, le=1e9)
    margin: float = param(2.0, "how far the class is to fall behind another", ge=0, le=1e6, unit="the output's")
    through: Any = param("auto", "the layers that hardly change: names, or how many, spread evenly; auto: 4")
    rate: float = param(0.01, "step size, in standard deviations of the row", ge=1e-9, le=10)

    def attribute(self, q: Question) -> Values:
        with torch.inference_mode(False):
            parts = [wide(p) for p in leaves(q.point)]
            flat = torch.cat([p.flatten(1) for p in parts], 1).double()
            unit = flat.std(1, correction=0).clamp(min=1e-12)[:, None] if flat.shape[1] > 1 else flat.abs().clamp(min=1e-12)
            fall = _Fall.of(q, self.margin)
            near = self._watched(q)

            def placed(d: Tensor) -> Tree:
                pieces = (flat + d[0] * unit).split([p[0].numel() for p in parts], 1)
                return q.pack([t.reshape(p.shape).to(o.dtype) for t, p, o in zip(pieces, parts, leaves(q.point), strict=True)])

            def slope(of: Question, z: Tree) -> Tensor:
                return torch.cat([g.flatten(1).double() for g in leaves(of.grad(z))], 1) * unit

            def loss(d: Tensor, step: int) -> Tensor:
                z = placed(d.detach())
                g = slope(q.about(fall), z) + self.ball / max(1, len(near)) * sum(slope(n, z) for n in near)
                return (d[0] * g).sum() + self.closeness * d.square().mean(2).sum()

            found = descended(torch.zeros_like(flat)[None], self.steps, self.rate, loss, -math.inf, math.inf, level=True)
            whole, half = (self._map(q, f, parts) for f in (found.final, found.half))
            left = q.about(fall).value(placed(found.final)).double().sqrt()
            inside = ", ".join(str(n.resolved_target().reads) for n in near) or "no layer"
            note = f"{float(left.min()):.0%} to {float(left.max()):.0%} of the fall are left; {inside} held"
            return Values(whole, convergence=agreement(whole, half), notes=(note,))

    @staticmethod
    def _map(q: Question, d: Tensor, parts: list[Tensor]) -> Tree:
        pieces = d[0].abs().split([p[0].numel() for p in parts], 1)
        return q.pack([t.reshape(p.shape).to(o.dtype) for t, p, o in zip(pieces, parts, leaves(q.point), strict=True)])

    def _count(self) -> int:
        if self.through == "auto":
            return AUTO
        if not isinstance(self.through, int) or isinstance(self.through, bool) or self.through < 0:
            raise UsageError(f"PerceptualBall needs through as names of layers or how many of them, 0 or more; got {self.through!r}.")
        return self.through

    def _watched(self, q: Question) -> list[Question]:
        """The question of each layer's distance from what it says at the point; layers that the point does not reach are left out."""
        named = isinstance(self.through, (tuple, list)) or isinstance(self.through, str) and self.through != "auto"
        if named:
            places = list(as_places([self.through] if isinstance(self.through, str) else list(self.through), q.model))
        else:
            places = [Place(i.name) for i in _between(q, self._count())]
        found = []
        for place in places:
            asked = q.about(_Near(place, leaves(q.at_layer(place).point)[0]))
            try:
                asked.grad(q.point)
            except NotApplicable:
                if named:
                    raise
                continue
            found.append(asked)
        return found


def _between(q: Question, count: int) -> list[LayerInfo]:
    """`count` layers spread evenly over those that lie after the question's place and before what the target reads."""
    layers = q.model.layers(q.x)
    names = [i.name for i in layers]
    first = max((names.index(p.layer) for p in q.places), default=-1) + 1
    last = names.index(q.engine.read.layer) if q.engine.read is not None else len(names)
    inner = [i for k, i in enumerate(layers) if first <= k < last and i.calls == 1 and i.parts == 1 and i.shape and not any(n.startswith(i.name + ".") for n in names)]
    inner = [i for i in inner if not any(word in i.kind for word in SAME)]
    inner = inner if q.engine.read is not None else inner[:-1]
    if len(inner) <= count:
        return inner
    return [inner[round((k + 1) * len(inner) / (count + 1))] for k in range(count)]


@dataclass(frozen=True, eq=False)
class _Near(Target):
    """How far a layer's value is from what it was, squared, as a part of its own square."""

    layer: Place
    before: Tensor

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        h = wide(self.before[rows.to(self.before.device)]).flatten(1)
        return (wide(out).flatten(1) - h).square().mean(1) / h.square().mean(1).clamp(min=1e-12)


@dataclass(frozen=True, eq=False)
class _Fall(Target):
    """What is left of a target's fall, squared: 1 at the start, 0 where it has fallen far enough."""

    inner: Target
    goal: Tensor
    span: Tensor

    @classmethod
    def of(cls, q: Question, margin: float) -> "_Fall":
        """A class is to fall `margin` behind another, all else by its own size."""
        target = q.resolved_target()
        y = _Lead(target).read(q.own_outputs(), torch.arange(q.size)).detach().double()
        leads = _is_class(target, q.own_outputs())
        goal = torch.minimum(torch.full_like(y, -margin), y - margin) if leads else y - y.abs().clamp(min=1e-6)
        return cls(_Lead(target), goal, (y - goal).clamp(min=1e-12))

    @property
    def reads(self) -> str | Place | None:
        return self.inner.reads

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        y = wide(self.inner.read(out, rows))
        goal, span = (t[rows.to(t.device)].to(y) for t in (self.goal, self.span))
        return ((y - goal) / span).relu().square()


@dataclass(frozen=True)
class _Lead(Target):
    """A class's lead over the best other one; any other target as it is."""

    inner: Target

    @property
    def reads(self) -> str | Place | None:
        return self.inner.reads

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        if not _is_class(self.inner, out):
            return self.inner.read(out, rows)
        mine = torch.tensor([of_row(self.inner, i).index for i in rows.tolist()], device=out.device)[:, None]  # type: ignore[attr-defined]
        others = out.scatter(1, mine, -torch.inf).amax(1)
        return out.gather(1, mine)[:, 0] - others


def _is_class(target: Target, out: Tensor) -> bool:
    every = getattr(target, "targets", (target,))
    return out.ndim == 2 and out.shape[1] > 1 and all(type(t) is Label and isinstance(t.index, int) for t in every)
