"""Players made of the elements of any tensor: columns of a table, positions of a sequence, groups of either, at the input or at a layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board
from ..core.question import Question
from ..core.tree import leaves
from ._pieces import Described, Names, Piece, behind, board_of, held


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMasker(Described):
    """Players are groups of elements; an absent one holds what the question's baseline holds there.

    `groups` None makes a player of every column (of the last axis of a table) or of every position (of a sequence or a picture, all channels
    together); a mapping {"address": [3, 4]} or a list of lists groups columns; an integer tensor shaped like one row, or like the point, labels
    elements (-1: always there). With many baselines (`pel.Samples`) a coalition is worth the mean over all of them.
    Misleads when: the baseline is no neutral input, or columns depend on each other: the model is then asked about rows that never occur.
    """

    groups: Any = None
    names: Sequence[str] | None = None

    def board(self, q: Question) -> Board:
        n = len(leaves(q.point))
        if n > 1 and (self.groups is not None or self.names is not None):
            raise UsageError(f"Groups and names need one explained tensor; the point holds {n}. Give a tuple of maskers, one an input.")
        return board_of(q, [self.piece(q, i, f"input {i} " if n > 1 else "") for i in range(n)])

    def piece(self, q: Question, i: int, lead: str = "") -> Piece:
        """The players of tensor i of the point."""
        background, words = behind(q, i)
        p, told = leaves(q.point)[i], features_of(q, i)
        if told is not None and self.groups is None and self.names is None:
            return Piece(*_own(p, told), held(background), words, len(background))
        labels, names = cut(p, self.groups, self.names if self.names is not None or isinstance(self.groups, Tensor) else shared_names(told), lead)
        return Piece(labels, (names,) * q.size, held(background), words, len(background))


def features_of(q: Question, i: int) -> Names | None:
    """The names that the model has for every row's features, where tensor i of the point is a table or parts that are present."""
    return q.model.features(q.x) if not q.places and len(leaves(q.point)) == 1 and leaves(q.point)[i].ndim == 2 else None


def shared_names(told: Names | None) -> tuple[str, ...] | None:
    """The names that all rows share, if they do."""
    return told[0] if told and len(set(told)) == 1 else None


def _own(p: Tensor, told: Names) -> tuple[Tensor, Names]:
    """A player for every feature that a row has; columns beyond them (of longer texts) are no players."""
    counts = torch.tensor([len(n) for n in told])
    j = torch.arange(p.shape[1]).expand(p.shape)
    return (j if int(counts.min()) == p.shape[1] else torch.where(j < counts[:, None], j, -1)), told


def cut(p: Tensor, groups: Any = None, names: Sequence[str] | None = None, lead: str = "") -> tuple[Tensor, tuple[str, ...]]:
    """(labels shaped like `p`, the players' names)."""
    if isinstance(groups, Tensor):
        return _given(groups, p, names)
    if groups is not None:
        return _grouped(groups, p, names)
    labels, n = _each(p)
    kind = "column" if p.ndim <= 2 else "position"
    if names is not None:
        return labels, _as_many(names, n, kind)
    return labels, tuple(f"{lead}{kind} {j}" for j in range(n))


def _as_many(names: Sequence[str], n: int, kind: str) -> tuple[str, ...]:
    if len(names) != n:
        raise UsageError(f"Names need one for each of {n} {kind}s; got {len(names)}.")
    return tuple(map(str, names))


def _each(p: Tensor) -> tuple[Tensor, int]:
    """A player for every column, position or pixel; channels go together."""
    shape = p.shape[1:]
    if p.ndim <= 2:
        n = int(shape.numel())
        lab = torch.arange(n).reshape(shape)
    elif p.ndim == 3:
        n = shape[0]
        lab = torch.arange(n)[:, None].expand(shape)
    else:
        n = int(torch.Size(shape[1:]).numel())
        lab = torch.arange(n).reshape(1, *shape[1:]).expand(shape)
    return lab.expand(p.shape), n


def _given(groups: Tensor, p: Tensor, names: Sequence[str] | None) -> tuple[Tensor, tuple[str, ...]]:
    lab, row = groups.detach().cpu().long(), p.shape[1:]
    if lab.ndim == len(row) and all(a in (1, b) for a, b in zip(lab.shape, row, strict=True)):
        lab = lab.expand(row).expand(p.shape)
    elif lab.ndim == p.ndim and all(a in (1, b) for a, b in zip(lab.shape, p.shape, strict=True)):
        lab = lab.expand(p.shape)
    else:
        raise UsageError(f"Labels need the shape of one row, {tuple(row)}, or of the point, {tuple(p.shape)}; got {tuple(groups.shape)}.")
    n = int(lab.max()) + 1 if lab.numel() else 0
    return lab, tuple(f"group {i}" for i in range(n)) if names is None else _as_many(names, n, "group")


def _grouped(groups: Any, p: Tensor, names: Sequence[str] | None) -> tuple[Tensor, tuple[str, ...]]:
    """Columns by group; those that no group names are players of their own."""
    if p.ndim < 2:
        raise UsageError("Groups of columns need a table or a sequence. Give labels as an integer tensor.")
    named = dict(groups) if isinstance(groups, Mapping) else {f"group {i}": g for i, g in enumerate(groups)}
    n = p.shape[1]
    own = _as_many(names, n, "column") if names is not None else tuple(f"column {j}" for j in range(n))
    column, players = torch.full((n,), -1), []
    for k, (name, members) in enumerate(named.items()):
        for m in [members] if isinstance(members, (int, str)) else members:
            j = own.index(m) if isinstance(m, str) and m in own else m
            if not isinstance(j, int) and not hasattr(j, "__index__") or not 0 <= int(j) < n or column[int(j)] >= 0:
                raise UsageError(f"Group {name!r} needs columns between 0 and {n - 1}, each in one group; got {m!r}.")
            column[int(j)] = k
        players.append(str(name))
    for j in range(n):
        if column[j] < 0:
            column[j] = len(players)
            players.append(own[j])
    lab = column.reshape(-1, *[1] * (p.ndim - 2)).expand(p.shape[1:])
    return lab.expand(p.shape), tuple(players)
