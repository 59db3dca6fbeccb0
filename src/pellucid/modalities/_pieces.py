"""A tensor of the point cut into players, and how a coalition puts it together again: what all maskers share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board, shared_evenly
from ..core.question import Question
from ..core.start import Samples
from ..core.tree import Tree, is_float, leaves

Names = tuple[tuple[str, ...], ...]
Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`fill(seen, rows, copies)`: what absent elements hold, for (n, ...) booleans of what is there, (n,) rows and (n,) copies."""


@dataclass(frozen=True)
class Piece:
    """One tensor of the point: the player of every element (-1: always there), the players' names in every row, and what the absent hold."""

    labels: Tensor
    names: Names
    fill: Fill
    absent: str
    copies: int = 1


def board_of(q: Question, pieces: Sequence[Piece]) -> Board:
    """The game of those pieces, one for each tensor of the point; a row's players are numbered through all of them."""
    parts = leaves(q.point)
    labels, names = _numbered(pieces, q.size)
    _covered(labels, names)
    copies = _copies(pieces)

    def make(present: Tensor, rows: Tensor, which: Tensor) -> Tree:
        there = torch.cat([present, present.new_ones(len(present), 1)], 1)  # label -1 reads the last column
        last, out = there.shape[1] - 1, []
        for piece, p, lab in zip(pieces, parts, labels, strict=True):
            own = lab[rows].flatten(1)
            seen = there.gather(1, torch.where(own < 0, last, own)).reshape(len(rows), *p.shape[1:]).to(p.device)
            out.append(torch.where(seen, p[rows], piece.fill(seen, rows, which if piece.copies > 1 else torch.zeros_like(which))))
        return tuple(out)

    absent = ", ".join(dict.fromkeys(p.absent for p in pieces))
    return Board(q, names, absent, make, shared_evenly(labels, parts, q.pack), labels[0] if len(labels) == 1 else None, copies)


def _numbered(pieces: Sequence[Piece], size: int) -> tuple[list[Tensor], Names]:
    """Every piece's labels numbered after those of the pieces before it, row by row; the names of all."""
    labels, names = [], [()] * size
    for piece in pieces:
        before = torch.tensor([len(n) for n in names]).reshape(-1, *[1] * (piece.labels.ndim - 1))
        labels.append(torch.where(piece.labels < 0, -1, piece.labels + before) if before.any() else piece.labels)
        names = [own + new for own, new in zip(names, piece.names, strict=True)]
    return labels, tuple(names)


def _covered(labels: Sequence[Tensor], names: Names) -> None:
    """Refuses a player that covers nothing: it could take no part, and its number would be lost."""
    most = max(map(len, names))
    counts = torch.zeros(len(names), most + 1, dtype=torch.long)
    for lab in labels:
        flat = lab.flatten(1)
        counts.scatter_add_(1, torch.where(flat < 0, most, flat), torch.ones_like(flat))
    for i, own in enumerate(names):
        bare = (counts[i, : len(own)] == 0).nonzero()
        if len(bare):
            raise UsageError(f"A player needs to cover at least one element; {own[int(bare[0])]!r} covers none in row {i}. Leave it out of the groups.")


def _copies(pieces: Sequence[Piece]) -> int:
    counts = {p.copies for p in pieces} - {1}
    if len(counts) > 1:
        raise UsageError(f"Backgrounds of several inputs are used side by side, so that they need as many rows each; got {' and '.join(map(str, sorted(counts)))}.")
    return counts.pop() if counts else 1


def compact(labels: Tensor, name: str) -> tuple[Tensor, Names]:
    """(B, ...) labels numbered from 0 without gaps in every row, and the players' names; below 0 stays always there."""
    out, names = [], []
    for row in labels:
        found, inverse = row.unique(return_inverse=True)
        skipped = int((found < 0).sum())
        out.append((inverse - skipped).clamp(min=-1))
        names.append(tuple(f"{name} {int(k)}" for k in found[skipped:]))
    return torch.stack(out), tuple(names)


def held(background: Tensor) -> Fill:
    """Absent elements hold those of a (D, B, ...) background, copy by copy."""
    return lambda seen, rows, copies: background[copies.to(background.device), rows.to(background.device)]


def backgrounds(q: Question) -> tuple[list[Tensor], str]:
    """([(D, B, ...) or (1, B, ...)] what the question's baseline holds at every tensor of the point, in words)."""
    if not isinstance(q.baseline, Samples):
        return [t[None] for t in leaves(q.start)], f"the baseline {q.baseline}" if isinstance(q.baseline, (int, float, str)) else "the baseline"
    words = f"those of {q.baseline.n:,} background rows"
    if not q.places:
        return _spread(q, q.baseline), words
    found = [leaves(q.with_baseline(tuple(p[k] for p in q.baseline.parts)).start) for k in range(q.baseline.n)]
    return [torch.stack(t) for t in zip(*found, strict=True)], words


def _spread(q: Question, samples: Samples) -> list[Tensor]:
    """(D, B, ...) views of the samples: every row sees all of them, and none is copied."""
    parts = leaves(q.point)
    given = [torch.as_tensor(t) for t in samples.parts]
    if len(given) != len(parts):
        raise UsageError(f"A background needs one tensor for each of {len(parts)} explained inputs; got {len(given)}.")
    return [background_of(g, p) for g, p in zip(given, parts, strict=True)]


def background_of(rows: Any, p: Tensor) -> Tensor:
    """(D, B, ...) from (D, ...) rows shaped like those of `p`, each seen by every row; no row is copied or left out."""
    given = torch.as_tensor(rows)
    if given.ndim == p.ndim and given.shape[1:] == p.shape[1:] and len(given):
        if is_float(given) and not torch.isfinite(given).all():
            raise UsageError("A background needs finite numbers; it holds NaN or infinity. Fill or drop missing values first.")
        return given.to(p)[:, None].expand(-1, len(p), *p.shape[1:])
    raise UsageError(f"A background needs rows shaped {tuple(p.shape[1:])}, at least one; got {tuple(given.shape)}.")
