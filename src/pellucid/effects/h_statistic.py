"""Friedman and Popescu's H: how much of what two columns do is done only together."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, param
from ..core.errors import UsageError
from ..core.estimator import Estimator, Fitted
from ..core.points import Points
from ..core.question import Question
from ..core.tree import leaves
from ._rows import Floats, Places, Sheet, asked, part_of, some

FOLDS = 10
"""Groups of rows that are left out in turn for the error."""
FAINT = 0.05
"""Below this share of the answers' spread, what two columns do is too little to be divided by."""


@dataclass(frozen=True)
class Together:
    """How much one column does together with another, or with all others (`other` None)."""

    column: str
    other: str | None
    value: float
    """H, 0: nothing is done together; 1: everything is. Not a number where nothing at all is done."""
    error: float
    strength: float
    """The spread of what is done only together, in target units."""
    faint: bool
    """Whether H divides by almost nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions(Fitted):
    """H of pairs and of columns against all others, the strongest first."""

    pairs: tuple[Together, ...] = ()
    totals: tuple[Together, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """A line a pair, then a line a column against all others."""
        return [{"column": t.column, "other": t.other or "all others", "h": None if t.value != t.value else t.value, "error": None if t.error != t.error else t.error,
                 "strength": t.strength, "faint": t.faint} for t in (*self.pairs, *self.totals)]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HStatistic(Estimator):
    """Which columns work together, so that neither's effect can be told without the other?

    How: the part of two columns' joint partial dependence that is not the sum of their own, its spread over that of the whole: H is the root.
    A column's total H compares the answer with the column's own part plus that of all others. Errors: a jackknife over groups of rows.
    Units: none, 0 to 1 (above where noise is divided by little); `strength` is in target units and can be compared between pairs.
    Misleads when: two columns do next to nothing (H is noise over nothing: such pairs are marked, look at the strength), rows are few (H is biased upwards),
    or columns depend on each other (it asks about rows that never occur).
    Source: Friedman and Popescu 2008, doi:10.1214/07-AOAS148, equations 44 to 46.
    """

    card = Card(title="H-statistic of interactions", paper="doi:10.1214/07-AOAS148", needs=Needs.VALUE, random=True, cost="`rows` squared forward rows for a pair, twice as many for a column")
    columns: Any = param(None, "names of columns; None: those that move the answer most")
    rows: int = param(80, "rows, each of which is asked about with the columns of each; drawn at random where there are more", ge=4, unit="rows")

    def fit(self, q: Question) -> Interactions:
        sheet = Sheet.of(q, least=4)
        picks, told = sheet.chosen(self.columns, pairs=False)
        if len(picks) < 2:
            raise UsageError(f"Interactions need at least 2 columns; got {sheet.columns[picks[0][0]].name!r} alone.")
        rows = some(np.arange(len(sheet.codes)), self.rows, np.random.default_rng(q.seed))
        part, places = part_of(q, rows), [p[0] for p in picks]
        folds = np.arange(len(rows)) % min(FOLDS, len(rows))
        alone = {j: crossed(part, [j]) for j in places}
        answers = np.diag(alone[places[0]])
        rest = {j: crossed(part, [k for k in range(len(sheet.columns)) if k != j]) for j in places}
        pairs = [together(sheet.columns[a].name, sheet.columns[b].name, crossed(part, [a, b]), [alone[a], alone[b]], answers, folds) for a, b in itertools.combinations(places, 2)]
        totals = [together(sheet.columns[j].name, None, np.repeat(answers[:, None], len(rows), 1), [alone[j], rest[j]], answers, folds) for j in places]
        notes = [*told] + ([f"{len(rows):,} of {len(sheet.codes):,} rows, drawn at random"] if len(rows) < len(sheet.codes) else [])
        faint = [f"{t.column} and {t.other}" for t in pairs if t.faint]
        notes += [f"H divides by almost nothing for {'; '.join(faint[:6])}{', ...' if len(faint) > 6 else ''}: look at the strength"] if faint else []
        return Interactions(pairs=_sorted(pairs), totals=_sorted(totals), notes=tuple(notes))


def crossed(q: Question, places: list[int]) -> Floats:
    """(B, B) answers [i, b] on row b with the columns `places` of row i."""
    x, where = leaves(q.point)[0], torch.as_tensor(places)

    def make(s: Tensor, rows: Tensor) -> Tensor:
        z = x[rows.to(x.device)].clone()
        z[:, where] = x[s.to(x.device)][:, where]
        return z

    return asked(q, Points(q.size, make))


def together(first: str, second: str | None, joint: Floats, parts: list[Floats], answers: Floats, folds: Places) -> Together:
    """H with its jackknife error, rows left out group by group."""
    every = np.arange(len(answers))
    h, strength, size = _h(joint, parts, every)
    left = np.array([_h(joint, parts, every[folds != k])[0] for k in np.unique(folds)])
    error = float(np.sqrt((len(left) - 1) * left.var())) if np.isfinite(left).all() else float("nan")
    return Together(first, second, h, error, strength, bool(size < FAINT * answers.std()))


def _h(joint: Floats, parts: list[Floats], rows: Places) -> tuple[float, float, float]:
    """(H, spread of what is done together, spread of all that is done)."""
    whole = _centred(joint[np.ix_(rows, rows)].mean(1))
    only = whole - sum(_centred(p[np.ix_(rows, rows)].mean(1)) for p in parts)
    size, strength = float(np.sqrt((whole**2).mean())), float(np.sqrt((only**2).mean()))
    return (strength / size if size > 1e-12 * float(np.abs(joint).max(initial=0.0)) else float("nan")), strength, size


def _centred(v: Floats) -> Floats:
    return v - v.mean()


def _sorted(found: list[Together]) -> tuple[Together, ...]:
    return tuple(sorted(found, key=lambda t: -t.strength))
