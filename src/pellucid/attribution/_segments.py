"""Overlapping regions of a picture at several scales, and which of them hold most together."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import UsageError

if TYPE_CHECKING:
    from scipy import sparse

SIDE = 224
"""Pictures are cut in a frame of so many cells a side, whatever their own size: scales and sizes below are meant for it."""
SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA = 0.8
SMALLEST = 150
MARGIN = 5
"""Cells by which a region is widened, so that its edge belongs to it."""
LEAST = 50
"""Cells that a region must add to be worth adding."""
TIE = 1e-5
"""Regions whose means are as near as this, as a part of the largest number, are level: the first of them is taken, so that rounding decides nothing."""
KEPT = 8
"""Pictures whose regions are remembered, some 2 MB each: the next target or method asks about the same one."""


@dataclass(frozen=True)
class Regions:
    """(regions, cells) which cell of the frame lies in which region."""

    inside: "sparse.csr_array"

    def joined(self, gain: np.ndarray, fast: bool = False) -> np.ndarray:
        """Each cell's share of the region with which it joined: what lies outside of all so far, divided evenly.

        Each turn adds the region that adds most a cell; `fast` settles the order at the start. Sums and sizes of what a region
        would add are brought up to date by the cells that were just added, so that every cell of every region is read twice in all.
        """
        out, left, columns = np.zeros_like(gain), np.ones(len(gain), dtype=bool), self.inside.tocsc()
        sums, sizes = self.inside @ gain, self.inside @ np.ones_like(gain)
        first, level = sums / sizes, TIE * np.abs(gain).max(initial=0)
        open_ = np.ones(len(sums), dtype=bool)
        while (open_ := open_ & (sizes >= LEAST)).any():
            mean = np.where(open_, first if fast else sums / np.maximum(sizes, 1), -np.inf)
            best = int(np.argmax(mean >= mean.max() - level))
            cells = self.inside.indices[self.inside.indptr[best] : self.inside.indptr[best + 1]]
            new = cells[left[cells]]
            out[new], left[new], open_[best] = gain[new].mean(), False, False
            touched = columns[:, new]
            sums, sizes = sums - touched @ gain[new], sizes - touched @ np.ones(len(new))
        out[left] = gain[left].mean() if left.any() else 0
        return out


def felzenszwalb(picture: Tensor) -> Regions:
    """The regions of one (channels, height, width) picture by graph cuts at six scales, each widened at its edge."""
    image = _framed(picture)
    return _cut(image.tobytes(), image.shape[2])


@functools.lru_cache(KEPT)
def _cut(pixels: bytes, channels: int) -> Regions:
    try:
        from skimage.segmentation import felzenszwalb as cut
    except ImportError:
        raise UsageError("XRAI cuts the picture by scikit-image, which is not installed. pip install scikit-image.") from None
    from scipy import sparse

    image = np.frombuffer(pixels).reshape(SIDE, SIDE, channels)
    rows = [cells for scale in SCALES for cells in _widened(cut(image, scale=scale, sigma=SIGMA, min_size=SMALLEST, channel_axis=-1))]
    starts = np.cumsum([0, *map(len, rows)])
    cells = np.concatenate(rows)
    return Regions(sparse.csr_array((np.ones(len(cells), dtype=np.int8), cells.astype(np.int32), starts), shape=(len(rows), SIDE * SIDE)))


def _framed(picture: Tensor) -> np.ndarray:
    """(SIDE, SIDE, channels) between -1 and 1, at most three channels: of more, the strongest three components."""
    p = picture.detach().double().cpu()
    p = (p - p.min()) / (p.max() - p.min()).clamp(min=1e-30) * 2 - 1
    if p.shape[1:] != (SIDE, SIDE):
        p = F.interpolate(p[None], (SIDE, SIDE), mode="bicubic", antialias=True)[0]
    if len(p) > 3:
        flat = p.flatten(1)
        p = (torch.linalg.svd(flat - flat.mean(1, keepdim=True), full_matrices=False)[2][:3] * SIDE).reshape(3, SIDE, SIDE)
    return np.ascontiguousarray(p.permute(1, 2, 0).numpy())


def _widened(labels: np.ndarray) -> list[np.ndarray]:
    """The cells of every segment, and those within MARGIN of it."""
    from scipy import ndimage

    across = np.arange(-MARGIN, MARGIN + 1)
    disk = across[:, None] ** 2 + across**2 <= MARGIN**2
    found = []
    for k, box in enumerate(ndimage.find_objects(labels + 1), 1):
        box = tuple(slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in box)
        inside = ndimage.binary_dilation(labels[box] + 1 == k, disk)
        y, x = np.nonzero(inside)
        found.append((y + box[0].start) * SIDE + x + box[1].start)
    return found


def into_frame(maps: Tensor) -> Tensor:
    """(B, SIDE, SIDE) of (B, h, w): what each pixel holds, shared among the cells that it overlaps."""
    down, across = (_overlap(n) for n in maps.shape[1:])
    return down @ maps.double().cpu() @ across.T


def out_of_frame(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) of (B, SIDE, SIDE), with the same sum."""
    down, across = (_overlap(n) * (SIDE / n) for n in size)
    return down.T @ maps @ across


def _overlap(n: int) -> Tensor:
    """(SIDE, n): the part of each of n equal stretches that lies in each of SIDE equal stretches of the same length."""
    i, j = torch.arange(SIDE, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    return (torch.minimum((i + 1) / SIDE, (j + 1) / n) - torch.maximum(i / SIDE, j / n)).clamp(min=0) * n
