"""Where rows lie near each other: standardised numbers, words by equality, or what a layer makes of them; and the kernel on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.card import Needs
from ..core.errors import NotApplicable, UsageError
from ..core.progress import report
from ..core.question import Question
from ..core.tree import leaves
from ..modalities.columns import Column, columns_of

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
BLOCK = 1024
SAMPLED = 2000
"""Rows whose pairs give the kernel its width, at most."""


@dataclass(frozen=True, eq=False)
class Space:
    """(n, m) points whose squared distances are meant, the table they come from, and what they are in words."""

    points: Floats
    codes: Floats
    columns: tuple[Column, ...]
    words: str

    def squares(self, some: Whole) -> Floats:
        """(n, len(some)) squared distances."""
        a, b = self.points, self.points[some]
        d = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        d[d < 1e-12 * (1 + (b**2).sum(1))] = 0.0
        return d


def space_of(q: Question, at: Any) -> Space:
    """The rows of a question about a table, as they lie in its columns or at a layer."""
    columns = columns_of(q)
    codes = np.asarray(leaves(q.point)[0].detach().cpu().double().numpy(), dtype=np.float64)
    if at is None:
        return Space(embedded(columns, codes), codes, columns, "standardised columns; words by equality")
    if Needs.MODULES not in q.model.can:
        raise NotApplicable(f"at= needs a model with layers; {q.model.name} has none. Leave it out to compare rows by their columns.")
    inside = [t.detach().cpu().double().flatten(1).numpy() for t in leaves(q.at_layer(at).point)]
    h = np.concatenate(inside, 1)
    return Space((h - h.mean(0)) / np.where(h.std(0) > 1e-12, h.std(0), np.inf), codes, columns, f"standardised activations of {at}")


def embedded(columns: Sequence[Column], codes: Floats) -> Floats:
    """Rows as points, so that a squared distance is the sum over columns of: a number's squared difference in standard deviations, 2 for words that differ
    (what two draws of a standardised number differ by on average), 1 and a missing number's distance from the mean where one of two is missing."""
    parts = list[Floats]()
    for j, c in enumerate(columns):
        x = codes[:, j]
        gone = np.isnan(x)
        if c.ordered:
            known = x[~gone]
            mean, sd = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
            parts.append(np.where(gone, 0.0, (x - mean) / sd if sd > 0 else 0.0)[:, None])
            parts += [gone.astype(np.float64)[:, None]] if gone.any() else []
        else:
            seen = np.unique(np.where(gone, -1.0, x))
            parts.append((np.where(gone, -1.0, x)[:, None] == seen).astype(np.float64) if len(seen) > 1 else codes[:, :0])
    return np.concatenate([codes[:, :0], *parts], 1)


# -- the kernel ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kernel:
    """exp(-d^2 / (2 width^2)) between rows; `mean` is each row's mean over all, `whole` the mean of that."""

    space: Space
    width: float
    mean: Floats
    whole: float

    @classmethod
    def of(cls, space: Space, seed: int) -> "Kernel":
        """Its width is the median distance between rows that differ (of a sample of pairs, where there are many)."""
        n = len(space.points)
        some = np.random.default_rng(seed).choice(n, min(n, SAMPLED), replace=False)
        d = Space(space.points[some], space.codes, space.columns, "").squares(np.arange(len(some)))
        apart = d[np.triu_indices(len(some), 1)]
        apart = apart[apart > 0]
        if not len(apart):
            raise UsageError("Prototypes need rows that differ; all of these are equal.")
        made = cls(space, float(np.median(np.sqrt(apart))), np.empty(0), 0.0)
        mean = np.concatenate([made.columns(part).mean(0) for part in blocks(n)])
        return cls(space, made.width, mean, float(mean.mean()))

    def columns(self, some: Whole) -> Floats:
        """(n, len(some)) the kernel of all rows with some."""
        out: Floats = np.exp(self.space.squares(some) / (-2 * self.width**2))
        return out

    def discrepancy(self, some: Whole, weights: Floats) -> float:
        """MMD^2 between all rows and some of them, weighted."""
        k = self.columns(some)[some]
        return max(0.0, float(self.whole - 2 * weights @ self.mean[some] + weights @ k @ weights))


def blocks(n: int) -> Iterator[Whole]:
    """Rows in parts that fit in memory."""
    for start in range(0, n, BLOCK):
        report("comparing rows", start, n)
        yield np.arange(start, min(n, start + BLOCK))
