"""A table's columns: what each holds, and its cells as numbers that turn back into the very same cells."""

import datetime
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import UnknownName, UsageError
from ..core.question import Question
from ..core.tree import leaves

KINDS = ("number", "whole", "flag", "category", "date")
"""What a column may hold: fractions, whole numbers, yes or no, words, points in time."""
SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class Column:
    """One column: its kind, the range of what was seen, and, of words, which there are. A cell's code is a number; NaN means missing.

    Codes: numbers are themselves, flags 0 and 1, a word its place in `values`, dates seconds since 1970.
    """

    name: str
    kind: str = "number"
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    missing: bool = False
    dtype: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"Column {self.name!r} needs to be of one of the kinds {', '.join(KINDS)}; got {self.kind!r}.")

    @property
    def ordered(self) -> bool:
        """Whether more and less mean something."""
        return self.kind not in ("category", "flag")

    def word(self, code: float) -> str:
        """A cell as people write it."""
        if code != code:
            return "missing"
        if self.values:
            return str(self.values[round(code)])
        if self.kind == "date":
            return str(np.datetime64(round(code), "s")).replace("T00:00:00", "")
        return f"{code:.0f}" if self.kind == "whole" else f"{code:.6g}"

    def code(self, cell: Any) -> float:
        """The number that stands for a cell; a word that was never seen is refused."""
        if cell is None or cell != cell or type(cell).__name__ in ("NAType", "NaTType"):
            return float("nan")
        if self.values:
            if cell not in self.values:
                raise UnknownName(f"value of column {self.name!r}", str(cell), list(map(str, self.values)))
            return float(self.values.index(cell))
        try:
            return _seconds(cell) if self.kind == "date" else float(cell)
        except (TypeError, ValueError):
            raise UsageError(f"Column {self.name!r} holds {self.kind}s; got {cell!r}.") from None

    def fitted(self, code: float) -> float:
        """The nearest code that is a cell: whole numbers and words have no halves."""
        return float(round(code)) if code == code and self.kind in ("whole", "flag", "category") else code


def columns_of(q: Question) -> tuple[Column, ...]:
    """The columns of the table that a question is about: those it was asked with, or what its numbers look like."""
    known = getattr(q.model, "table", None)
    if known is not None:
        return tuple(known)
    tables = [t for t in leaves(q.x) if hasattr(t, "ndim") and t.ndim == 2]
    if len(tables) != 1 or len(leaves(q.x)) != 1:
        raise UsageError("This needs a table: rows of numbers, (rows, columns), or a DataFrame.")
    told = q.model.features(q.x)
    rows = tables[0].detach().double().cpu().numpy()
    return described(rows, told[0] if told else [f"column {j}" for j in range(rows.shape[1])])


def described(rows: Any, names: Sequence[str]) -> tuple[Column, ...]:
    """The columns of rows of numbers."""
    return tuple(_ranged(Column(str(name), _kind(codes)), codes) for name, codes in zip(names, np.asarray(rows, np.float64).T, strict=True))


def read(frame: Any, kinds: Mapping[str, str] | None = None) -> tuple[tuple[Column, ...], NDArray[np.float64]]:
    """The columns of a DataFrame and its rows as codes. `kinds` says what a column holds where that cannot be seen: {"zip": "category"}."""
    kinds = dict(kinds or {})
    for name in kinds:
        if name not in map(str, frame.columns):
            raise UnknownName("column", name, list(map(str, frame.columns)))
    if not frame.columns.is_unique:
        raise UsageError(f"A table needs a name of its own for every column; it holds {frame.columns[frame.columns.duplicated()][0]!r} twice.")
    pairs = [_read(frame.iloc[:, j], str(name), kinds.get(str(name))) for j, name in enumerate(frame.columns)]
    return tuple(c for c, _ in pairs), np.stack([codes for _, codes in pairs], 1) if pairs else np.empty((len(frame), 0))


def coded(columns: Sequence[Column], frame: Any) -> NDArray[np.float64]:
    """The rows of another DataFrame with the same columns, as codes."""
    for c in columns:
        if c.name not in map(str, frame.columns):
            raise UnknownName("column", c.name, list(map(str, frame.columns)), f"The table needs the columns {', '.join(k.name for k in columns[:8])}{', ...' if len(columns) > 8 else ''}.")
    place = {str(name): j for j, name in enumerate(frame.columns)}
    return np.stack([_codes(c, frame.iloc[:, place[c.name]]) for c in columns], 1)


def framed(columns: Sequence[Column], codes: Any, like: Any) -> Any:
    """Codes as a DataFrame of the type of `like`, every column of the type that it was read from."""
    cells = {j: _cells(c, np.asarray(codes, np.float64)[:, j], like.dtypes.iloc[j]) for j, c in enumerate(columns)}
    out = type(like)(cells)
    out.columns = like.columns
    return out


# -- one column ------------------------------------------------------------------------------------------------------


def _read(cells: Any, name: str, kind: str | None) -> tuple[Column, NDArray[np.float64]]:
    seen = cells.dtype
    if kind is None:
        kind = "date" if seen.kind == "M" else "flag" if seen.kind == "b" else "category" if seen.kind not in "iuf" else ""
    known = getattr(seen, "categories", None)
    values = tuple(known) if known is not None else _words(cells) if kind in ("category", "flag") else ()
    column = Column(name, kind or "number", values, dtype=seen)
    codes = _codes(column, cells)
    return _ranged(replace(column, kind=kind or _kind(codes)), codes), codes


def _words(cells: Any) -> tuple[Any, ...]:
    """What a column of words holds, in order."""
    seen = [v.item() if isinstance(v, np.generic) else v for v in cells.dropna().unique()]
    return tuple(sorted(seen, key=lambda v: (str(type(v)), v) if isinstance(v, (str, int, float)) else (str(type(v)), str(v))))


def _codes(c: Column, cells: Any) -> NDArray[np.float64]:
    gone = cells.isna().to_numpy(dtype=bool)
    out = np.full(len(cells), np.nan)
    if c.values:
        place = {v: float(i) for i, v in enumerate(c.values)}
        try:
            out[~gone] = [place[v] for v in cells[~gone].tolist()]
        except KeyError as e:
            raise UnknownName(f"value of column {c.name!r}", str(e.args[0]), list(map(str, c.values))) from None
    elif c.kind == "date":
        stamps = cells.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(cells.dtype, "tz", None) is not None else cells
        out[~gone] = (stamps[~gone].to_numpy("datetime64[us]") - np.datetime64(0, "us")) / SECOND
    else:
        try:
            out[~gone] = cells[~gone].to_numpy(dtype=np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"Column {c.name!r} needs numbers; got {cells[~gone].iloc[0]!r}.") from None
    return out


def _cells(c: Column, codes: NDArray[np.float64], dtype: Any) -> Any:
    """Codes as cells of a type; where whole numbers or flags get gaps, the column widens."""
    pandas = importlib.import_module("pandas")
    gone, own = np.isnan(codes), isinstance(dtype, np.dtype)
    if c.values:
        known = np.empty(len(c.values) + 1, dtype=object)
        known[:-1] = c.values
        words = known[np.where(gone, len(c.values), codes).round().astype(np.int64)]
        return words.astype(dtype) if own and not gone.any() else pandas.array(words, dtype=object if own else dtype)
    if c.kind == "date":
        stamps = pandas.Series(np.where(gone, np.datetime64("NaT", "us"), np.datetime64(0, "us") + np.round(np.where(gone, 0, codes) * 1e6).astype("timedelta64[us]")))
        return (stamps if getattr(dtype, "tz", None) is None else stamps.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)).astype(dtype).array
    if not own:
        return pandas.array(np.where(gone, None, codes), dtype=dtype)  # type: ignore[call-overload]
    whole = not gone.any() and bool((codes == np.round(codes)).all())
    return codes.astype(dtype) if dtype.kind == "f" or whole else codes


def _kind(codes: NDArray[np.float64]) -> str:
    real = codes[~np.isnan(codes)]
    if len(real) and ((real == 0) | (real == 1)).all():
        return "flag"
    return "whole" if len(real) and (real == np.round(real)).all() else "number"


def _ranged(c: Column, codes: NDArray[np.float64]) -> Column:
    real = codes[~np.isnan(codes)]
    low, high = (float(real.min()), float(real.max())) if len(real) else (0.0, 0.0)
    return replace(c, low=low, high=high, missing=len(real) < len(codes))


def _seconds(cell: Any) -> float:
    stamp = cell.to_pydatetime() if hasattr(cell, "to_pydatetime") else cell
    if isinstance(stamp, datetime.datetime) and stamp.tzinfo is not None:
        stamp = stamp.astimezone(datetime.UTC).replace(tzinfo=None)
    return float((np.datetime64(stamp, "us") - np.datetime64(0, "us")) / SECOND)


def as_codes(rows: NDArray[np.float64]) -> torch.Tensor:
    """Rows of codes as what a question is asked about."""
    return torch.from_numpy(np.ascontiguousarray(rows, np.float64))
