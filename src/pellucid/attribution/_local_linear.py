"""Neighbours as a forest sees them, and the linear model among them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

RIDGE = 1e-3


@dataclass(frozen=True)
class Local:
    """(F,) contributions and their standard errors, R2 among the neighbours, and how many rows they are worth."""

    values: np.ndarray
    error: np.ndarray
    r2: float
    near: float


def neighbours(forest: Any, table: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(D,) weights that sum to one: in each tree, one over the size of the leaf for the rows that share it with `x`."""
    there, here = forest.apply(table), forest.apply(x[None])
    same = there == here
    return (same / np.maximum(same.sum(0), 1)).mean(1)


def stump_order(forest: Any, features: int) -> np.ndarray:
    """Features by how much impurity they take away at the roots of the trees, the best first (DStump)."""
    score = np.zeros(features)
    for tree in (t.tree_ for t in forest.estimators_):
        left, right = tree.children_left[0], tree.children_right[0]
        if left >= 0:
            n = tree.weighted_n_node_samples
            score[tree.feature[0]] += tree.impurity[0] - (n[left] * tree.impurity[left] + n[right] * tree.impurity[right]) / n[0]
    return np.argsort(-score, kind="stable")


def local_linear(forest: Any, table: np.ndarray, y: np.ndarray, x: np.ndarray, most: int) -> Local:
    """The weighted ridge regression among the neighbours of `x`, its slopes times how far `x` lies from their mean.

    Columns are scaled by their weighted deviation, so that the ridge treats them alike. Errors are sandwich estimates over rows.
    """
    w, kept = neighbours(forest, table, x), np.sort(stump_order(forest, table.shape[1])[:most])
    mean, middle = w @ table[:, kept], w @ y
    z, left = table[:, kept] - mean, y - middle
    scale = np.sqrt(w @ z**2)
    scale[scale <= 1e-12 * (1 + np.abs(mean))] = np.inf
    z = z / scale
    back = np.linalg.inv(z.T @ (z * w[:, None]) + RIDGE * np.eye(len(kept)))
    reach = (z @ back) * w[:, None]
    slope = reach.T @ left
    rest = left - z @ slope
    spread = np.sqrt((reach**2).T @ rest**2)
    away = (x[kept] - mean) / scale
    values, error = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    values[kept], error[kept] = slope * away, spread * np.abs(away)
    total = w @ left**2
    return Local(values, error, float(1 - (w @ rest**2) / total) if total > 1e-24 * (1 + middle**2) else 1.0, float(1 / (w @ w)))
