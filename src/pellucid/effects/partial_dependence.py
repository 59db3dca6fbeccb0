"""Partial dependence: the mean answer when a column is set to one value in all rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, Needs, param
from ..core.estimator import Estimator
from ..core.question import Question
from ..modalities.association import strong_ties
from ._curves import Curve, Effects, Surface, spread, thinned
from ._grid import counted, grid, near
from ._rows import Cohort, Sheet, drawn, part_of, with_cells


@dataclass(frozen=True, kw_only=True)
class PartialDependence(Estimator):
    """What does the model answer on average if this column held that, everything else being as it is?

    How: every row is asked about with the column set to each grid point; the curve is the mean over rows, its error the standard error of that mean.
    The rows' own curves (individual conditional expectation, ICE) are kept: where they are not parallel, the column works together with others.
    Units: target units. Differences along a curve are effects; its level is the mean answer. `curve.centred()` starts every row's curve at zero (c-ICE).
    Misleads when: columns depend on each other: rows are asked about that never occur (the notes name such columns; accumulated-local-effects
    stays near the data), or effects of opposite sign cancel in the mean (look at the rows' own curves).
    Source: Friedman 2001, doi:10.1214/aos/1013203451, section 8.2; Goldstein et al. 2015, arXiv:1309.6392.
    """

    card = Card(title="Partial dependence", paper="doi:10.1214/aos/1013203451", needs=Needs.VALUE, cost="`grid` forward rows a row and column, the square of `pair_grid` for a pair", random=True)
    columns: Any = param(None, 'names of columns; ("a", "b") or "a:b" for a pair; None: those that move the answer most')
    grid: int = param(20, "points on a column of numbers, at quantiles; words and few values are all taken", ge=2, unit="points")
    pair_grid: int = param(10, "points on each column of a pair", ge=2, unit="points")
    rows: int = param(1000, "rows that are asked about, of every group; drawn at random where there are more", ge=2, unit="rows")
    by: Any = param(None, "a column, or a label for every row: a curve for each group")

    def fit(self, q: Question) -> Effects:
        sheet = Sheet.of(q)
        picks, told = sheet.chosen(self.columns, by=self.by)
        cohorts, left = sheet.cohorts(self.by)
        rows, few, taken = drawn(cohorts, self.rows, q.seed)
        part, notes = part_of(q, rows), [*told, *left, *taken]
        curves: list[Curve] = []
        surfaces: list[Surface] = []
        for pick in picks:
            grids = [grid(sheet.columns[j], sheet.codes[:, j], self.grid if len(pick) == 1 else self.pair_grid) for j in pick]
            notes += [note for _, note in grids if note]
            if len(pick) == 1:
                curves += self._curves(sheet, part, pick[0], grids[0][0], cohorts, few)
            else:
                surfaces += self._surfaces(sheet, part, (pick[0], pick[1]), (grids[0][0], grids[1][0]), cohorts, few)
        used = list(dict.fromkeys(j for pick in picks for j in pick))
        notes += [f"{t}: some of the rows that were asked about do not occur; see accumulated-local-effects" for t in strong_ties(sheet.codes, sheet.columns, used)]
        return Effects(curves=tuple(curves), surfaces=tuple(surfaces), measure="mean answer", notes=tuple(notes))

    def _curves(self, sheet: Sheet, part: Question, j: int, at: Any, cohorts: tuple[Cohort, ...], few: tuple[Cohort, ...]) -> list[Curve]:
        answers = with_cells(part, [j], at[:, None]).T
        place, c = near(at, sheet.codes[:, j], sheet.columns[j].ordered), sheet.columns[j]
        return [
            Curve(c, at, answers[own.rows].mean(0), spread(answers[own.rows]), counted(place[whole.rows], len(at)), len(whole.rows), whole.name, answers[own.rows],
                  tuple(part.ids[i] for i in own.rows), (), thinned(sheet.codes[whole.rows, j]))
            for whole, own in zip(cohorts, few, strict=True)
        ]  # fmt: skip

    def _surfaces(self, sheet: Sheet, part: Question, pick: tuple[int, int], at: tuple[Any, Any], cohorts: tuple[Cohort, ...], few: tuple[Cohort, ...]) -> list[Surface]:
        """Line by line, so that memory holds one line of the grid."""
        n, m = len(at[0]), len(at[1])
        value, error = np.empty((len(few), n, m)), np.empty((len(few), n, m))
        for i, a in enumerate(at[0]):
            answers = with_cells(part, pick, np.stack([np.full(m, a), at[1]], 1)).T
            for k, own in enumerate(few):
                value[k, i], error[k, i] = answers[own.rows].mean(0), spread(answers[own.rows])
        columns = (sheet.columns[pick[0]], sheet.columns[pick[1]])
        place = [near(g, sheet.codes[:, j], c.ordered) for g, j, c in zip(at, pick, columns, strict=True)]
        out = []
        for k, whole in enumerate(cohorts):
            both = np.where((place[0] >= 0) & (place[1] >= 0), place[0] * m + place[1], -1)[whole.rows]
            out.append(Surface(columns, at, value[k], error[k], counted(both, n * m).reshape(n, m), len(whole.rows), whole.name))
        return out
