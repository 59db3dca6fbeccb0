"""Weighted prototypes: few rows that together look like all."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, param
from ..core.errors import UsageError
from ..core.estimator import Estimator
from ..core.question import Question
from ._rows import Examples, described
from ._space import Floats, Kernel, Whole, space_of

DRAWS = 20
"""Random choices of the same size that the prototypes are compared with."""


@dataclass(frozen=True, kw_only=True)
class ProtoDash(Estimator):
    """Which few rows, each with a weight, stand for the whole table?

    How: greedily the row along which l(w) = w·μ - w·K·w / 2 rises most, then the best non-negative weights of all chosen rows (least squares); K is a Gaussian kernel whose
    width is the median distance between rows, μ its mean over all rows. The MMD reached is given beside that of random rows with their own best weights.
    Units: weights say how much of the table a prototype stands for; they sum to about 1.
    Misleads when: distances mean little: many columns that do not matter weigh as much as those that do (give `at`, a layer, to measure as the model sees rows).
    Source: Gurumoorthy, Dhurandhar, Cecchi and Aggarwal 2019, arXiv:1707.01212, algorithm 1 (ProtoDash).
    """

    card = Card(title="ProtoDash", paper="arXiv:1707.01212", cost="1 forward row a row of data")
    count: int = param(6, "how many prototypes", ge=1)
    at: Any = param(None, "a layer's name: rows are compared by what it makes of them")

    def fit(self, q: Question) -> Examples:
        if self.count > q.size:
            raise UsageError(f"proto-dash needs at least as many rows as prototypes; got {q.size} rows and count={self.count}.")
        s = space_of(q, self.at)
        k = Kernel.of(s, q.seed)
        chosen, weights = dash(k, self.count)
        order = np.argsort(-weights, kind="stable")
        chosen, weights = chosen[order], weights[order]
        rng = np.random.default_rng(q.seed)
        others = [rng.choice(q.size, len(chosen), replace=False) for _ in range(DRAWS)]
        chance = [np.sqrt(k.discrepancy(c, weighted(k.columns(c)[c], k.mean[c]))) for c in others]
        return Examples(
            examples=described(q, s, chosen.tolist(), weights.tolist(), "prototype"), space=s.words, width=k.width, discrepancy=float(np.sqrt(k.discrepancy(chosen, weights))),
            chance=(float(np.mean(chance)), float(np.std(chance))), notes=(f"kernel width {k.width:.4g}: the median distance between rows in {s.words}",),
        )  # fmt: skip


def dash(k: Kernel, count: int) -> tuple[Whole, Floats]:
    """The rows in the order in which they were chosen, and their weights; fewer where no other row helps."""
    chosen, weights = np.empty(0, np.int64), np.empty(0)
    near = np.empty((len(k.mean), 0))
    for _ in range(count):
        gain = k.mean - near @ weights
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        if gain[best] <= 1e-12:
            break
        chosen = np.append(chosen, best)
        near = np.concatenate([near, k.columns(chosen[-1:])], 1)
        weights = weighted(near[chosen], k.mean[chosen])
    return chosen, weights


def weighted(k: Floats, mean: Floats) -> Floats:
    """The weights of at least zero that make w·mean - w·k·w / 2 largest: with k = L L', those nearest to L' w = L^-1 mean."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    root = np.linalg.cholesky(k + 1e-10 * np.eye(len(k)))
    out: Floats = nnls(root.T, solve_triangular(root, mean, lower=True))[0]
    return out
