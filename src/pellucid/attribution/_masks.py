"""Masks that are learnt: how they lie over a point, what the model sees behind them, and how they move downhill."""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.places import Place
from ..core.points import Points
from ..core.question import Question
from ..core.rows import row_seed
from ..core.target import Target
from ..core.tree import Tree, leaves
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
        return torch.full((k, self.veil.q.size, self.n), value, dtype=self.veil.dtype, device=p.device)

    def split(self, flat: Tensor) -> list[Tensor]:
        """(K, B, n) cells as (K, B, *cells), one for each tensor of the point."""
        return [t.unflatten(2, c) if c else t[..., 0] for t, c in zip(flat.split(self.sizes, 2), self.cells, strict=True)]

    def grown(self, flat: Tensor) -> Masks:
        """The masks that the cells make."""
        return [_enlarged(m, s.space) if s.picture else m for m, s in zip(self.split(flat), self.sheets, strict=True)]

    def roughness(self, flat: Tensor, power: float) -> Tensor:
        """The sum over masks of the mean |difference| ** power of neighbouring cells in pictures."""
        total = flat.new_zeros(())
        for m, s in zip(self.split(flat), self.sheets, strict=True):
            if s.picture:
                steps = (m.diff(dim=2), m.diff(dim=3))
                total = total + sum(d.abs().pow(power).sum() for d in steps) / math.prod(m.shape[2:])
        return total


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


def descended(start: Tensor, steps: int, rate: float, loss: Callable[[Tensor, int], Tensor], low: float = 0.0, high: float = 1.0) -> Descent:
    """Adam (Kingma, Ba 2014, arXiv:1412.6980) on numbers between `low` and `high`; rows do not know one another if the loss is a sum over them."""
    m, first, second, half = start, torch.zeros_like(start), torch.zeros_like(start), start
    for step in range(steps):
        with torch.enable_grad():
            leaf = m.detach().clone().requires_grad_()
            (g,) = torch.autograd.grad(loss(leaf, step), leaf)
        with torch.no_grad():
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g.square()
            pace = rate * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            m = (m - pace * first / (second.sqrt() + 1e-8)).clamp(low, high)
        half = m if step + 1 == (steps + 1) // 2 else half
    return Descent(m, half)
