"""Tables of any columns: a row is mixed of its own cells and those of a background row, and no cell is invented."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Needs
from ..core.errors import UnknownName, UsageError
from ..core.question import Samples

if TYPE_CHECKING:
    from .function import FunctionModel

SHOWN = 100
"""Explained rows that stand in for a background, at most."""


def posed(model: "FunctionModel", frame: Any, baseline: Any) -> "tuple[FunctionModel, Any, Any]":
    """The question which cells of a DataFrame's rows are there: 1 is the row's own cell, -d that of background row d."""
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
        raise UsageError(f"{model.name} takes tables; got {type(frame).__name__}. Give a DataFrame: rows as df.iloc[[3]], with two pairs of brackets.")
    trees, background = getattr(model, "trees", None) if Needs.TREES in model.can else None, given_rows(baseline)
    if trees is not None and not hasattr(background, "iloc"):
        background = frame  # the trees' own paths need no other rows; what else is asked takes cells of those that are explained
    if not hasattr(background, "iloc"):
        raise UsageError(f"A table needs rows that absent cells are taken from; got {background!r} as the baseline. Give baseline=train, a DataFrame with the same columns (--background FILE).")
    wanted = list(model.columns) if model.columns is not None else list(frame.columns)
    own, other = (_chosen(f, wanted, model.name, what) for f, what in ((frame, "the rows"), (background, "the background")))
    if background is frame:
        other = other.iloc[np.unique(np.linspace(0, len(other) - 1, min(SHOWN, len(other))).round().astype(int))]
    mix = Mixed(model.function, _pooled(own, other), len(own), len(other))
    twin = model.twin(mix, takes="tensor", columns=[str(c) for c in wanted], parts=_cells(own))
    behind = f"; the evidence hides cells behind those of {'explained' if background is frame else 'background'} row {mix.middle}" if len(other) > 1 else ""
    whose = "another" if background is frame else "a background"
    twin.notes += [f"a table's row is mixed of its own cells and those of {whose} row, and no cell is invented{behind}", *_extra(frame, wanted)]
    twin.absent = "the background row's cells" if len(other) == 1 else "the cells of a background row"
    x = {"present": torch.ones(len(own), len(wanted), dtype=torch.float64), "row": torch.arange(len(own))}
    absent = -torch.arange(len(other), dtype=torch.float64)[:, None].expand(-1, len(wanted))
    if trees is None:
        return twin, x, Samples(absent) if len(other) > 1 else 0
    twin.can |= Needs.TREES
    twin.trees = lambda _: trees.of_table(mix)  # type: ignore[method-assign]
    return twin, x, Explained(absent) if background is frame else Samples(absent)


class Explained(Samples):
    """Where a model of trees was given no background: the explained rows stand in for what is absent, wherever anything but the trees' own paths is asked."""

    given = False

    def __repr__(self) -> str:
        return f"none given; {self.n} of the explained rows where one is needed"


def given_rows(baseline: Any) -> Any:
    """The rows inside what was given as a baseline; a table of none is refused."""
    rows = baseline.parts[0] if isinstance(baseline, Samples) and len(baseline.parts) == 1 else baseline
    if hasattr(rows, "iloc") and not len(rows):
        raise UsageError("A background needs at least one row; this one is a table without rows.")
    return rows


def as_frame(table: Any) -> Any:
    """Tables of polars, Arrow and their like as a DataFrame, by their own way; anything else as it is."""
    if hasattr(table, "iloc") or not hasattr(table, "to_pandas"):
        return table
    try:
        return table.to_pandas()
    except ImportError as e:
        whose = type(table).__module__.partition(".")[0]
        raise UsageError(f"A {whose} table becomes a DataFrame by its own to_pandas(), which needs the package {e.name!r}. Install it: pip install {e.name}.") from None


def _extra(frame: Any, wanted: Sequence[Any]) -> list[str]:
    """What the model does not take."""
    extra = [str(c) for c in frame.columns if c not in wanted]
    if not extra:
        return []
    were = "s that the model does not take were" if len(extra) > 1 else " that the model does not take was"
    return [f"{len(extra)} column{were} left out: {', '.join(extra[:6])}{', ...' if len(extra) > 6 else ''}"]


def numbers(model: "FunctionModel", frame: Any, baseline: Any) -> "tuple[FunctionModel, Any, Any] | None":
    """A table of numbers alone, as rows of them, for models whose trees read such; None for any other."""
    wanted = list(model.columns) if model.columns is not None else list(frame.columns)
    tables = [_chosen(f, wanted, model.name, what) for f, what in ((frame, "the rows"), (given_rows(baseline), "the background")) if hasattr(f, "iloc")]
    if any(d.kind not in "fiub" for t in tables for d in t.dtypes):
        return None
    rows = [t.to_numpy("float64") for t in tables]
    twin = model.twin(model.function, takes="array", columns=[str(c) for c in wanted])
    twin.notes += _extra(frame, wanted)
    return twin, rows[0], Samples(rows[1]) if len(rows) > 1 else baseline


@dataclass(frozen=True, eq=False)
class Mixed:
    """A function on tables, asked by which cells are there."""

    function: Any
    pool: Any
    """The explained rows, then the background's."""
    own: int
    others: int

    @property
    def middle(self) -> int:
        """The background row that half-way between all of them means."""
        return round((self.others - 1) / 2)

    def cells(self, present: Tensor, row: Tensor) -> Any:
        """Of every cell the row of the pool that it is taken from."""
        which = (-present).round().clamp(0, self.others - 1).long() + self.own
        return torch.where(present > 0.5, row[:, None], which).cpu().numpy()

    def __call__(self, present: Tensor, row: Tensor) -> Any:
        cells = self.cells(present, row)
        columns = {j: self.pool.iloc[:, j].array.take(cells[:, j]) for j in range(cells.shape[1])}
        mixed = type(self.pool)(columns)
        mixed.columns = self.pool.columns
        return self.function(mixed)


def _chosen(frame: Any, wanted: Sequence[Any], name: str, what: str) -> Any:
    """The columns that the model takes, in its order."""
    if not frame.columns.is_unique:
        raise UsageError(f"A table needs a name of its own for every column; {what} hold {frame.columns[frame.columns.duplicated()][0]!r} twice.")
    for column in wanted:
        if column not in frame.columns:
            raise UnknownName(f"column in {what}", str(column), map(str, frame.columns), f"{name} takes {', '.join(map(str, wanted[:8]))}{', ...' if len(wanted) > 8 else ''}.")
    return frame[list(wanted)]


def _pooled(own: Any, other: Any) -> Any:
    """Both tables as one, in the background's types: the model was fitted on such."""
    for j, column in enumerate(own.columns):
        mine, theirs = own.dtypes.iloc[j], other.dtypes.iloc[j]
        if mine != theirs:
            own = own.assign(**{str(column): _as_type(own.iloc[:, j], theirs)}) if isinstance(column, str) else own
    pool = type(own)({j: _joined(own.iloc[:, j], other.iloc[:, j]) for j in range(own.shape[1])})
    pool.columns = own.columns
    return pool


def _as_type(cells: Any, dtype: Any) -> Any:
    """The explained cells in the background's type; numbers may become wider, and nothing is lost in silence."""
    if dtype.kind in "iu" and cells.dtype.kind == "f":
        return cells  # a fraction or a gap in a column of whole numbers: the join widens the background's
    if hasattr(dtype, "categories"):
        strange = ~cells.isin(dtype.categories) & ~cells.isna()
        if strange.any():
            raise UsageError(f"Column {cells.name!r} needs one of the background's values; {cells[strange].iloc[0]!r} is none of them.")
    try:
        return cells.astype(dtype)
    except (ValueError, TypeError):
        raise UsageError(f"Column {cells.name!r} needs cells of type {dtype}, as in the background; got {cells.iloc[0]!r}.") from None


def _joined(a: Any, b: Any) -> Any:
    """Two columns one under the other."""
    if a.dtype == b.dtype:
        return a.array._concat_same_type([a.array, b.array])
    numbers = a.dtype.kind in "iufb" and b.dtype.kind in "iufb"
    kind = "float64" if numbers else object
    return a.astype(kind).array._concat_same_type([a.astype(kind).array, b.astype(kind).array])


def _cells(own: Any) -> tuple[tuple[str, ...], ...]:
    """Every cell by its column and what it holds."""
    told = [_column(name, own.iloc[:, j].tolist()) for j, name in enumerate(own.columns)]
    return tuple(zip(*told, strict=True))


def _column(name: Any, cells: list[Any]) -> list[str]:
    """Of equal cells there is one text."""
    if not all(isinstance(c, Hashable) for c in cells):
        return [f"{name} = {_word(c)}" for c in cells]
    keys = [(type(c), c) for c in cells]
    known = {key: f"{name} = {_word(key[1])}" for key in dict.fromkeys(keys)}
    return [known[key] for key in keys]


def _word(cell: Any) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
