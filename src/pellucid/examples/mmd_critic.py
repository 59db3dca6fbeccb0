"""Prototypes and criticisms: rows that are typical, and rows that these do not speak for."""

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
class MmdCritic(Estimator):
    """Which rows are typical, and which are not spoken for by those?

    How: prototypes are added greedily so that the squared MMD between them (all of one weight) and all rows falls most; criticisms are the rows where the witness function, the
    difference of the two densities, is largest in size, kept apart by the log-determinant of their kernel. The kernel is Gaussian, as wide as the median distance.
    Units: a prototype's weight is one over their number; a criticism's weight is the witness function there, positive where prototypes are too few.
    Misleads when: distances mean little: many columns that do not matter weigh as much as those that do (give `at`, a layer, to measure as the model sees rows).
    Source: Kim, Khanna and Koyejo 2016, NeurIPS 29, equations 3, 6 and 7 (MMD-critic).
    """

    card = Card(title="MMD-critic", paper="Kim, Khanna and Koyejo 2016, NeurIPS 29", cost="1 forward row a row of data")
    count: int = param(6, "how many prototypes", ge=1)
    criticisms: int = param(3, "how many criticisms", ge=0)
    at: Any = param(None, "a layer's name: rows are compared by what it makes of them")

    def fit(self, q: Question) -> Examples:
        if self.count + self.criticisms > q.size:
            raise UsageError(f"mmd-critic needs at least as many rows as prototypes and criticisms; got {q.size} rows, count={self.count} and criticisms={self.criticisms}.")
        s = space_of(q, self.at)
        k = Kernel.of(s, q.seed)
        chosen, near = typical(k, self.count)
        equal = np.full(len(chosen), 1 / len(chosen))
        witness = k.mean - near.mean(1)
        critics = critical(k, witness, chosen, self.criticisms)
        rng = np.random.default_rng(q.seed)
        chance = [np.sqrt(k.discrepancy(rng.choice(q.size, len(chosen), replace=False), equal)) for _ in range(DRAWS)]
        examples = (*described(q, s, chosen.tolist(), equal.tolist(), "prototype"), *described(q, s, critics.tolist(), witness[critics].tolist(), "criticism"))
        return Examples(
            examples=examples, space=s.words, width=k.width, discrepancy=float(np.sqrt(k.discrepancy(chosen, equal))), chance=(float(np.mean(chance)), float(np.std(chance))),
            notes=(f"kernel width {k.width:.4g}: the median distance between rows in {s.words}",),
        )  # fmt: skip


def typical(k: Kernel, count: int) -> tuple[Whole, Floats]:
    """Greedy prototypes, and the kernel of all rows with each."""
    chosen, near = np.empty(0, np.int64), np.empty((len(k.mean), 0))
    inside, reached = 0.0, 0.0
    for m in range(1, count + 1):
        worth = 2 / m * (reached + k.mean) - (inside + 2 * near.sum(1) + 1.0) / m**2
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        inside, reached = inside + 2 * float(near[best].sum()) + 1.0, reached + float(k.mean[best])
        chosen = np.append(chosen, best)
        near = np.concatenate([near, k.columns(chosen[-1:])], 1)
    return chosen, near


def critical(k: Kernel, witness: Floats, taken: Whole, count: int) -> Whole:
    """Greedy criticisms: the size of the witness function, and the log-determinant of the kernel among them by its Schur complement."""
    chosen, near = np.empty(0, np.int64), np.empty((len(witness), 0))
    for _ in range(count):
        left = np.ones(len(witness))
        if len(chosen):
            left -= (near @ np.linalg.inv(near[chosen] + 1e-10 * np.eye(len(chosen))) * near).sum(1)
        worth = np.abs(witness) + np.log(np.maximum(left, 1e-12))
        worth[np.concatenate([taken, chosen])] = -np.inf
        chosen = np.append(chosen, int(worth.argmax()))
        near = np.concatenate([near, k.columns(chosen[-1:])], 1)
    return chosen
