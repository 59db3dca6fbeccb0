"""Players made of the elements of any tensor: columns of a table, positions of a sequence, groups of either, at the input or at a layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board, shared_evenly
from ..core.question import Question
from ..core.start import Samples
from ..core.tree import Tree, leaves


@dataclass(frozen=True)
class FeatureMasker:
    """Players are groups of elements; an absent one holds what the question's baseline holds there.

    `groups` None makes a player of every column (of the last axis of a table) or of every position (of a sequence or a picture, all channels
    together); a mapping {"address": [3, 4]} or a list of lists groups columns; an integer tensor shaped like one row, or like the point, labels elements.
    With many baselines (`pel.Samples`) a coalition is worth the mean over all of them.
    """

    groups: Any = None
    names: Sequence[str] | None = None

    def board(self, q: Question) -> Board:
        labels, names = self.labels(q)
        background, words = backgrounds(q)
        return label_board(q, labels, names, background, words)

    def labels(self, q: Question) -> tuple[list[Tensor], tuple[str, ...]]:
        """(labels shaped like each tensor of the point, the players' names)."""
        parts = leaves(q.point)
        if isinstance(self.groups, Tensor):
            return _given(self.groups, parts)
        if self.groups is not None:
            return _grouped(self.groups, parts)
        labels, names, start = [], [], 0
        for i, p in enumerate(parts):
            lab, n = _each(p)
            labels.append(lab + start)
            kind = "column" if p.ndim == 2 else "position"
            own = self.names if self.names is not None and len(parts) == 1 else None
            lead = f"input {i} " if len(parts) > 1 else ""
            names += list(own) if own is not None and len(own) == n else [f"{lead}{kind} {j}" for j in range(n)]
            start += n
        return labels, tuple(names)


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


def _given(groups: Tensor, parts: list[Tensor]) -> tuple[list[Tensor], tuple[str, ...]]:
    if len(parts) != 1:
        raise UsageError(f"Labels in one tensor need one explained tensor; the point holds {len(parts)}. Give groups by name.")
    lab = groups.long()
    row = parts[0].shape[1:]
    if lab.ndim == len(row) and all(a in (1, b) for a, b in zip(lab.shape, row, strict=True)):
        lab = lab.expand(row).expand(parts[0].shape)
    elif lab.shape != parts[0].shape:
        raise UsageError(f"Labels need the shape of one row, {tuple(row)}, or of the point, {tuple(parts[0].shape)}; got {tuple(lab.shape)}.")
    return [lab], tuple(f"group {i}" for i in range(int(lab.max()) + 1))


def _grouped(groups: Any, parts: list[Tensor]) -> tuple[list[Tensor], tuple[str, ...]]:
    """Columns by group; those that no group names are players of their own."""
    if len(parts) != 1 or parts[0].ndim < 2:
        raise UsageError("Groups of columns need one explained table or sequence. Give labels as an integer tensor.")
    named = dict(groups) if isinstance(groups, Mapping) else {f"group {i}": g for i, g in enumerate(groups)}
    n = parts[0].shape[1]
    column, names = torch.full((n,), -1), []
    for k, (name, members) in enumerate(named.items()):
        for m in members:
            if not 0 <= int(m) < n or column[int(m)] >= 0:
                raise UsageError(f"Group {name!r} needs columns between 0 and {n - 1}, each in one group; got {m}.")
            column[int(m)] = k
        names.append(str(name))
    for j in range(n):
        if column[j] < 0:
            column[j] = len(names)
            names.append(f"column {j}")
    lab = column.reshape(-1, *[1] * (parts[0].ndim - 2)).expand(parts[0].shape[1:])
    return [lab.expand(parts[0].shape)], tuple(names)


def backgrounds(q: Question) -> tuple[list[Tensor], str]:
    """([(D, B, ...) or (1, B, ...)] what absent elements hold, in words)."""
    if isinstance(q.baseline, Samples):
        own = q.baseline
        found = []
        for k in range(own.n):
            found.append(leaves(q.with_baseline(tuple(p[k] for p in own.parts)).start))
        return [torch.stack(t) for t in zip(*found, strict=True)], "those of a background row"
    return [t[None] for t in leaves(q.start)], f"the baseline {q.baseline}" if isinstance(q.baseline, (int, float, str)) else "the baseline"


def label_board(q: Question, labels: list[Tensor], names: tuple[str, ...] | tuple[tuple[str, ...], ...], background: list[Tensor], absent: str) -> Board:
    """A board whose players are labelled elements of the point (-1: always there)."""
    parts = leaves(q.point)
    per_row = names if names and isinstance(names[0], tuple) else (names,) * q.size

    def make(present: Tensor, rows: Tensor, copies: Tensor) -> Tree:
        there = torch.cat([present, present.new_ones(len(present), 1)], 1)  # label -1 reads the last column
        out = []
        for p, lab, b in zip(parts, labels, background, strict=True):
            seen = there.to(p.device).gather(1, _last(lab[rows], there.shape[1]).flatten(1).to(p.device)).reshape(len(rows), *p.shape[1:])
            out.append(torch.where(seen, p[rows], b[copies, rows]))
        return tuple(out)

    return Board(q, per_row, absent, make, shared_evenly(labels, parts, q.pack), labels[0] if len(labels) == 1 else None, len(background[0]))  # type: ignore[arg-type]


def _last(lab: Tensor, n: int) -> Tensor:
    return torch.where(lab < 0, n - 1, lab)
