"""A tensor of the point cut into players, and how a coalition puts it together again: what all maskers share."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board, shared_evenly
from ..core.question import Question
from ..core.start import Samples, start_of
from ..core.tree import Tree, is_float, leaves

Names = tuple[tuple[str, ...], ...]
Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`fill(seen, rows, copies)`: what absent elements hold, for (n, ...) booleans of what is there (one where all of an axis is alike), (n,) rows, (n,) copies."""


class Described:
    """A masker as a value: equal where all its fields are, tensors by their numbers; shown by what differs from the defaults."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(_alike(a, b) for a, b in zip(_fields(self), _fields(other), strict=True))

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        own = [(f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{n}={_told(v)}' for n, v, d in own if v is not d and not _alike(v, d))})"


def _fields(value: Any) -> list[Any]:
    return [getattr(value, f.name) for f in dataclasses.fields(value)]


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if hasattr(a, "__array__") or hasattr(b, "__array__"):
        return type(a) is type(b) and a.shape == b.shape and bool(torch.equal(torch.as_tensor(a), torch.as_tensor(b)))
    return type(a) is type(b) and bool(a == b)


def _told(v: Any) -> str:
    return f"{type(v).__name__}{tuple(v.shape)}" if hasattr(v, "__array__") and hasattr(v, "shape") else repr(v)


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
    thin, copies = [_thin(lab) for lab in labels], _copies(pieces)
    _covered(thin, names)

    def make(present: Tensor, rows: Tensor, which: Tensor) -> Tree:
        there = torch.cat([present, present.new_ones(len(present), 1)], 1)  # label -1 reads the last column
        out = []
        for piece, p, lab in zip(pieces, parts, thin, strict=True):
            seen = _seen(there, lab, rows).to(p.device)
            out.append(torch.where(seen, p[rows], piece.fill(seen, rows, which if piece.copies > 1 else torch.zeros_like(which))))
        return tuple(out)

    absent = ", ".join(dict.fromkeys(p.absent for p in pieces))
    return Board(q, names, absent, make, shared_evenly(labels, parts, q.pack), labels[0] if len(labels) == 1 else None, copies)


def _thin(labels: Tensor) -> Tensor:
    """The same labels, an axis along which they do not change cut down to one: 224 x 224 numbers serve three channels and every row."""
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1 and labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels.contiguous()


def _seen(there: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """(n, ...) whether an element is there, for (n, P + 1) players of whom the last always is."""
    last = there.shape[1] - 1
    if len(labels) == 1:
        flat = labels.flatten()
        return there.index_select(1, torch.where(flat < 0, last, flat)).reshape(len(there), *labels.shape[1:])
    own = labels[rows].flatten(1)
    return there.gather(1, torch.where(own < 0, last, own)).reshape(len(there), *labels.shape[1:])


def _numbered(pieces: Sequence[Piece], size: int) -> tuple[list[Tensor], Names]:
    """Every piece's labels numbered after those of the pieces before it, row by row; the names of all."""
    labels: list[Tensor] = []
    names: list[tuple[str, ...]] = [()] * size
    for piece in pieces:
        before = [len(n) for n in names]
        if any(before):
            same = len(set(before)) == 1
            first = before[0] if same else torch.tensor(before).reshape(-1, *[1] * (piece.labels.ndim - 1))
            thin = _thin(piece.labels) if same else piece.labels
            labels.append(torch.where(thin < 0, -1, thin + first).expand(piece.labels.shape))
        else:
            labels.append(piece.labels)
        names = [own + new for own, new in zip(names, piece.names, strict=True)]
    return labels, tuple(names)


def _covered(labels: Sequence[Tensor], names: Names) -> None:
    """Refuses a player that covers nothing: it could take no part, and its number would be lost."""
    most = max(map(len, names))
    counts = torch.zeros(len(names), most + 1, dtype=torch.long)
    for lab in labels:
        flat = lab.flatten(1).expand(len(names), -1)
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


# -- what absent elements hold -------------------------------------------------------------------------------------------


def held(background: Tensor) -> Fill:
    """Absent elements hold those of a (D, B, ...) background, copy by copy."""
    return lambda seen, rows, copies: background[copies.to(background.device), rows.to(background.device)]


def behind(q: Question, i: int, baseline: Any = None) -> tuple[Tensor, str]:
    """((D, B, ...) what a baseline holds at tensor i of the point, in words): the question's own baseline (None), or another of that input alone.

    At a layer it is what the layer gives for that baseline. Of `pel.Samples` every row is there, seen by all rows of the question; none is copied.
    """
    own = q.baseline if baseline is None else baseline
    if isinstance(own, Samples):
        return _samples(q, i, own, alone=baseline is not None), "those of a background row"
    words = f"the baseline {own}" if isinstance(own, (int, float, str)) else "the baseline"
    if baseline is None:
        return leaves(q.start)[i][None], q.model.absent if q.model.absent and not q.places else words
    if q.places:
        return leaves(q.with_baseline(baseline).start)[i][None], words
    return start_of(baseline, (leaves(q.point)[i],), q)[0][None], words


def _samples(q: Question, i: int, samples: Samples, alone: bool) -> Tensor:
    p = leaves(q.point)[i]
    if q.places:
        return torch.stack([leaves(q.with_baseline(tuple(t[k] for t in samples.parts)).start)[i] for k in range(samples.n)])
    if not alone and len(samples.parts) != len(leaves(q.point)):
        raise UsageError(f"A background needs one tensor for each of {len(leaves(q.point))} explained inputs; got {len(samples.parts)}.")
    given = torch.as_tensor(samples.parts[0 if alone else i])
    if given.ndim != p.ndim or given.shape[1:] != p.shape[1:] or not len(given):
        raise UsageError(f"A background needs rows shaped {tuple(p.shape[1:])}, at least one; got {tuple(given.shape)}.")
    if is_float(given) and not torch.isfinite(given).all():
        raise UsageError("A background needs finite numbers; it holds NaN or infinity. Fill or drop missing values first.")
    return given.to(p)[:, None].expand(-1, len(p), *p.shape[1:])
