"""Ceteris paribus: how would this row's answer move if one of its cells were another?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, Needs, param
from ..core.errors import UsageError
from ..core.estimator import Estimator
from ..core.question import Question
from ..modalities.association import strong_ties
from ._curves import Curve, Effects, thinned
from ._grid import counted, grid, near
from ._rows import Places, Sheet, part_of, with_cells


@dataclass(frozen=True, kw_only=True)
class CeterisParibus(Estimator):
    """How would this row's answer move if one of its cells held something else, all others staying as they are?

    How: the row is asked about with the column at every grid point of the table; the row's own cell is marked.
    Units: target units, as the model answers.
    Misleads when: other columns would change along with this one (the notes name such columns), or the grid leads where no row like this one lies:
    bars below count rows of the whole table.
    Source: Goldstein et al. 2015, arXiv:1309.6392; Kuzba, Baranowska and Biecek 2019, doi:10.21105/joss.01389.
    """

    card = Card(title="Ceteris-paribus profiles", paper="doi:10.21105/joss.01389", needs=Needs.VALUE, scope="local", cost="`grid` + 1 forward rows a row and column")
    row: Any = param(0, "which rows of the table, by place: a number or a list; 0 is the first")
    columns: Any = param(None, "names of columns; None: those that move the answer most")
    grid: int = param(40, "points on a column of numbers, at quantiles; words and few values are all taken", ge=2, unit="points")

    def fit(self, q: Question) -> Effects:
        sheet = Sheet.of(q, least=1)
        rows = places_of(self.row, q.size)
        picks, told = sheet.chosen(self.columns, pairs=False)
        part, notes, curves = part_of(q, rows), [*told], []
        answer = part.target_values().detach().double().cpu().numpy()
        for (j,) in picks:
            c, cells = sheet.columns[j], sheet.codes[:, j]
            at, note = grid(c, cells, self.grid)
            own = sheet.codes[rows, j]
            at = np.concatenate([np.unique(np.append(at[~np.isnan(at)], own[~np.isnan(own)])), at[np.isnan(at)]])
            values = with_cells(part, [j], at[:, None]).T
            notes += [note] if note else []
            count = counted(near(at, cells, c.ordered), len(at))
            curves += [Curve(c, at, v, np.full(len(at), np.nan), count, len(cells), f"row {q.ids[r]}", None, (q.ids[r],), ((float(o), float(a)),), thinned(cells))
                       for r, v, o, a in zip(rows, values, own, answer, strict=True)]  # fmt: skip
        notes += [f"{t}: moved alone, it leads where few rows are" for t in strong_ties(sheet.codes, sheet.columns, [p[0] for p in picks])]
        return Effects(curves=tuple(curves), measure="profile", notes=tuple(notes))


def places_of(given: Any, size: int) -> Places:
    """Rows by their places."""
    rows = [given] if isinstance(given, (int, np.integer)) else list(given)
    for r in rows:
        if not isinstance(r, (int, np.integer)) or isinstance(r, bool) or not 0 <= r < size:
            raise UsageError(f"row needs places from 0 to {size - 1}, as the table has {size:,} rows; got {r!r}.")
    if not rows or len(rows) > 8:
        raise UsageError(f"row needs 1 to 8 rows, so that they can be told apart; got {len(rows)}.")
    return np.array(list(dict.fromkeys(int(r) for r in rows)))
