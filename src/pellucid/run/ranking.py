"""Which of several methods is better on one metric: tests over the same rows, with effect sizes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.05
FEWEST = 6
"""Independent rows below which the smallest p value of a signed-rank test is above the level."""
Scores = Sequence[float | None]


@dataclass(frozen=True)
class Pair:
    """Two methods on the same rows: how much better the first is, and whether that could be chance.

    `difference` is the mean over independent rows, positive where `first` is better, with its 95 % interval; `effect` the matched-pairs rank-biserial
    correlation, from -1 to 1; `p` of the Wilcoxon signed-rank test, `adjusted` by Holm over all pairs of the metric.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    effect: float
    p: float
    adjusted: float

    @property
    def told(self) -> bool:
        """Whether the two can be told apart."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class Ranking:
    """The order of the methods on one metric: mean ranks over rows (1 is best), and what chance could do.

    `p` is Friedman's, None where fewer than three methods or too few rows leave it without a meaning; `distance` Nemenyi's critical distance of mean ranks.
    """

    metric: str
    better: str
    rows: int
    ranks: dict[str, float]
    p: float | None
    distance: float | None
    pairs: tuple[Pair, ...]

    @property
    def best(self) -> str:
        """The method with the lowest mean rank."""
        return min(self.ranks, key=lambda k: self.ranks[k]) if self.ranks else ""

    def alike(self) -> tuple[str, ...]:
        """The methods that cannot be told from the best."""
        apart = {p.second if p.first == self.best else p.first for p in self.pairs if p.told and self.best in (p.first, p.second)}
        return tuple(k for k in self.ranks if k != self.best and k not in apart)

    def words(self) -> str:
        """What the tests say, in a sentence or two."""
        if len(self.ranks) < 2:
            return f"On {self.metric} fewer than two methods could be compared."
        if self.rows < FEWEST:
            return f"On {self.metric}, {self.best} is ahead on these {self.rows} row{'s' * (self.rows != 1)}; a test needs at least {FEWEST} independent rows, so this is no ranking of the methods."
        alike = self.alike()
        tie = f"; {', '.join(alike)} cannot be told from it" if alike else "; all others are worse beyond chance"
        p = "" if self.p is None else f" Friedman p {self.p:.2g}{f', critical distance of mean ranks {self.distance:.2f}' if self.distance else ''}."
        return f"On {self.metric}, {self.best} is best over {self.rows} rows{tie} (Wilcoxon, Holm).{p}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"metric": self.metric, "better": self.better, "rows": self.rows, "ranks": dict(self.ranks), "friedman_p": self.p,
                "critical_distance": self.distance, "pairs": [vars(p) for p in self.pairs]}  # fmt: skip


def ranking(metric: str, better: str, scores: Mapping[str, Scores], groups: Sequence[object]) -> Ranking:
    """Ranks methods by (name: a score a row); rows of one group count once, rows that a method could not be scored on not at all."""
    table = _clusters(scores, groups)
    names = list(scores)
    if better == "lower":
        table = -table
    k, n = len(names), table.shape[1]
    ranks = {name: float(v) for name, v in zip(names, _ranked(-table).mean(1), strict=True)} if n else {}
    pairs = _pairs(names, table) if n and k > 1 else []
    return Ranking(metric, better, n, ranks, _friedman(table) if k > 2 and n >= FEWEST else None, _distance(k, n) if k > 2 and n >= FEWEST else None, tuple(_holm(pairs)))


def _clusters(scores: Mapping[str, Scores], groups: Sequence[object]) -> np.ndarray:
    """(methods, groups) means over the rows on which every method has a score."""
    raw = np.array([[math.nan if v is None else v for v in row] for row in scores.values()], dtype=float).reshape(len(scores), -1)
    whole = np.isfinite(raw).all(0) if len(raw) else np.zeros(0, dtype=bool)
    found: dict[object, list[int]] = {}
    for i in np.flatnonzero(whole).tolist():
        found.setdefault(groups[i], []).append(i)
    return np.stack([raw[:, i].mean(1) for i in found.values()], 1) if found else np.empty((len(scores), 0))


def _ranked(table: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(table, axis=0))


def _friedman(table: np.ndarray) -> float | None:
    from scipy.stats import friedmanchisquare

    if np.allclose(np.ptp(table, axis=0), 0):
        return 1.0
    return float(friedmanchisquare(*table).pvalue)


def _distance(k: int, n: int) -> float:
    """Nemenyi's critical distance of mean ranks at the 5 % level: Demsar 2006, section 3.2.2."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - LEVEL, k, np.inf) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n)))


def _pairs(names: list[str], table: np.ndarray) -> list[Pair]:
    return [_pair(names[i], names[j], table[i] - table[j]) for i in range(len(names)) for j in range(i + 1, len(names))]


def _pair(a: str, b: str, d: np.ndarray) -> Pair:
    from scipy.stats import t, wilcoxon

    n, mean = len(d), float(d.mean())
    half = float(t.ppf(0.975, n - 1) * d.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
    moved = d[d != 0]
    p = float(wilcoxon(moved).pvalue) if len(moved) >= FEWEST else 1.0
    size = _ranked(np.abs(moved)[None].T)[:, 0] if len(moved) else moved
    effect = float(np.sign(moved) @ size / size.sum()) if len(moved) else 0.0
    return Pair(a, b, mean, mean - half, mean + half, effect, p, p)


def _holm(pairs: list[Pair]) -> list[Pair]:
    """Holm 1979: the smallest p times the number of pairs, the next times one less, and never smaller than the one before."""
    worst, out = 0.0, {}
    for rank, i in enumerate(sorted(range(len(pairs)), key=lambda i: pairs[i].p)):
        worst = max(worst, min(1.0, pairs[i].p * (len(pairs) - rank)))
        out[i] = worst
    return [Pair(**{**vars(p), "adjusted": out[i]}) for i, p in enumerate(pairs)]
