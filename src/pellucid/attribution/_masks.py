"""Masks that are learnt: how they lie over a point, what the model sees behind them, and how they move downhill."""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import NotApplicable, UsageError
from ..core.places import Place
from ..core.points import Points
from ..core.question import Question
from ..core.rows import row_seed
from ..core.start import blur
from ..core.target import Target
from ..core.tree import Tree, leaves
from ..modalities.maskers import masker_of
from ._path import wide

Masks = list[Tensor]
"""A (K, B, ...) mask for each tensor of the point, a number for every position."""


@dataclass(frozen=True)
class Sheet:
    """One tensor of the point, `shape` a row: positions of a picture or a sequence share a number over all their channels, columns have one each."""

    shape: tuple[int, ...]

    @property
    def channel(self) -> int | None:
        """The axis of a row that shares a number."""
        return {0: None, 1: None, 2: 1}.get(len(self.shape), 0)

    @property
    def space(self) -> tuple[int, ...]:
        """The positions that have a number each."""
        return tuple(n for i, n in enumerate(self.shape) if i != self.channel)

    @property
    def picture(self) -> bool:
        """Whether the positions lie in a plane."""
        return len(self.shape) == 3

    def over(self, m: Tensor) -> Tensor:
        """(n, *space) as numbers that multiply (n, *shape)."""
        return m if self.channel is None else m.unsqueeze(1 + self.channel)

    def under(self, g: Tensor) -> Tensor:
        """(n, *shape) summed to (n, *space)."""
        return g if self.channel is None else g.sum(1 + self.channel)

    def spread(self, m: Tensor) -> Tensor:
        """(B, *space) shared out evenly over channels: the sum over them is the mask."""
        return (self.over(m) / (1 if self.channel is None else self.shape[self.channel])).expand(-1, *self.shape).contiguous()


@dataclass(frozen=True)
class Bounded(Target):
    """A target that counts no further than `low` and `high`, (B,) numbers: beyond them nothing is gained."""

    inner: Target
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def reads(self) -> str | Place | None:
        return self.inner.reads

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        y = self.inner.read(out, rows)
        low, high = (torch.tensor([b[i] for i in rows.tolist()], dtype=torch.float64).to(y) for b in (self.low, self.high))
        return torch.minimum(torch.maximum(y, low), high)


class Fade:
    """Between the point, where a mask is 1, and the baseline's value, where it is 0."""

    def __init__(self, q: Question) -> None:
        self.point, self.start = leaves(q.point), leaves(q.start)

    def shown(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        """What the model sees of the point's tensor `i` through (n, ...) numbers `m` that broadcast over it."""
        return torch.lerp(self.start[i][rows].to(m.dtype), self.point[i][rows].to(m.dtype), m)

    def slope(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        """How what is shown changes with the mask."""
        return (self.point[i][rows] - self.start[i][rows]).to(m.dtype)


LEVELS = 8


class Pyramid(Fade):
    """Between the picture, where a mask is 1, and its blur, where it is 0, through blurs in between; what is no picture fades to the baseline."""

    def __init__(self, q: Question) -> None:
        super().__init__(q)
        if not any(p.ndim == 4 for p in self.point):
            raise NotApplicable('A blur needs pictures (rows, channels, height, width); this point has none. Use perturbation="fade".')
        self.blurs = [torch.stack([_blurred(p, level / LEVELS) for level in range(LEVELS + 1)]) if p.ndim == 4 else None for p in self.point]

    def shown(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        blurs = self.blurs[i]
        if blurs is None:
            return super().shown(i, m, rows)
        sharp, soft, t = self._ends(blurs, m, rows)
        return torch.lerp(sharp, soft, t)

    def slope(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        blurs = self.blurs[i]
        if blurs is None:
            return super().slope(i, m, rows)
        sharp, soft, _ = self._ends(blurs, m, rows)
        return LEVELS * (sharp - soft)

    @staticmethod
    def _ends(blurs: Tensor, m: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The blurs above and below (n, 1, H, W) numbers, and how far between them those lie."""
        depth = LEVELS * (1 - m)
        level = depth.floor().clamp(max=LEVELS - 1)
        mine = blurs[:, rows].to(m.dtype)
        index = level.long().expand(-1, *blurs.shape[2:])[None]
        return mine.gather(0, index)[0], mine.gather(0, index + 1)[0], depth - level


def _blurred(p: Tensor, strength: float) -> Tensor:
    """Pictures under a Gaussian of up to 20 pixels of 224."""
    return blur(p, strength * 20 / 224 * min(p.shape[2:])) if strength else p


class Inpainted(Fade):
    """Between a picture, where a mask is 1, and what its visible pixels suggest, where it is 0. The suggestion is taken as given when the mask moves."""

    def __init__(self, q: Question) -> None:
        super().__init__(q)
        if not all(p.ndim == 4 for p in self.point):
            raise NotApplicable('Inpainting needs pictures (rows, channels, height, width); this point holds something else. Use infill="baseline" with baseline="mean" or another.')

    def shown(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        x = self.point[i][rows].to(m.dtype)
        return torch.lerp(filled(x, m, self.start[i][rows].to(m.dtype)), x, m)

    def slope(self, i: int, m: Tensor, rows: Tensor) -> Tensor:
        x = self.point[i][rows].to(m.dtype)
        return x - filled(x, m, self.start[i][rows].to(m.dtype))


def filled(x: Tensor, seen: Tensor, nothing: Tensor) -> Tensor:
    """What (n, 1, H, W) shares of a picture that are seen suggest for every pixel: means of what is seen over squares of 1, 2, 4 ... pixels.

    A square of which a pixel's worth is seen is known; one of which less is seen asks the next larger one for the rest. Where nothing is seen at all it is `nothing`.
    """
    if max(x.shape[2:]) < 2:
        return torch.lerp(nothing, x, seen.clamp(max=1))
    total, weight, empty = (F.avg_pool2d(t, 2, ceil_mode=True) for t in (x * seen, seen, nothing))
    mean, known = total / weight.clamp(min=1e-12), (4 * weight).clamp(max=1)
    coarse = torch.lerp(filled(mean, known, empty), mean, known)
    return F.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=False)


class Veil:
    """A question's rows seen through masks, K of them a row, all in one batch."""

    def __init__(self, q: Question, through: Fade | None = None) -> None:
        self.q, self.through = q, through or Fade(q)
        self.parts = leaves(q.point)
        self.sheets = [Sheet(tuple(p.shape[1:])) for p in self.parts]
        self.dtype = wide(self.parts[0][:0]).dtype
        self.whole = q.target_values().double().cpu()
        """(B,) the target at the point; nothing hidden."""
        self.nothing = q.value(q.start).double().cpu()
        """(B,) the target at the baseline; everything hidden."""
        size = torch.maximum(self.whole.abs(), self.nothing.abs())
        self.span = torch.maximum((self.whole - self.nothing).abs(), 1e-3 * size).clamp(min=1e-12)
        """(B,) how far they lie apart: the unit in which a method weighs the answer against the mask, whatever the target's scale."""
        self.asked = q

    def bounded(self, low: float = -math.inf, high: float = math.inf) -> "Veil":
        """The same, where shares of the answer below `low` or above `high` are neither worse nor better than that."""
        bounds = [(self.nothing + b * self.span).tolist() for b in (low, high)]
        twin = copy.copy(self)
        twin.asked = self.q.about(Bounded(self.q.resolved_target(), *map(tuple, bounds)))
        return twin

    def points(self, masks: Masks) -> Points:
        """What the model sees, made when it is asked."""

        def make(s: Tensor, rows: Tensor) -> Tree:
            return tuple(self.through.shown(i, self._at(masks, i, s, rows), rows).to(p.dtype) for i, p in enumerate(self.parts))

        return Points(len(masks[0]), make)

    def _at(self, masks: Masks, i: int, s: Tensor, rows: Tensor) -> Tensor:
        return self.sheets[i].over(masks[i][s, rows])

    def kept(self, masks: Masks) -> Tensor:
        """(K, B) the share of the answer that is left: 0 at the baseline, 1 at the point (where the point raises the target)."""
        return (self.q.value(self.points(masks)).double().cpu() - self.nothing) / self.span

    @torch.no_grad()
    def slopes(self, masks: Masks) -> Masks:
        """How the share of the answer changes with every number of every mask: one forward and backward row a mask and row."""
        found = [torch.zeros_like(m) for m in masks]

        def fold(g: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> None:
            for i, sheet in enumerate(self.sheets):
                step = self.through.slope(i, self._at(masks, i, s, rows), rows)
                found[i][s, rows] = sheet.under(g[i].to(step.dtype) * step)

        self.asked.stream(self.points([m.detach() for m in masks]), fold)
        return [f / self.span.to(f).reshape(1, -1, *[1] * (f.ndim - 2)) for f in found]

    def moved(self, masks: Masks, weight: Tensor | float = 1.0) -> Tensor:
        """A number whose gradient with respect to the masks is that of the (weighted) shares of the answer, added up."""
        return sum((m * g * (weight if isinstance(weight, float) else weight.to(g).reshape(-1, *[1] * (g.ndim - 1)))).sum() for m, g in zip(masks, self.slopes(masks), strict=True))  # type: ignore[return-value]

    def values(self, masks: Sequence[Tensor]) -> Tree:
        """(B, *space) masks as values shaped like the point."""
        return self.q.pack([s.spread(m.detach()).to(p.dtype) for s, m, p in zip(self.sheets, masks, self.parts, strict=True)])


class Coarse:
    """Masks on a coarse grid: pictures are drawn from at most `cells` a side, enlarged by a Gaussian; all else has a cell a position."""

    def __init__(self, veil: Veil, cells: int) -> None:
        self.sheets, self.veil = veil.sheets, veil
        self.cells = [tuple(min(cells, max(1, n // 2) if n > 8 else n) for n in s.space) if s.picture else s.space for s in veil.sheets]
        self.sizes = [math.prod(c) for c in self.cells]
        self.n = sum(self.sizes)

    def blank(self, k: int, value: float) -> Tensor:
        """(k, B, n) cells that all hold `value`."""
        p = self.veil.parts[0]
        return torch.full((k, self.veil.q.size, self.n), value, dtype=torch.float64, device=p.device)

    def split(self, flat: Tensor) -> list[Tensor]:
        """(K, B, n) cells as (K, B, *cells), one for each tensor of the point."""
        return [t.unflatten(2, c) if c else t[..., 0] for t, c in zip(flat.split(self.sizes, 2), self.cells, strict=True)]

    def grown(self, flat: Tensor) -> Masks:
        """The masks that the cells make."""
        return [(_enlarged(m, s.space) if s.picture else m).to(self.veil.dtype) for m, s in zip(self.split(flat), self.sheets, strict=True)]

    def area(self, flat: Tensor) -> Tensor:
        """(K, B) the share of the positions that the cells hold."""
        return flat.mean(2)

    def roughness(self, flat: Tensor, power: float) -> Tensor:
        """The sum over masks of the mean |difference| ** power of neighbouring cells in pictures."""
        total = flat.new_zeros(())
        for m, s in zip(self.split(flat), self.sheets, strict=True):
            if s.picture:
                steps = (m.diff(dim=2), m.diff(dim=3))
                total = total + sum(d.abs().pow(power).sum() for d in steps) / math.prod(m.shape[2:])
        return total


class Pieces(Coarse):
    """Masks with a number for each player of a masker: superpixels, cells of a grid, groups of columns."""

    def __init__(self, veil: Veil, masker: Any) -> None:
        board = masker_of(masker, veil.q).board(veil.q)
        labels, (sheet, *more) = board.labels, veil.sheets
        if labels is None or more:
            raise UsageError(f"A mask over a masker's players needs one explained tensor; the point holds {len(veil.sheets)}. Use over='cells'.")
        own = labels if sheet.channel is None else labels.select(1 + sheet.channel, 0)
        if not torch.equal(sheet.over(own).expand_as(labels), labels):
            raise UsageError("A mask has one number a position, over all its channels; this masker parts them. Use a masker of positions or superpixels.")
        self.veil, self.sheets, self.n = veil, veil.sheets, board.players
        self.labels = own.flatten(1).to(veil.parts[0].device)
        counts = torch.zeros(veil.q.size, self.n, dtype=torch.float64, device=self.labels.device)
        counts.scatter_add_(1, self.labels.clamp(min=0), (self.labels >= 0).double())
        self.share = counts / counts.sum(1, keepdim=True).clamp(min=1)

    def grown(self, flat: Tensor) -> Masks:
        there = torch.cat([flat, torch.ones_like(flat[..., :1])], 2)  # what belongs to no player is always shown
        index = torch.where(self.labels < 0, self.n, self.labels).expand(len(flat), -1, -1)
        return [there.gather(2, index).reshape(*flat.shape[:2], *self.sheets[0].space).to(self.veil.dtype)]

    def area(self, flat: Tensor) -> Tensor:
        return (flat * self.share).sum(2)

    def roughness(self, flat: Tensor, power: float) -> Tensor:
        return flat.new_zeros(())


def _enlarged(m: Tensor, space: tuple[int, ...]) -> Tensor:
    """(K, B, h, w) cells as (K, B, H, W): each pixel the Gaussian mean of the cells around it."""
    down, across = (gaussians(c, n).to(m) for c, n in zip(m.shape[2:], space, strict=True))
    return down @ m @ across.T


@functools.lru_cache(64)
def gaussians(cells: int, n: int, width: float = 0.625) -> Tensor:
    """(n, cells): how much each cell counts at each of n pixels; rows sum to one. `width` is in cells; as many cells as pixels are left as they are."""
    with torch.inference_mode(False):
        if cells == n:
            return torch.eye(n, dtype=torch.float64)
        pixel = (torch.arange(n, dtype=torch.float64) + 0.5) * cells / n - 0.5
        far = (pixel[:, None] - torch.arange(cells, dtype=torch.float64)) / width
        return torch.softmax(-far.square() / 2, 1)


def shifted(masks: Masks, sheets: Sequence[Sheet], by: Tensor) -> Masks:
    """Masks of pictures moved by (K, B, 2) pixels down and across, their edges drawn on; all else as it is."""
    return [_rolled(m, by) if s.picture else m for m, s in zip(masks, sheets, strict=True)]


def _rolled(m: Tensor, by: Tensor) -> Tensor:
    h, w = m.shape[2:]
    by = by.to(m.device)
    y = (torch.arange(h, device=m.device) - by[..., :1]).clamp(0, h - 1)
    x = (torch.arange(w, device=m.device) - by[..., 1:]).clamp(0, w - 1)
    lead = [torch.arange(n, device=m.device).reshape(-1, *[1] * (3 - i)) for i, n in enumerate(m.shape[:2])]
    return m[lead[0], lead[1], y[..., :, None], x[..., None, :]]


def drawn(q: Question, samples: Sequence[int], shape: tuple[int, ...], draw: Callable[[tuple[int, ...], torch.Generator], Tensor]) -> Tensor:
    """(samples, B, *shape) random numbers, by each row's name and the sample's number."""
    def one(sample: int, row: int) -> Tensor:
        return draw(shape, torch.Generator().manual_seed(row_seed(q.seed, q.ids[row], sample)))

    return torch.stack([torch.stack([one(s, r) for r in range(q.size)]) for s in samples])


@dataclass(frozen=True)
class Descent:
    """Where the numbers ended, and where they stood half way."""

    final: Tensor
    half: Tensor


def descended(start: Tensor, steps: int, rate: float, loss: Callable[[Tensor, int], Tensor], low: float = 0.0, high: float = 1.0, level: bool = False) -> Descent:
    """Adam (Kingma, Ba 2014, arXiv:1412.6980) on (K, B, n) numbers between `low` and `high`; rows do not know one another if the loss is a sum over them.

    `level`: one pace for all numbers of a row, so that steps point where the gradient does, and what has none stays where it is.
    """
    m, first, second, half = start, torch.zeros_like(start), torch.zeros_like(start), start
    for step in range(steps):
        with torch.enable_grad():
            leaf = m.detach().clone().requires_grad_()
            (g,) = torch.autograd.grad(loss(leaf, step), leaf)
        with torch.no_grad():
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g.square()
            pace = rate * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            size = (second.mean(2, keepdim=True) if level else second).sqrt()
            m = (m - pace * first / (size + 1e-8)).clamp(low, high)
        half = m if step + 1 == (steps + 1) // 2 else half
    return Descent(m, half)


class Bumps:
    """Masks as the smooth maximum of round bumps, one at each cell of a grid over a picture and its margin; all else has a number a position.

    A bump is flat up to half its `width` and falls as a Gaussian beyond: exp(-2 max(0, d - 1/2)^2) at a distance of d widths. Where the cells
    are coarser than pixels the maximum is taken at two points a cell each way (the lattice) and drawn through them.
    """

    def __init__(self, veil: Veil, width: float) -> None:
        self.sheets, self.veil = veil.sheets, veil
        self.shapes = [_Bump.of(s.space, width) if s.picture else None for s in veil.sheets]
        self.cells = [b.all if b is not None else s.space for b, s in zip(self.shapes, veil.sheets, strict=True)]
        self.sizes = [math.prod(c) for c in self.cells]
        self.n = sum(self.sizes)

    def lattices(self, flat: Tensor) -> Masks:
        """The masks on their lattices, of (K, B, n) cells."""
        parts = [t.unflatten(2, c) if c else t[..., 0] for t, c in zip(flat.split(self.sizes, 2), self.cells, strict=True)]
        return [b.maximum(m) if b is not None else m for b, m in zip(self.shapes, parts, strict=True)]

    def grown(self, lattices: Masks) -> Masks:
        """The masks at the size of the point."""
        return [_between(m, s.space) if s.picture else m for m, s in zip(lattices, self.sheets, strict=True)]


@dataclass(frozen=True)
class _Bump:
    """The grid of one picture and its bump, in cells."""

    cells: tuple[int, int]
    fine: tuple[int, int]
    """Points of the lattice in a cell, each way."""
    width: tuple[float, float]

    @classmethod
    def of(cls, space: tuple[int, ...], width: float) -> "_Bump":
        """Three cells a width where there are as many pixels; `width` is a part of the shorter side."""
        pixels = width * min(space)
        cells = [max(1, min(n, round(3 * n / pixels))) for n in space]
        fine = [2 if 2 * c <= n else 1 for c, n in zip(cells, space, strict=True)]
        return cls((cells[0], cells[1]), (fine[0], fine[1]), (pixels * cells[0] / space[0], pixels * cells[1] / space[1]))

    @property
    def reach(self) -> tuple[int, int]:
        """How many cells away a bump still counts: at one and a half widths it has 14 % of its height, and none beyond."""
        down, across = (max(1, math.floor(1.5 * w)) for w in self.width)
        return down, across

    @property
    def all(self) -> tuple[int, int]:
        """The cells with those around the picture, from which bumps reach into it: at its edge a mask is as free as inside."""
        return self.cells[0] + 2 * self.reach[0], self.cells[1] + 2 * self.reach[1]

    @functools.cached_property
    def weights(self) -> Tensor:
        """(neighbours, points of the lattice in a cell): how high each cell's bump is there."""
        axes = []
        for fine, width, reach in zip(self.fine, self.width, self.reach, strict=True):
            near = torch.arange(-reach, reach + 1, dtype=torch.float64)
            here = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine - 0.5
            axes.append(((near[:, None] - here) / width).square())
        far = (axes[0][:, None, :, None] + axes[1][None, :, None, :]).sqrt()
        return torch.exp(-2 * (far - 0.5).clamp(min=0).square()).flatten(2).flatten(0, 1)

    def maximum(self, m: Tensor) -> Tensor:
        """(K, B, *all) cells as (K, B, H, W) on the lattice: sum of v e^(v / T) over sum of e^(v / T), v the bumps of the cells around."""
        (h, w), (a, b) = self.cells, self.fine
        around = F.unfold(m.flatten(0, 1)[:, None], [2 * r + 1 for r in self.reach])
        bumps = around[:, :, None] * self.weights.to(m)[None, :, :, None]
        top = (bumps * (COLDNESS * bumps).softmax(1)).sum(1)
        return top.reshape(*m.shape[:2], a, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(*m.shape[:2], h * a, w * b)


COLDNESS = 20
"""One over the temperature of the smooth maximum."""


def _between(m: Tensor, space: tuple[int, ...]) -> Tensor:
    """(K, B, h, w) as (K, B, H, W), straight between the centres."""
    return F.interpolate(m, size=space, mode="bilinear", align_corners=False)


EDGE = 0.01


def too_far_from(flat: Tensor, share: Tensor) -> Tensor:
    """(K, B) mean squared distance of (K, B, N) numbers, sorted, from N (1 - share) zeros and N share ones; share (K,).

    Sorting is needed only to find the threshold between them. Numbers within EDGE of it have a goal between 0 and 1, or rounding would decide which
    of two that are level is to be one; a blank mask has no favourites.
    """
    n = flat.shape[2]
    ordered = F.pad(flat.detach().sort(dim=2).values, (1, 0), value=-1.0)
    zeros = (n - (n * share).round().clamp(min=1)).long().to(flat.device)[:, None, None].expand(-1, flat.shape[1], 1)
    threshold = (ordered.gather(2, zeros) + ordered.gather(2, zeros + 1)) / 2
    goal = (0.5 + (flat.detach() - threshold) / (2 * EDGE)).clamp(0, 1)
    return (flat - goal).square().mean(2)
