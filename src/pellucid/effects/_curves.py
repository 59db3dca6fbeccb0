"""Effects as they are handed over: a curve for every column and group of rows, a surface for every pair."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.estimator import Fitted
from ..modalities.columns import Column
from ._rows import EVERYBODY, Floats, Places


@dataclass(frozen=True, eq=False)
class Curve:
    """One column's effect on one group of rows, at codes `at` (NaN: missing, always last)."""

    column: Column
    at: Floats
    value: Floats
    error: Floats
    """Standard error of each value over rows; NaN where one row is all there is."""
    count: Places
    """Rows of the data at or near each point; for accumulated effects those in the bin that ends there."""
    rows: int
    cohort: str = EVERYBODY
    single: Floats | None = None
    """(rows, points) the curve of every row that was asked about."""
    ids: tuple[Any, ...] = ()
    """Names of those rows."""
    own: tuple[tuple[float, float], ...] = ()
    """(code, answer) of the row itself, for profiles of a row."""
    seen: Floats = field(default_factory=lambda: np.empty(0))
    """Known cells of the data, in order, thinned to at most a thousand."""

    @property
    def words(self) -> tuple[str, ...]:
        """The points as people write them."""
        return tuple(self.column.word(c) for c in self.at)

    @property
    def known(self) -> Places:
        """Places of the points that are not "missing"."""
        return np.flatnonzero(~np.isnan(self.at))

    def centred(self) -> "Curve":
        """Every row's curve less its own first value: what is left is how each row's answer moves. Errors are those of the differences."""
        if self.single is None:
            return Curve(self.column, self.at, self.value - self.value[0], self.error, self.count, self.rows, self.cohort, None, self.ids, (), self.seen)
        moved = self.single - self.single[:, :1]
        return Curve(self.column, self.at, moved.mean(0), spread(moved), self.count, self.rows, self.cohort, moved, self.ids, (), self.seen)


@dataclass(frozen=True, eq=False)
class Surface:
    """The effect of two columns together on one group of rows; cells with `count` 0 were never seen together."""

    columns: tuple[Column, Column]
    at: tuple[Floats, Floats]
    value: Floats
    error: Floats
    count: Places
    rows: int
    cohort: str = EVERYBODY


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects(Fitted):
    """How answers depend on columns: `curves` of single ones, `surfaces` of pairs."""

    curves: tuple[Curve, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    measure: str = "mean answer"
    """What the vertical axis shows."""
    relative: bool = False
    """Whether values are differences, whose zero means "as on average"."""

    def curve(self, column: str, cohort: str | None = None) -> Curve:
        """The curve of a column, of a group where there are several."""
        from ..core.errors import UnknownName

        mine = [c for c in self.curves if c.column.name == column]
        if not mine:
            raise UnknownName("column among the curves", column, [c.column.name for c in self.curves])
        named = [c for c in mine if cohort in (None, c.cohort)]
        if not named:
            raise UnknownName("group of rows", str(cohort), [c.cohort for c in mine])
        return named[0]

    def table(self) -> list[dict[str, Any]]:
        """A line for every point: the column, the group of rows, the cell, its effect, the standard error, and how many rows of the data are near."""
        lines = [
            {"column": c.column.name, "cohort": c.cohort, "value": w, "effect": float(v), "error": None if e != e else float(e), "rows": int(n)}
            for c in self.curves for w, v, e, n in zip(c.words, c.value, c.error, c.count, strict=True)
        ]  # fmt: skip
        for s in self.surfaces:
            a, b = s.columns
            lines += [
                {"column": f"{a.name}:{b.name}", "cohort": s.cohort, "value": f"{a.word(s.at[0][i])}:{b.word(s.at[1][j])}", "effect": float(s.value[i, j]),
                 "error": None if np.isnan(s.error[i, j]) else float(s.error[i, j]), "rows": int(s.count[i, j])}
                for i in range(len(s.at[0])) for j in range(len(s.at[1]))
            ]  # fmt: skip
        return lines


def spread(answers: Floats) -> Floats:
    """(G,) the standard error of the mean of (rows, G) answers; NaN of a single row."""
    n = len(answers)
    return answers.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(answers.shape[1], np.nan)


def thinned(cells: Floats, most: int = 1_000) -> Floats:
    """Known cells in order, evenly thinned."""
    known = np.sort(cells[~np.isnan(cells)])
    return known[np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int))] if len(known) else known
