"""The pool of random masks that every map of a question shares: one set of forward rows, any number of maps tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..core.rows import row_seed

SIDE = 28
"""Masks and maps are compared on a grid of at most this many places a side."""
GRID = 7
"""Cells of a mask a side."""
BLOCK = 128
"""Masks are drawn in blocks of this many, each with its own seed, so that a longer pool begins with the shorter one."""


def generator(seed: int, row: object, purpose: str) -> torch.Generator:
    """Random numbers that depend on the question's seed, the row's id and what they are for, and on nothing else."""
    return torch.Generator().manual_seed(row_seed(seed, (purpose, row), 0))


@dataclass(frozen=True)
class ImageMasks:
    """Soft random masks of `n` samples and B rows, kept as small grids and drawn at full size only where they are asked for.

    Each is a grid of random bits blown up bilinearly at a random offset; sample 2k + 1 is the complement of 2k.
    """

    bits: Tensor
    offset: Tensor
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid on which maps are compared."""
        return tuple(min(SIDE, s) for s in self.size)

    def full(self, s: Tensor, rows: Tensor) -> Tensor:
        """(k, H, W) masks of those samples and rows, 1 where the picture is kept."""
        return self._draw(s, rows, self.size)

    def small(self, row: int) -> Tensor:
        """(n, h*w) masks of one row on the grid of `shape`."""
        s = torch.arange(len(self.bits))
        return self._draw(s, torch.full_like(s, row), self.shape).flatten(1)

    def cells(self, row: int) -> Tensor:
        """(n, P) masks of one row on the coarse grid whose best fit is the ceiling."""
        s = torch.arange(len(self.bits))
        coarse = tuple(min(GRID, d) for d in self.shape)
        return shrink(self._draw(s, torch.full_like(s, row), self.shape), coarse).flatten(1)

    def _draw(self, s: Tensor, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        ys, xs = (_stretch(d, self.offset[s, rows, i], shape[i]) for i, d in enumerate(self.size))
        return torch.einsum("khi,kij,kwj->khw", ys, self.bits[s, rows].to(ys), xs)


def image_masks(n: int, size: tuple[int, int], seed: int, ids: Sequence[object], low: float = 0.3, high: float = 0.7) -> ImageMasks:
    """`n` masks a row (even), each cell kept at a rate drawn between `low` and `high`."""
    step = torch.tensor([-(-d // GRID) for d in size])
    bits, offset = [], []
    for row in ids:
        parts = [_bits(generator(seed, row, f"masks {b}"), BLOCK, (GRID + 1, GRID + 1), low, high, step) for b in range(-(-n // BLOCK))]
        bits.append(torch.cat([p[0] for p in parts])[:n])
        offset.append(torch.cat([p[1] for p in parts])[:n])
    return ImageMasks(torch.stack(bits, 1), torch.stack(offset, 1), size)


def _bits(gen: torch.Generator, n: int, shape: tuple[int, ...], low: float, high: float, step: Tensor) -> tuple[Tensor, Tensor]:
    """(n, *shape) kept bits in complementary pairs, and each pair's offset below `step`."""
    rate = low + (high - low) * torch.rand(n // 2, *[1] * len(shape), generator=gen)
    kept = torch.rand(n // 2, *shape, generator=gen) < rate
    offset = (torch.rand(n // 2, len(step), generator=gen) * step).long()
    return torch.stack([kept, ~kept], 1).flatten(0, 1), offset.repeat_interleave(2, 0)


def _stretch(size: int, offset: Tensor, out: int) -> Tensor:
    """(k, out, GRID + 1): how each cell of a grid spreads over `size` pixels from `offset`, averaged down to `out` places."""
    cell = -(-size // GRID)
    big = functional.interpolate(torch.eye(GRID + 1)[None], size=(GRID + 1) * cell, mode="linear", align_corners=False)[0].T
    crop = big[offset[:, None] + torch.arange(size)]
    return functional.adaptive_avg_pool1d(crop.mT, out).mT if out < size else crop


@dataclass(frozen=True)
class FeatureMasks:
    """Random masks over `P` features without neighbours: columns, tokens, time steps."""

    bits: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The features on which maps are compared."""
        return (self.bits.shape[-1],)

    def full(self, s: Tensor, rows: Tensor) -> Tensor:
        """(k, P) masks of those samples and rows, 1 where the feature is kept."""
        return self.bits[s, rows].float()

    def small(self, row: int) -> Tensor:
        """(n, P) masks of one row."""
        return self.bits[:, row].float()

    def cells(self, row: int) -> Tensor:
        """The same: features have no coarser grid."""
        return self.small(row)


def feature_masks(n: int, size: int, seed: int, ids: Sequence[object], low: float = 0.3, high: float = 0.7) -> FeatureMasks:
    """`n` masks a row (even), each feature kept at a rate drawn between `low` and `high`."""
    step, bits = torch.ones(1), []
    for row in ids:
        parts = [_bits(generator(seed, row, f"masks {b}"), BLOCK, (size,), low, high, step)[0] for b in range(-(-n // BLOCK))]
        bits.append(torch.cat(parts)[:n])
    return FeatureMasks(torch.stack(bits, 1))


def shrink(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(..., H, W) maps as (..., h, w) means of blocks; a map smaller than that is blown up bilinearly."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    small = flat.shape[-2] < shape[0] or flat.shape[-1] < shape[1]
    out = functional.interpolate(flat, size=shape, mode="bilinear", align_corners=False) if small else functional.adaptive_avg_pool2d(flat, (shape[0], shape[1]))
    return out.reshape(*maps.shape[:-2], *shape)
