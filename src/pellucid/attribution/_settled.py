"""Asking in rounds until each row is settled: rows whose errors are small enough are asked no more."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.game import Game

GROWTH = 1.6
"""How many samples there are after a round, times those before it."""


@dataclass(frozen=True)
class Settled:
    """What was found for every row: (B, ...) tensors by name, the samples (B,) that each row took, and whether its errors met the goal."""

    found: dict[str, Tensor]
    took: Tensor
    met: Tensor

    def told(self, what: str, tol: float) -> str:
        """How much was asked, in words."""
        low, high = int(self.took.min()), int(self.took.max())
        words = f"{high:,} {what} a row" if low == high else f"{low:,} to {high:,} {what} a row"
        return words + (f"; errors are below {tol:g} of the target's change in {int(self.met.sum())} of {len(self.met)} rows" if tol else "")


def settled(
    size: int, first: int, budget: int, goal: Tensor, ask: Callable[[Tensor, int, int], Tensor], solve: Callable[[Tensor, Tensor], dict[str, Tensor]], even: int = 1, growth: float = GROWTH
) -> Settled:
    """`solve(rows, answers)` from ever more answers, until a row's largest "error" is at most its `goal` (B,), or the budget is spent.

    `ask(rows, i, j)` gives the (j - i, R) answers of samples i to j for those rows; samples come in multiples of `even`.
    Where no goal is above zero, all is asked at once.
    """
    budget = max(even, budget // even * even)
    rows, answers = torch.arange(size), torch.zeros(0, size, dtype=torch.float64)
    took, met, found = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.bool), dict[str, Tensor]()
    upto = min(-(-first // even) * even, budget) if (goal > 0).any() else budget
    while len(rows):
        answers = torch.cat([answers, ask(rows, len(answers), upto).double().cpu()])
        one = solve(rows, answers)
        for name, t in one.items():
            found.setdefault(name, t.new_zeros(size, *t.shape[1:]))[rows] = t
        done = one["error"].flatten(1).amax(1) <= goal[rows]
        took[rows], met[rows] = upto, done
        open_ = ~done & (upto < budget)
        rows, answers = rows[open_], answers[:, open_]
        upto = min(max(int(upto * growth) // even * even, upto + even), budget)
    return Settled(found, took, met)


class Asker:
    """Asks a game about samples of coalitions, for all rows at first, then for those that are still open."""

    def __init__(self, game: Game, coalitions: Callable[[int, int], Tensor]) -> None:
        self.game, self.coalitions, self.rows = game, coalitions, torch.arange(game.size)

    def __call__(self, rows: Tensor, i: int, j: int) -> Tensor:
        if len(rows) < len(self.rows):
            self.game, self.rows = self.game.take(torch.isin(self.rows, rows).nonzero()[:, 0]), rows
        return self.game(self.coalitions(i, j))
