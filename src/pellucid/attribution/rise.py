"""RISE: the answer seen through many random masks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._grid_masks import GridMasks
from ._settled import settled
from ._shapley import widened


@dataclass(frozen=True, kw_only=True)
class RISE(Method):
    """How much higher is the answer through random masks that show this place than through all of them?

    How: masks are drawn on a coarse grid, enlarged, and moved by a part of a cell; a value is E[f(masked) mask] / chance - E[f(masked)].
    The second term (RISE has the first alone) takes away what is the same everywhere and is mostly noise. Masks come in antithetic pairs until
    every error is below `tol`. A mask is a few bits: memory does not grow with their number.
    Units: target units at a pixel (channels share it), a position or a column; the values sum to nothing in particular.
    Misleads when: what decides is smaller than a cell, or the answer needs parts far apart at once: the map is smooth by construction.
    Source: Petsiuk, Das, Saenko 2018, arXiv:1806.07421, equation 6.
    """

    card = Card(
        title="RISE", paper="arXiv:1806.07421", needs=Needs.VALUE, cost="at most `budget` forward rows", baseline=True, random=True,
        promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    budget: int = param(4000, "masks that a row may be seen through", ge=8, unit="forward rows")
    tol: float = param(0.003, "error, as a share of f(point) - f(baseline), at which a row stops early; 0: the whole budget is spent", ge=0)
    cells: int = param(7, "cells of the grid along each axis of a picture or a sequence; columns of a table are a cell each", ge=1)
    chance: float = param(0.5, "chance with which a cell is shown", ge=0.05, le=0.95)

    def attribute(self, q: Question) -> Values:
        masks = GridMasks(q, self.cells, self.chance)
        asked = {q.size: q}

        def ask(rows: Tensor, i: int, j: int) -> Tensor:
            part = asked.setdefault(len(rows), q if len(rows) == q.size else q.take(rows))
            return part.value(masks.points(rows, i, j))

        def solve(rows: Tensor, answers: Tensor) -> dict[str, Tensor]:
            found = [_covariance(masks, int(r), y, self.chance) for r, y in zip(rows, answers.T, strict=True)]
            value, error = (torch.stack(t) for t in zip(*found, strict=True))
            return {"value": value, "error": error, "mean": answers.mean(0)}

        change = (q.target_values() - q.value(q.start)).abs().double().cpu()
        done = settled(q.size, 256, self.budget, self.tol * change, ask, solve, even=2)
        mean = ", ".join(f"{float(m):.4g}" for m in done.found["mean"][:4]) + (", ..." if q.size > 4 else "")
        notes = (done.told("masks", self.tol), f"RISE's own map, without the mean taken away, is higher by {mean} everywhere")
        return Values(masks.spread(done.found["value"]), error=masks.spread(done.found["error"]), notes=notes)


def _covariance(masks: GridMasks, row: int, y: Tensor, chance: float) -> tuple[Tensor, Tensor]:
    """(values, standard errors) at every position: the covariance of answer and mask over the chance.

    Each pair's answers are taken less the mean of all other pairs' answers, which leaves the estimate without bias. The error is
    the spread over pairs.
    """
    n = len(y) // 2
    others = (y.sum() - y[0::2] - y[1::2]) / (2 * n - 2)
    w = (y.reshape(n, 2) - others[:, None]).T / (2 * chance)
    total = square = torch.zeros(1, dtype=torch.float64)
    for k, a, b in masks.pairs(row, n):
        u, v = w[0, k], w[1, k]
        total = total + u @ a + v @ b
        square = square + u.square() @ a.square() + v.square() @ b.square() + 2 * (u * v) @ (a * b)
    mean = total / n
    return mean, widened(((square / n - mean.square()).clamp(min=0) / (n - 1)).sqrt(), n - 1)
