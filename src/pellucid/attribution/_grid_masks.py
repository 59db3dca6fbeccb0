"""Random masks drawn on coarse grids: a few bits each are kept, and the masks grown from them where they are looked at."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.points import Points
from ..core.question import Question
from ..core.rows import row_seed
from ..core.tree import Tree, leaves
from ._masks import Fade, Sheet
from ._path import wide

BLOCK = 32
"""Pairs of masks that are drawn, and looked at, together."""


@dataclass(frozen=True)
class Lattice:
    """A grid of at most `cells` a side over one tensor of the point, one cell wider than it, so that it can be moved; short axes have a cell an element."""

    sheet: Sheet
    cells: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers drawn along every axis; columns of a table each have one."""
        table = len(self.sheet.shape) < 2
        return tuple(n if table or n <= self.cells else self.cells + 1 for n in self.sheet.space)

    def grown(self, small: Tensor, shift: Tensor) -> Tensor:
        """(K, *counts) numbers in [0, 1] and (K, axes) shifts as (K, *space): straight lines between the middles of cells."""
        for axis, (n, c) in enumerate(zip(self.sheet.space, self.counts, strict=True)):
            if n != c:
                along = _along(n, c, shift[:, axis])
                small = (along @ small.movedim(1 + axis, 1).flatten(2)).unflatten(2, _without(small.shape, axis)).movedim(1, 1 + axis) if small.ndim > 2 else (along @ small[..., None])[..., 0]
        return small


def _without(shape: torch.Size, axis: int) -> list[int]:
    return [s for i, s in enumerate(shape[1:]) if i != axis]


def _along(n: int, cells: int, shift: Tensor) -> Tensor:
    """(K, n, cells): how much each number counts at each element, once the grid was moved by a part of a cell; rows sum to one."""
    place = ((torch.arange(n, dtype=torch.float64) + 0.5) * (cells - 1) / n - 0.5 + shift[:, None]).clamp(0, cells - 1)
    return (1 - (place[..., None] - torch.arange(cells)).abs()).clamp(min=0)


@dataclass(frozen=True)
class Drawn:
    """The small numbers and shifts of one block of pairs of masks, for every tensor of the point."""

    small: list[Tensor]
    shift: list[Tensor]


class GridMasks:
    """Masks for every row by its name: mask 2 k shows what a cell's number below `chance` says, mask 2 k + 1 the opposite numbers (antithetic)."""

    def __init__(self, q: Question, cells: int, chance: float) -> None:
        self.q, self.chance, self.fade = q, chance, Fade(q)
        self.lattices = [Lattice(Sheet(tuple(p.shape[1:])), cells) for p in leaves(q.point)]
        self.known: dict[tuple[int, int], Drawn] = {}

    def _block(self, row: int, block: int) -> Drawn:
        if (row, block) not in self.known:
            rng = np.random.default_rng(row_seed(self.q.seed, self.q.ids[row], block))
            shape = lambda lattice: (BLOCK, math.prod(lattice.counts))  # noqa: E731
            small = [torch.from_numpy(rng.random(shape(a), dtype=np.float32)).reshape(BLOCK, *a.counts) for a in self.lattices]
            self.known[row, block] = Drawn(small, [torch.from_numpy(rng.random((BLOCK, len(a.counts)))) for a in self.lattices])
        return self.known[row, block]

    def _shown(self, u: Tensor, other: Tensor) -> Tensor:
        flip = other.reshape(-1, *[1] * (u.ndim - 1))
        return (torch.where(flip, 1 - u, u) < self.chance).double()

    def masks(self, i: int, s: Tensor, rows: Tensor) -> Tensor:
        """(n, *space) masks number `s` of rows `rows`, over tensor i of the point."""
        drawn = [(self._block(r, k // (2 * BLOCK)), k // 2 % BLOCK) for k, r in zip(s.tolist(), rows.tolist(), strict=True)]
        small, shift = (torch.stack([t[k] for t, k in found]) for found in zip(*(((d.small[i], k), (d.shift[i], k)) for d, k in drawn), strict=True))
        return self.lattices[i].grown(self._shown(small, s % 2 == 1), shift)

    def points(self, rows: Tensor, start: int, stop: int) -> Points:
        """What the model sees of those rows through masks start to stop."""
        parts = leaves(self.q.point)

        def make(s: Tensor, part: Tensor) -> Tree:
            here = rows[part]
            out = []
            for i, (p, lattice) in enumerate(zip(parts, self.lattices, strict=True)):
                m = lattice.sheet.over(self.masks(i, s + start, here)).to(p.device, wide(p[:0]).dtype)
                out.append(self.fade.shown(i, m, here.to(p.device)).to(p.dtype))
            return tuple(out)

        return Points(stop - start, make)

    def pairs(self, row: int, n: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(which pairs, the deviations of their first masks from the chance, of their second ones), flat over all tensors; for the first n pairs."""
        for first in range(0, n, BLOCK):
            d, many = self._block(row, first // BLOCK), min(BLOCK, n - first)
            other = torch.tensor([False]).expand(many)
            both = [torch.cat([a.grown(self._shown(u[:many], f), t[:many]).flatten(1) for a, u, t in zip(self.lattices, d.small, d.shift, strict=True)], 1) for f in (other, ~other)]
            yield slice(first, first + many), both[0] - self.chance, both[1] - self.chance

    def spread(self, flat: Tensor) -> Tree:
        """(B, positions of all tensors) as values shaped like the point, channels sharing a position's number evenly."""
        parts = leaves(self.q.point)
        sizes = [math.prod(a.sheet.space) for a in self.lattices]
        cut: Sequence[Tensor] = flat.split(sizes, 1)
        return self.q.pack([a.sheet.spread(t.reshape(-1, *a.sheet.space)).to(p) for a, t, p in zip(self.lattices, cut, parts, strict=True)])
