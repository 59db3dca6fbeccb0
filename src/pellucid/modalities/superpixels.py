"""Players of a picture: pixels, cells of a grid, superpixels, or segments of your own, and what is seen where one is absent."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board
from ..core.question import Question
from ..core.tree import leaves
from ._pieces import Names, Piece, backgrounds, board_of, compact, held


@dataclass(frozen=True)
class ImageMasker:
    """Players are regions of a picture, all channels together; an absent one holds the baseline."""

    segments: Any = "grid:8"

    def board(self, q: Question) -> Board:
        return board_of(q, self.pieces(q))

    def pieces(self, q: Question) -> list[Piece]:
        """One, for the one picture that is explained."""
        parts = leaves(q.point)
        if len(parts) != 1:
            raise UsageError(f"ImageMasker needs one explained picture; the point holds {len(parts)} tensors. Give a tuple of maskers, one an input.")
        labels, names = self._regions(parts[0])
        (background,), words = backgrounds(q)
        return [Piece(labels, names, held(background), words, len(background))]

    def _regions(self, p: Tensor) -> tuple[Tensor, Names]:
        if isinstance(self.segments, Tensor):
            return drawn(self.segments, p)
        kind, _, number = str(self.segments).partition(":")
        if kind not in ("grid", "pixels"):
            raise UsageError(f"ImageMasker needs segments 'grid:8', 'pixels' or labels; got {self.segments!r}.")
        labels, names = cells(p, int(number or 8) if kind == "grid" else max(p.shape[2:]))
        return labels, (names,) * len(p)


def drawn(labels: Tensor, p: Tensor) -> tuple[Tensor, Names]:
    """Your own segments, (H, W) or (B, H, W), with labels from 0 and gaps where you like; -1 is always there."""
    lab = labels.detach().cpu().long()
    if lab.shape == p.shape[2:]:
        lab = lab.expand(len(p), *lab.shape)
    elif lab.shape != (len(p), *p.shape[2:]):
        raise UsageError(f"Segments need the shape of the picture, {tuple(p.shape[2:])}, or one map a row, {(len(p), *p.shape[2:])}; got {tuple(labels.shape)}.")
    own, names = compact(lab, "segment")
    return own[:, None].expand(p.shape), names


def cells(p: Tensor, side: int) -> tuple[Tensor, tuple[str, ...]]:
    """((B, C, H, W) labels, names): `side` x `side` cells, fewer where there are not so many pixels; channels go together."""
    if p.ndim != 4:
        raise UsageError(f"A grid needs pictures or maps, (rows, channels, height, width); got {tuple(p.shape)}. Use \"positions\" or \"columns\".")
    high, wide = (min(side, n) for n in p.shape[2:])
    down, across = (torch.arange(n) * k // n for n, k in zip(p.shape[2:], (high, wide), strict=True))
    return (down[:, None] * wide + across).expand(p.shape), tuple(f"row {i} column {j}" for i in range(high) for j in range(wide))
