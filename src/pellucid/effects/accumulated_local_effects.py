"""Accumulated local effects: how answers move along a column, from rows that lie there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.card import Card, Needs, param
from ..core.estimator import Estimator
from ..core.question import Question
from ._curves import Curve, Effects, Surface, spread, thinned
from ._grid import counted, grid, near
from ._rows import EVERYBODY, Cohort, Floats, Places, Sheet, drawn, part_of, with_cells
from ._steps import Climb, Ladder, by_likeness, climbed, joint, ladder, means

FILLS = 10
"""Known cells that a missing one is compared with."""
FEW = 5
"""Rows below which a bin is named."""


@dataclass(frozen=True, kw_only=True)
class AccumulatedLocalEffects(Estimator):
    """How does the answer move along this column, for rows that are really there?

    How: rows are sorted into bins; in each, the answer with the bin's upper end in the column less that with its lower end, the mean over the bin's rows;
    these are added up from the left and centred at the rows' mean (rows between two ends count in proportion, so that of a straight line they are
    exact). Words stand in an order in which neighbours have like rows. A pair's second-order effect is what is left beyond both single ones.
    "missing" is how far the answers lie above those with the gap filled by known cells. Errors: from the spread between rows of a bin.
    Units: target units, about the mean of all rows, which is zero. Sums of effects are not the answer unless the model is a sum.
    Misleads when: a bin is wide, or holds few rows (counts are shown); columns work together, so that rows of one bin move apart (see h-statistic);
    between ends that no row connects, such as words that exclude each other.
    Source: Apley and Zhu 2020, arXiv:1612.08468, equations 15 to 19; order of words: appendix E.
    """

    card = Card(title="Accumulated local effects", paper="arXiv:1612.08468", needs=Needs.VALUE, random=True,
                cost="2 forward rows a row and column, 4 for a pair, 10 for a missing cell; of words 1 for each neighbour")  # fmt: skip
    columns: Any = param(None, 'names of columns; ("a", "b") or "a:b" for a pair; None: those that move the answer most')
    bins: int = param(20, "bins of a column of numbers, equally full", ge=1, unit="bins")
    pair_bins: int = param(8, "bins of each column of a pair", ge=1, unit="bins")
    rows: int = param(10000, "rows that are asked about, of every group; drawn at random where there are more", ge=2, unit="rows")
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
            ends = [self._ends(sheet, j, self.bins if len(pick) == 1 else self.pair_bins, notes) for j in pick]
            if len(pick) == 1:
                curves += self._curves(sheet, part, rows, pick[0], ends[0], few)
            else:
                surfaces += self._surfaces(sheet, part, rows, (pick[0], pick[1]), (ends[0], ends[1]), few)
        thin = [note for c in curves if (note := _thin(c))]
        notes += [f"fewer than {FEW} rows in {'; '.join(thin[:8])}{f'; and in {len(thin) - 8} more curves' if len(thin) > 8 else ''}"] if thin else []
        return Effects(curves=tuple(curves), surfaces=tuple(surfaces), measure="accumulated local effect", relative=True, notes=tuple(dict.fromkeys(notes)))

    def _ends(self, sheet: Sheet, j: int, bins: int, notes: list[str]) -> Floats:
        """The ends of a column's bins, or its words in order of likeness."""
        c, known = sheet.columns[j], sheet.known(j)
        if c.ordered:
            values = np.unique(known)
            return values if len(values) <= bins + 1 else np.unique(np.quantile(known, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
        values, told = grid(c, known, bins)
        notes += [told] if told else []
        return by_likeness(values, j, sheet.codes, sheet.columns)

    def _curves(self, sheet: Sheet, part: Question, rows: Places, j: int, ends: Floats, few: tuple[Cohort, ...]) -> list[Curve]:
        c, cells = sheet.columns[j], sheet.codes[rows, j]
        on = ladder(ends, cells, c.ordered)
        climb = (_numbers if c.ordered else _words)(part, j, on)
        spare = means(climb, on.steps)[0]
        gaps = _gaps(part, j, cells, sheet.known(j))
        out = []
        for own in few:
            here = own.rows[on.step[own.rows] >= 0]
            value, error = climbed(climb.of(here, len(cells)), on.passed[here].mean(0) if len(here) else np.zeros(on.steps), spare)
            at, count = ends, _ending(on, cells[here], c.ordered)
            lost = own.rows[np.isnan(cells[own.rows])]
            if len(lost):
                gap = gaps[lost][:, None]
                at, value, error, count = np.append(at, np.nan), np.append(value, gap.mean()), np.append(error, spread(gap)), np.append(count, len(lost))
            out.append(Curve(c, at, value, error, count, len(own.rows), own.name, seen=thinned(cells[own.rows])))
        return out

    def _surfaces(self, sheet: Sheet, part: Question, rows: Places, pick: tuple[int, int], ends: tuple[Floats, Floats], few: tuple[Cohort, ...]) -> list[Surface]:
        columns = (sheet.columns[pick[0]], sheet.columns[pick[1]])
        cells = [sheet.codes[rows, j] for j in pick]
        on = [ladder(e, v, c.ordered) for e, v, c in zip(ends, cells, columns, strict=True)]
        here = np.flatnonzero((on[0].step >= 0) & (on[1].step >= 0))
        shape = (on[0].steps, on[1].steps)
        a, b = on[0].step[here], on[1].step[here]
        corners = np.stack([np.stack([ends[0][a + i], ends[1][b + k]], 1) for i, k in ((0, 0), (1, 0), (0, 1), (1, 1))])
        f = with_cells(part_of(part, here), pick, corners) if min(shape) and len(here) else np.zeros((4, len(here)))
        worth = (f[3] - f[1]) - (f[2] - f[0])
        place = [near(e, v, c.ordered)[here] for e, v, c in zip(ends, cells, columns, strict=True)]
        out = []
        for own in few:
            mine = np.isin(here, own.rows)
            value, error = joint(a[mine], b[mine], worth[mine], shape) if min(shape) and mine.any() else (np.zeros((shape[0] + 1, shape[1] + 1)),) * 2
            count = counted(place[0][mine] * len(ends[1]) + place[1][mine], len(ends[0]) * len(ends[1])).reshape(len(ends[0]), len(ends[1]))
            out.append(Surface(columns, ends, value, error, count, len(own.rows), own.name))
        return out


def _numbers(part: Question, j: int, on: Ladder) -> Climb:
    """Every row says what its own bin is worth."""
    row = np.flatnonzero(on.step >= 0)
    if not on.steps or not len(row):
        return Climb(row[:0], row[:0], np.empty(0))
    step = on.step[row]
    low, high = with_cells(part_of(part, row), [j], np.stack([on.at[step], on.at[step + 1]])[..., None])
    return Climb(row, step, high - low)


def _words(part: Question, j: int, on: Ladder) -> Climb:
    """Every row says what it is worth to step to the word before its own, and to the one after."""
    row = np.flatnonzero(on.step >= 0)
    if not on.steps or not len(row):
        return Climb(row[:0], row[:0], np.empty(0))
    rank = on.passed[row].sum(1).astype(int)
    own, last = on.at[rank], len(on.at) - 1
    before, same, after = with_cells(part_of(part, row), [j], np.stack([on.at[np.maximum(rank - 1, 0)], own, on.at[np.minimum(rank + 1, last)]])[..., None])
    down, up = rank > 0, rank < last
    return Climb(np.append(row[down], row[up]), np.append(rank[down] - 1, rank[up]), np.append((same - before)[down], (after - same)[up]))


def _gaps(part: Question, j: int, cells: Floats, known: Floats) -> Floats:
    """(rows,) of rows with a gap: how far the answer lies above that with the gap filled by known cells, evenly over their quantiles."""
    out, row = np.full(len(cells), np.nan), np.flatnonzero(np.isnan(cells))
    if len(row):
        fills = np.quantile(known, (np.arange(FILLS) + 0.5) / FILLS, method="inverted_cdf")
        lost = part.take(torch.as_tensor(row))
        out[row] = lost.target_values().detach().double().cpu().numpy() - with_cells(lost, [j], fills[:, None]).mean(0)
    return out


def _ending(on: Ladder, cells: Floats, ordered: bool) -> Places:
    """(points,) rows in the bin that ends at each point; those with the lowest cell count for the first."""
    place = np.searchsorted(on.at, cells, side="left") if ordered else near(on.at, cells, False)
    return counted(np.minimum(place, len(on.at) - 1), len(on.at))


def _thin(c: Curve) -> str:
    """Names the bins that few rows speak for."""
    n = c.count[c.known]
    bins = np.append(n[0] + n[1], n[2:]) if len(n) > 1 and c.column.ordered else n
    few = int((bins < FEW).sum())
    whose = "" if c.cohort == EVERYBODY else f" ({c.cohort})"
    return f"{few} of {len(bins)} {'bins' if c.column.ordered else 'values'} of {c.column.name}{whose}" if few else ""
