"""Local differences added up: the arithmetic of accumulated effects, with errors from the spread within bins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..modalities.columns import Column
from ._rows import Floats, Places

POINTS = 200
"""Places at which distributions are compared."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """Points of a column in order, and on which step between two of them each row stands."""

    at: Floats
    step: Places
    """(rows,) the step below each row's cell, the first for the lowest; -1: not on the ladder (missing, or a word that is not shown)."""
    passed: Floats
    """(rows, steps) which share of each step lies below the row's cell."""

    @property
    def steps(self) -> int:
        return len(self.at) - 1


def ladder(at: Floats, cells: Floats, ordered: bool) -> Ladder:
    """Rows on the ladder of numbers in order, or of words in the order given."""
    if ordered:
        filled, off = np.nan_to_num(cells, nan=at[0]), np.isnan(cells)
        step = np.clip(np.searchsorted(at, filled, side="left") - 1, 0, max(len(at) - 2, 0))
        passed = np.clip((filled[:, None] - at[None, :-1]) / np.diff(at)[None], 0, 1)
    else:
        same = cells[:, None] == at[None]
        rank, off = same.argmax(1), ~same.any(1)
        step = np.maximum(rank - 1, 0)
        passed = (rank[:, None] > np.arange(len(at) - 1)[None]).astype(float)
    return Ladder(at, np.where(off, -1, step), passed)


@dataclass(frozen=True, eq=False)
class Climb:
    """Differences of answers: row `row` says that step `step` is worth `worth`."""

    row: Places
    step: Places
    worth: Floats

    def of(self, rows: Places, n: int) -> "Climb":
        """Those of some rows."""
        mine = np.isin(self.row, rows)
        return Climb(self.row[mine], self.step[mine], self.worth[mine])


def means(climb: Climb, steps: int, spare: Floats | None = None) -> tuple[Floats, Places]:
    """(steps,) the mean of each step and how many rows say so; where none does, `spare`."""
    n = np.bincount(climb.step, minlength=steps)
    total = np.bincount(climb.step, climb.worth, minlength=steps)
    return np.where(n > 0, total / np.maximum(n, 1), 0.0 if spare is None else spare), n


def climbed(climb: Climb, centre: Floats, spare: Floats | None = None) -> tuple[Floats, Floats]:
    """(steps + 1,) heights above the rows' mean height, and their standard errors.

    How: height k is the sum of the steps below it, less the mean over rows, `centre` being the share of rows beyond each step. A row that speaks for
    several steps counts as one row: errors come from each row's whole influence.
    """
    steps = len(centre)
    mean, n = means(climb, steps, spare)
    adds = np.tril(np.ones((steps + 1, steps)), -1) - centre[None]
    if not steps:
        return np.zeros(1), np.zeros(1)
    rest = _residuals(climb, mean, n)
    if rest is None:
        return adds @ mean, np.full(steps + 1, np.nan)
    rows, line = np.unique(climb.row, return_inverse=True)
    influence = np.zeros((len(rows), steps))
    np.add.at(influence, (line, climb.step), rest / n[climb.step])
    return adds @ mean, np.sqrt(((influence @ adds.T) ** 2).sum(0))


def _residuals(climb: Climb, mean: Floats, n: Places) -> Floats | None:
    """What each row says beyond the mean, widened for small bins; a row alone in its bin gets the spread of the others. None where every row is alone."""
    rest = climb.worth - mean[climb.step]
    mine = n[climb.step]
    free = (n[n > 1] - 1).sum()
    if not free:
        return None
    pooled = np.sqrt((rest**2).sum() / free)
    return np.where(mine > 1, rest * np.sqrt(mine / np.maximum(mine - 1, 1)), pooled)


# -- two columns ---------------------------------------------------------------------------------------------------------


def joint(a: Places, b: Places, worth: Floats, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """(K + 1, M + 1) heights of what two columns do together beyond what each does alone, and their standard errors; (K, M) are the bins."""
    cell = a * shape[1] + b
    size = shape[0] * shape[1]
    n = np.bincount(cell, minlength=size)
    mean = np.bincount(cell, worth, minlength=size) / np.maximum(n, 1)
    rest = _residuals(Climb(cell, cell, worth), mean, n)
    from_ = nearest_filled(n.reshape(shape) > 0).reshape(-1)
    height = alone_removed(mean[from_].reshape(shape), n.reshape(shape))
    if rest is None:
        return height, np.full(height.shape, np.nan)
    error = np.bincount(cell, rest**2, minlength=size) / np.maximum(n, 1) ** 2
    unit = np.eye(size)[:, from_].reshape(size, *shape)
    return height, np.sqrt(np.tensordot(error, alone_removed(unit, n.reshape(shape)) ** 2, 1))


def nearest_filled(filled: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Places:
    """(K, M) for each cell the place of the nearest one with rows: itself where it has some."""
    has = np.argwhere(filled)
    every = np.argwhere(np.ones_like(filled))
    best = ((every[:, None] - has[None]) ** 2).sum(2).argmin(1)
    return np.asarray((has[best, 0] * filled.shape[1] + has[best, 1]).reshape(filled.shape))


def alone_removed(step: Floats, n: Places) -> Floats:
    """(..., K + 1, M + 1) second differences (..., K, M) added up, less what each column does alone, weighted by rows (Apley and Zhu, equations 17 to 19)."""
    g = np.zeros((*step.shape[:-2], step.shape[-2] + 1, step.shape[-1] + 1))
    g[..., 1:, 1:] = step.cumsum(-2).cumsum(-1)
    up, across = np.diff(g, axis=-2), np.diff(g, axis=-1)
    first = (_shares(n, 1) * (up[..., :-1] + up[..., 1:]) / 2).sum(-1).cumsum(-1)
    second = (_shares(n, 0) * (across[..., :-1, :] + across[..., 1:, :]) / 2).sum(-2).cumsum(-1)
    g[..., 1:, :] -= first[..., :, None]
    g[..., :, 1:] -= second[..., None, :]
    corners = (g[..., :-1, :-1] + g[..., 1:, :-1] + g[..., :-1, 1:] + g[..., 1:, 1:]) / 4
    return np.asarray(g - ((n / n.sum()) * corners).sum((-2, -1))[..., None, None])


def _shares(n: Places, axis: int) -> Floats:
    """Each bin's share of its line's rows; equal shares where a line has none."""
    total = n.sum(axis, keepdims=True)
    return np.where(total > 0, n / np.maximum(total, 1), 1 / n.shape[axis])


# -- the order of words ------------------------------------------------------------------------------------------------


def by_likeness(levels: Floats, j: int, codes: Floats, columns: Sequence[Column]) -> Floats:
    """Words in an order in which neighbours are alike in the other columns: distances of their distributions, laid on a line by multidimensional scaling."""
    if len(levels) < 3 or getattr(columns[j].dtype, "ordered", False):
        return levels
    of = [codes[codes[:, j] == level] for level in levels]
    far = np.zeros((len(levels), len(levels)))
    for k, c in enumerate(columns):
        if k != j:
            far += _apart([rows[~np.isnan(rows[:, k]), k] for rows in of], c.ordered)
    middle = np.eye(len(levels)) - 1 / len(levels)
    line = np.linalg.eigh(middle @ (far**2) @ middle / -2)[1][:, -1]
    forward = (line * (np.arange(len(levels)) - (len(levels) - 1) / 2)).sum() >= 0
    return levels[np.argsort(line if forward else -line, kind="stable")]


def _apart(cells: Sequence[Floats], ordered: bool) -> Floats:
    """(L, L) how far the distributions lie apart: Kolmogorov-Smirnov of ordered cells, half the sum of differences of words' shares."""
    every = np.unique(np.concatenate(cells))
    if not len(every):
        return np.zeros((len(cells), len(cells)))
    if ordered:
        every = every[np.unique(np.linspace(0, len(every) - 1, min(POINTS, len(every))).round().astype(int))]
        shares = np.stack([np.searchsorted(np.sort(v), every, side="right") / max(len(v), 1) for v in cells])
        return np.asarray(np.abs(shares[:, None] - shares[None]).max(2))
    shares = np.stack([(v[:, None] == every[None]).mean(0) if len(v) else np.zeros(len(every)) for v in cells])
    return np.asarray(np.abs(shares[:, None] - shares[None]).sum(2) / 2)
