"""Conditions on one column, in words and on codes; and tables as numbers that trees of scikit-learn split on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..modalities.columns import Column

Floats = NDArray[np.float64]
GONE = -1.0
"""The level that stands for a missing word."""
INF = float("inf")
MOST_LEVELS = 50
"""Words of a column that are asked after one by one, the most frequent ones."""


@dataclass(frozen=True)
class Condition:
    """What a cell has to be: low < code <= high, or one of `levels` (none of them where `same` is False); `missing` says whether a missing number fits."""

    column: Column
    at: int
    low: float = -INF
    high: float = INF
    levels: tuple[float, ...] = ()
    same: bool = True
    missing: bool = False

    def holds(self, codes: Floats) -> NDArray[np.bool_]:
        """(n,) for which rows."""
        x = codes[:, self.at]
        if self.levels:
            return np.isin(np.where(np.isnan(x), GONE, x), self.levels) == self.same
        return np.where(np.isnan(x), self.missing, (x > self.low) & (x <= self.high))

    def both(self, other: "Condition") -> "Condition":
        """Both at once, of one column."""
        if not self.levels:
            return replace(self, low=max(self.low, other.low), high=min(self.high, other.high), missing=self.missing and other.missing)
        if self.same and other.same:
            return replace(self, levels=tuple(v for v in self.levels if v in other.levels) or (INF,))
        if self.same or other.same:
            yes, no = (self, other) if self.same else (other, self)
            return replace(yes, levels=tuple(v for v in yes.levels if v not in no.levels) or (INF,))
        return replace(self, levels=tuple(sorted({*self.levels, *other.levels})))

    @property
    def text(self) -> str:
        """As people say it."""
        name = self.column.name
        if self.levels:
            other = self._other()
            known = [self.column.word(float("nan") if v == GONE else v) for v in ([other] if other is not None else self.levels)]
            return f"{name} is {'' if self.same or other is not None else 'not '}{listed(known)}"
        if self.low == -INF and self.high == INF:
            return f"{name} is known" if not self.missing else f"{name} is anything"
        if self.low >= self.high:
            return f"{name} is missing" if self.missing else f"{name} is nothing"
        return self._range(name) + (" or missing" if self.missing else "")

    def _other(self) -> float | None:
        """The one word that is left where all others are ruled out."""
        if self.same or self.column.missing:
            return None
        left = [v for v in range(len(self.column.values) or 2) if v not in self.levels]
        return float(left[0]) if len(left) == 1 else None

    def _range(self, name: str) -> str:
        c = self.column
        if c.kind == "date":
            ends = [f"after {c.word(self.low)}" if self.low > -INF else "", f"until {c.word(self.high)}" if self.high < INF else ""]
            return f"{name} {' and '.join(t for t in ends if t)}"
        whole = c.kind == "whole"
        low, high = (np.floor(self.low) + 1 if whole and self.low > -INF else self.low), (np.floor(self.high) if whole and self.high < INF else self.high)
        least, sign = _number(c, low), "≤" if whole else "<"
        if self.high == INF:
            return f"{name} {'≥' if whole else '>'} {least}"
        if self.low == -INF:
            return f"{name} ≤ {_number(c, high)}"
        return f"{name} = {least}" if whole and low == high else f"{least} {sign} {name} ≤ {_number(c, high)}"


def _number(c: Column, v: float) -> str:
    return "" if abs(v) == INF else c.word(v).replace("-", "−")


def listed(words: Sequence[str], joint: str = "or") -> str:
    """ "a, b or c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}"


def merged(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """One condition a column, in the order of their first."""
    out: dict[int, Condition] = {}
    for c in conditions:
        out[c.at] = out[c.at].both(c) if c.at in out else c
    return tuple(out.values())


# -- tables as numbers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Coding:
    """Rows of codes as single-precision features: numbers, and a flag for every word of a column of words.

    Numbers that single precision cannot tell apart (dates, identifiers) are replaced by their ranks: trees ask for nothing but order.
    """

    columns: tuple[Column, ...]
    ranked: tuple[Floats, ...]
    """Of each column the numbers seen, where they are replaced by their ranks; else nothing."""
    features: tuple[tuple[int, float | None], ...]

    @classmethod
    def of(cls, columns: Sequence[Column], codes: Floats) -> "Coding":
        """The coding of a table's rows."""
        seen, features = [], list[tuple[int, float | None]]()
        for j, c in enumerate(columns):
            x = codes[:, j]
            real = np.unique(x[~np.isnan(x)])
            seen.append(real if len(np.unique(real.astype(np.float32))) < len(real) else np.empty(0))
            features += [(j, None)] if c.ordered else [(j, v) for v in levels_of(x)]
        return cls(tuple(columns), tuple(seen), tuple(features))

    def matrix(self, codes: Floats) -> NDArray[np.float32]:
        """(n, F) the features."""
        out = np.empty((len(codes), len(self.features)), np.float32)
        for f, (j, level) in enumerate(self.features):
            x = codes[:, j]
            if level is None:
                out[:, f] = np.where(np.isnan(x), np.nan, np.searchsorted(self.ranked[j], x)) if len(self.ranked[j]) else x
            else:
                out[:, f] = np.where(np.isnan(x), GONE, x) == level
        return out

    def split(self, feature: int, goes_left: NDArray[np.bool_], codes: Floats) -> tuple[Condition, Condition]:
        """(left, right) conditions of a split, from the rows at its node and which of them go left."""
        j, level = self.features[feature]
        column, x = self.columns[j], codes[:, j]
        if level is not None:
            return Condition(column, j, levels=(level,), same=False), Condition(column, j, levels=(level,))
        left, right = x[goes_left & ~np.isnan(x)], x[~goes_left & ~np.isnan(x)]
        gone = goes_left[np.isnan(x)]
        if not len(left) or not len(right):
            alone, known = Condition(column, j, INF, -INF, missing=True), Condition(column, j)
            return (known, alone) if len(left) else (alone, known)
        t = float((left.max() + right.min()) / 2)
        t = float(left.max()) if t >= right.min() else t
        return Condition(column, j, high=t, missing=bool(gone.any())), Condition(column, j, low=t, missing=bool((~gone).any()))


def levels_of(x: Floats) -> list[float]:
    """The words of a column of words that are asked after: both of two need one flag, of many the most frequent."""
    values, counts = np.unique(np.where(np.isnan(x), GONE, x), return_counts=True)
    if len(values) <= 2:
        return [float(values[-1])] if len(values) == 2 else []
    return [float(v) for v in np.sort(values[np.argsort(-counts, kind="stable")[:MOST_LEVELS]])]
