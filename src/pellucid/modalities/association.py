"""How much columns of a table tell of each other: one number from 0 to 1 a pair, whatever they hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Column

Floats = NDArray[np.float64]
ROWS = 2_000
"""Rows that are looked at, evenly spaced."""
STRONG = 0.5
"""From here on, columns are said to go together."""


@dataclass(frozen=True)
class Tie:
    """How strongly a column goes with another one, and by which measure."""

    column: str
    other: str
    strength: float
    measure: str

    def __str__(self) -> str:
        return f"{self.column} goes with {self.other} ({self.measure} {self.strength:.2f})"


def ties(codes: Floats, columns: Sequence[Column], j: int) -> list[Tie]:
    """What column `j` goes with, the strongest first.

    How: ordered columns by the size of their rank correlation, words by Cramer's V, a mixed pair by the correlation ratio of ranks.
    Rows in which either is missing say nothing.
    """
    rows = np.unique(np.linspace(0, len(codes) - 1, min(ROWS, len(codes))).round().astype(int))
    part = codes[rows]
    found = [_tie(part[:, j], part[:, k], columns[j], columns[k]) for k in range(len(columns)) if k != j]
    return sorted(found, key=lambda t: -t.strength)


def strong_ties(codes: Floats, columns: Sequence[Column], places: Sequence[int]) -> list[Tie]:
    """For each of these columns the one that it goes with most, where that is strong; a pair is told once."""
    best = [found[0] for j in places if (found := ties(codes, columns, j)) and found[0].strength >= STRONG]
    told: dict[frozenset[str], Tie] = {}
    for t in best:
        told.setdefault(frozenset((t.column, t.other)), t)
    return list(told.values())


def _tie(a: Floats, b: Floats, first: Column, second: Column) -> Tie:
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Tie(first.name, second.name, 0.0, "|r|")
    if first.ordered and second.ordered:
        return Tie(first.name, second.name, abs(_correlation(_ranks(a), _ranks(b))), "|r|")
    if not first.ordered and not second.ordered:
        return Tie(first.name, second.name, _cramer(a, b), "V")
    return Tie(first.name, second.name, _ratio(_ranks(a), b) if first.ordered else _ratio(_ranks(b), a), "eta")


def _ranks(a: Floats) -> Floats:
    """Places in order, equal cells sharing the mean of theirs."""
    _, inverse, counts = np.unique(a, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _cramer(a: Floats, b: Floats) -> float:
    """Cramer's V, less what chance alone would give (Bergsma 2013, doi:10.1016/j.jkss.2012.10.002)."""
    x, y = (np.unique(v, return_inverse=True)[1] for v in (a, b))
    table = np.zeros((x.max() + 1, y.max() + 1))
    np.add.at(table, (x, y), 1)
    n, (r, c) = table.sum(), table.shape
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi = max(0.0, float(((table - expected) ** 2 / expected).sum() / n) - (r - 1) * (c - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(phi / least))) if least > 0 else 0.0


def _ratio(ranks: Floats, groups: Floats) -> float:
    """The correlation ratio: the share of the ranks' spread that lies between groups, its root, less what chance alone would give."""
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n, k = len(ranks), len(counts)
    if n <= k:
        return 0.0
    means = np.bincount(group, ranks) / counts
    whole = float(((ranks - ranks.mean()) ** 2).sum())
    within = float(((ranks - means[group]) ** 2).sum())
    return float(np.sqrt(max(0.0, 1 - (within / (n - k)) / (whole / (n - 1)))))
