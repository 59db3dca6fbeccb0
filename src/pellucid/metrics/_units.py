"""A map cut into units that can be hidden: pixels, columns, positions, or the players of a masker."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.card import param
from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.points import Points
from ..core.procedure import Metric
from ..core.question import Question, Samples
from ..core.start import blur
from ..core.target import Label, Probability, Target, of_row, per_row
from ..core.tree import leaves
from ..modalities.maskers import masker_of
from ._mask_pool import generator
from ._subject import FEATURES, PICTURE, _grid

FILLS = ("auto", "baseline", "blur", "mean", "noise")
"""What hidden units hold; "auto" is a blur for pictures and the question's baseline elsewhere."""


@dataclass(frozen=True)
class Units:
    """Each row's units, what the map says of them, and how they are hidden.

    `labels` holds, a tensor of the point, the unit of every element: (1 or B, ...) integers that broadcast to the tensor, -1 for none.
    `present` says which units a row has, where rows have different numbers.
    """

    q: Question
    scores: Tensor
    labels: tuple[Tensor, ...]
    fill: tuple[Tensor, ...]
    present: Tensor | None = None
    picture: bool = False

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self.scores)

    @property
    def count(self) -> int:
        """The most units of any row."""
        return self.scores.shape[1]

    def counts(self) -> Tensor:
        """(B,) units a row."""
        return torch.full((self.size,), self.count) if self.present is None else self.present.sum(1)

    def points(self, n: int, hidden: Callable[[Tensor, Tensor], Tensor], fill: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None = None) -> Points:
        """`n` points a row; `hidden(s, rows)` says which units (k, P) are replaced, `fill(s, rows)` by what."""
        parts = leaves(self.q.point)

        def make(s: Tensor, rows: Tensor) -> Any:
            gone = hidden(s, rows)
            other = fill(s, rows) if fill else tuple(f[rows] for f in self.fill)
            return tuple(torch.where(self.spread(gone, i, rows).to(x.device), o, x[rows]) for i, (x, o) in enumerate(zip(parts, other, strict=True)))

        return Points(n, make)

    def spread(self, chosen: Tensor, part: int, rows: Tensor) -> Tensor:
        """(k, P) marks of units as marks of the elements of one tensor of the point."""
        lab = self.labels[part]
        if len(lab) == 1:
            flat = lab.flatten()
            own = chosen if len(flat) == chosen.shape[1] and bool((flat == torch.arange(len(flat))).all()) else chosen[:, flat.clamp(min=0)] & (flat >= 0)
            return own.reshape(len(chosen), *lab.shape[1:])
        flat = lab[rows].flatten(1)
        return (chosen.gather(1, flat.clamp(min=0)) & (flat >= 0)).reshape(len(chosen), *lab.shape[1:])

    def values(self, n: int, hidden: Callable[[Tensor, Tensor], Tensor], fill: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None = None) -> Tensor:
        """(n, B) double-precision answers with units hidden."""
        return self.q.value(self.points(n, hidden, fill)).double().cpu()

    def whole(self) -> Tensor:
        """(B,) answers with nothing hidden."""
        return self.q.target_values().double().cpu()

    def empty(self) -> Tensor:
        """(B,) answers with everything hidden."""
        return self.values(1, lambda s, rows: torch.ones(len(s), self.count, dtype=torch.bool))[0]


@dataclass(frozen=True, kw_only=True)
class Hiding(Metric):
    """What every measure takes that hides units and reads the answer."""

    fill: str = param("auto", "what hidden parts hold; auto: a blur for pictures, else the question's baseline", choices=("auto", "baseline", "blur", "mean", "noise"))
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))
    masker: Any = param(None, "units to hide, as for game methods; None: pixels, columns, positions")

    def units(self, e: Explanation) -> Units:
        """The map's units, and how they are hidden."""
        return units(e, self.fill, self.masker, self.answer)


def units(e: Explanation, fill: str = "auto", masker: Any = None, answer: str = "target", mean: bool = False) -> Units:
    """The units of an explanation: those of a masker, else pixels of pictures, positions of sequences, columns of tables.

    A masker's unit holds the sum of the map over its elements, or their mean.
    """
    q = e.question.fresh()
    grid = _grid(q, e)
    if grid.kind == PICTURE and q.places:
        q = q.at_layer(None)
    q = _answering(q, answer)
    parts = tuple(leaves(q.point))
    maps = elements(e, parts)
    if masker is not None:
        return _masked(q, maps, parts, masker, fill, mean)
    labels, first = [], 0
    for p in parts:
        shape = _free(p, grid)
        labels.append((first + torch.arange(_product(shape))).reshape(1, *shape))
        first += _product(shape)
    scores = [_gathered(m, lab) for m, lab in zip(maps, labels, strict=True)]
    return Units(q, torch.cat(scores, 1), tuple(labels), fills(q, parts, fill), picture=grid.kind == PICTURE)


def _free(p: Tensor, grid: Any) -> tuple[int, ...]:
    """The axes of one row along which units lie; the others belong to one unit together."""
    if p.ndim == 4:
        return (1, *p.shape[2:])
    if p.ndim == 3 and grid.kind == FEATURES:
        return (p.shape[1], 1) if grid.axis == 1 else (1, p.shape[2])
    return tuple(p.shape[1:])


def _product(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _gathered(m: Tensor, lab: Tensor) -> Tensor:
    """(B, P) sums of a map over the axes that units share."""
    shared = [i for i in range(1, m.ndim) if lab.shape[i] == 1 and m.shape[i] > 1]
    return (m.sum(shared, keepdim=True) if shared else m).flatten(1)


def elements(e: Explanation, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The map as double-precision values shaped like the point; a coarse picture is blown up bilinearly and shared evenly by channels."""
    values = [v.detach().cpu().double() for v in leaves(e.values)]
    if len(values) == len(parts) and all(v.shape == p.shape for v, p in zip(values, parts, strict=True)):
        return tuple(values)
    if len(values) == len(parts) == 1 and values[0].ndim == parts[0].ndim == 4:
        v, p = values[0], parts[0]
        heat = v.sum(1, keepdim=True)
        if heat.shape[2:] != p.shape[2:]:
            heat = F.interpolate(heat, size=p.shape[2:], mode="bilinear", align_corners=False)
        return ((heat / p.shape[1]).expand(p.shape),)
    got, want = [tuple(v.shape) for v in values], [tuple(p.shape) for p in parts]
    raise NotApplicable(f"Hiding parts needs a map on the input's own grid; this one has values {got} for inputs {want}.")


def fills(q: Question, parts: tuple[Tensor, ...], fill: str) -> tuple[Tensor, ...]:
    """What hidden units hold, shaped like the point."""
    if fill == "auto":
        fill = "blur" if parts[0].ndim == 4 and len(parts) == 1 else "baseline"
    if fill == "baseline":
        if isinstance(q.baseline, Samples):
            return tuple(s.to(p).mean(0, keepdim=True).expand_as(p) for s, p in zip(q.baseline.parts, parts, strict=True))
        return tuple(t.expand_as(p) for t, p in zip(leaves(q.start), parts, strict=True))
    if fill == "noise":
        return tuple(_noise(p, q) for p in parts)
    if fill == "blur" and any(p.ndim != 4 for p in parts):
        raise UsageError('fill="blur" needs pictures of shape (rows, channels, height, width). Use "baseline", "mean" or "noise".')
    return tuple(blur(p) if fill == "blur" else p.mean(tuple(range(2, p.ndim)) or (1,), keepdim=True).expand_as(p) for p in parts)


def _noise(p: Tensor, q: Question) -> Tensor:
    """Uniform noise over each row's range, drawn by the row's name."""
    u = torch.stack([torch.rand(p.shape[1:], generator=generator(q.seed, row, "fill")) for row in q.ids]).to(p)
    low, high = (f(p.flatten(1), 1).reshape(-1, *[1] * (p.ndim - 1)) for f in (torch.amin, torch.amax))
    return low + (high - low) * u


def _masked(q: Question, maps: tuple[Tensor, ...], parts: tuple[Tensor, ...], masker: Any, fill: str, mean: bool) -> Units:
    board = masker_of(masker, q).board(q)
    if board.labels is None or len(parts) != 1:
        raise NotApplicable("A masker of this metric needs to say which part each element belongs to, of one input.")
    lab = board.labels.cpu().expand(parts[0].shape).flatten(1)
    count = board.players
    total, n = (torch.zeros(q.size, count + 1, dtype=torch.float64) for _ in range(2))
    put = torch.where(lab < 0, count, lab)
    total.scatter_add_(1, put, maps[0].flatten(1))
    n.scatter_add_(1, put, torch.ones_like(maps[0].flatten(1)))
    scores = (total / n.clamp(min=1) if mean else total)[:, :count]
    present = torch.stack([torch.arange(count) < len(names) for names in board.names])
    fixed = lab.reshape(parts[0].shape)
    return Units(q, scores, (fixed,), fills(q, parts, fill), None if bool(present.all()) else present, parts[0].ndim == 4)


def _answering(q: Question, answer: str) -> Question:
    """The question in its own terms, or about the probability of the class it names."""
    if answer == "target":
        return q
    target = q.resolved_target()
    return q.with_target(per_row([_probability(of_row(target, i)) for i in range(q.size)]))


def _probability(t: Target) -> Target:
    if isinstance(t, Label) and isinstance(t.index, int):
        return Probability(t.index)
    if isinstance(t, Probability):
        return t
    raise NotApplicable('answer="probability" needs a question about a class; ask pel.explain with a class as target, or leave answer="target".')

def drawn(q: Question, s: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """Uniform numbers over each row's range, by sample and row."""
    out = []
    for p, noise in zip(leaves(q.point), leaves(q.noise(s, rows)), strict=True):
        flat, shape = p[rows].flatten(1), (-1, *[1] * (p.ndim - 1))
        low, high = flat.amin(1).reshape(shape), flat.amax(1).reshape(shape)
        out.append(low + (high - low) * torch.special.ndtr(noise))
    return tuple(out)
