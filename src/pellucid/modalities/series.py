"""Players of a time series: stretches of it, and what is read where one is absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.game import Board
from ..core.question import Question
from ..core.rows import row_seed
from ..core.start import Samples
from ..core.tree import leaves
from ._pieces import Described, Fill, Piece, behind, board_of, held

ABSENT = ("baseline", "mean", "linear", "noise")


@dataclass(frozen=True, eq=False, repr=False)
class SeriesMasker(Described):
    """Players are stretches of a series, (B, T) or (B, T, C) with all channels together.

    `segments`: how many of equal length (8), "length:10" (steps each; the last may be shorter), or a list of the steps at which a new one begins.
    `absent` is what a stretch holds that takes no part:
    - "baseline": the question's own, zero unless said; with `pel.Samples`, every one of many.
    - "mean": each series' own mean over time, channel by channel. Misleads when the mean itself is a value that never occurs, or level is the answer.
    - "linear": a straight line between its present neighbours (beyond the ends, the nearest; with nobody present, the mean). Misleads when the answer is a trend.
    - "noise": normal, with each channel's own mean and deviation, drawn by seed and row. Misleads when roughness is the answer.
    - a background: a tensor (D, T) or (D, T, C), or `pel.Samples`; every row of it is used, and a coalition costs D rows.
    """

    segments: int | str | Sequence[int] = 8
    absent: Any = "baseline"

    def board(self, q: Question) -> Board:
        n = len(leaves(q.point))
        if n != 1:
            raise UsageError(f"SeriesMasker needs one explained series; the point holds {n} tensors. Give a tuple of maskers, one an input.")
        return board_of(q, [self.piece(q, 0)])

    def piece(self, q: Question, i: int) -> Piece:
        """The players of tensor i of the point."""
        p = leaves(q.point)[i]
        if p.ndim not in (2, 3):
            raise UsageError(f"SeriesMasker needs series, (rows, steps) or (rows, steps, channels); got {tuple(p.shape)}.")
        steps = p.shape[1]
        starts = _starts(self.segments, steps)
        stretch = (torch.arange(steps)[:, None] >= torch.tensor(starts)).sum(1) - 1
        names = tuple(f"step {a}" if b - a == 1 else f"steps {a}-{b - 1}" for a, b in zip(starts, [*starts[1:], steps], strict=True))
        fill, words, copies = self._behind(q, i, p)
        return Piece(stretch.reshape(-1, *[1] * (p.ndim - 2)).expand(p.shape), (names,) * len(p), fill, words, copies)

    def _behind(self, q: Question, i: int, p: Tensor) -> tuple[Fill, str, int]:
        """What absent stretches hold, in words too, and how many copies of it there are."""
        if not isinstance(self.absent, str):
            given = self.absent
            if hasattr(given, "__array__") and torch.as_tensor(given).ndim == p.ndim:
                given = Samples(torch.as_tensor(given))
            background, words = behind(q, i, given)
            return held(background), words, len(background)
        if self.absent not in ABSENT:
            raise UnknownName("way to be absent", self.absent, ABSENT, f"A stretch can be {', '.join(ABSENT)}, or rows of a background.")
        if self.absent == "linear":
            return straight(p), "a straight line between their present neighbours", 1
        if self.absent == "baseline":
            background, words = behind(q, i)
            return held(background), words, len(background)
        middle = p.mean(1, keepdim=True)
        if self.absent == "mean":
            return held(middle.expand(p.shape)[None]), "the series' own mean", 1
        return held((middle + p.std(1, keepdim=True, unbiased=False) * _normal(q, i, p))[None]), "noise of the series' own mean and deviation", 1


def _starts(segments: Any, steps: int) -> list[int]:
    """The step at which each stretch begins."""
    if isinstance(segments, str):
        name, _, number = segments.partition(":")
        if name != "length" or not number.isdigit() or not int(number):
            raise UsageError(f'SeriesMasker needs segments as a number, as "length:10", or as a list of first steps; got {segments!r}.')
        return list(range(0, steps, int(number)))
    if isinstance(segments, int) and not isinstance(segments, bool):
        if segments < 1:
            raise UsageError(f"SeriesMasker needs at least 1 segment; got {segments}.")
        n = min(segments, steps)
        return [-(-k * steps // n) for k in range(n)]
    starts = sorted({0, *(int(s) for s in segments)})
    if starts[0] < 0 or starts[-1] >= steps:
        raise UsageError(f"SeriesMasker needs boundaries between 0 and {steps - 1}; got {list(segments)}.")
    return starts


def _normal(q: Question, i: int, p: Tensor) -> Tensor:
    """Standard normal numbers like `p`, by each row's name."""
    rows = [torch.randn(p.shape[1:], generator=torch.Generator().manual_seed(row_seed(q.seed, name, -2 - i)), dtype=torch.float64) for name in q.ids]
    return torch.stack(rows).to(p)


def straight(p: Tensor) -> Fill:
    """Absent steps lie on the line between the nearest present ones before and after them."""
    steps = p.shape[1]
    mean = p.mean(1, keepdim=True)

    def fill(seen: Tensor, rows: Tensor, copies: Tensor) -> Tensor:
        there = seen.reshape(len(seen), seen.shape[1], -1)[:, :, 0]
        t = torch.arange(steps, device=p.device).expand(len(rows), -1)
        before = torch.where(there, t, -1).cummax(1).values
        after = torch.where(there, t, steps).flip(1).cummin(1).values.flip(1)
        left, right = torch.where(before < 0, after, before).clamp(max=steps - 1), torch.where(after >= steps, before, after).clamp(min=0)
        f = ((t - left).to(p) / (right - left).clamp(min=1)).reshape(*t.shape, *[1] * (p.ndim - 2))
        x = p[rows.to(p.device)]
        line = torch.lerp(_at(x, left), _at(x, right), f)
        return torch.where(seen.flatten(1).any(1).reshape(-1, *[1] * (p.ndim - 1)), line, mean[rows.to(p.device)])

    return fill


def _at(x: Tensor, steps: Tensor) -> Tensor:
    return x.gather(1, steps.reshape(*steps.shape, *[1] * (x.ndim - 2)).expand(x.shape))
