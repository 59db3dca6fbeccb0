"""Permutation importance: how much worse is the answer when a column is taken from another row?"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ..core.points import Points
from ..core.rows import row_seed
from ..core.tree import Tree
from ._game_method import GameMethod, Played
from ._shapley import widened

NAMED = 8
"""Columns that the note on importance names."""


@dataclass(frozen=True, kw_only=True)
class PermutationImportance(GameMethod):
    """How much does the answer change when this column comes from another row of the data?

    How: for each row, f(row) - f(row with the column of a random background row), the mean over `repeats` of them; give the data as rows and as
    baseline=pel.Samples(rows). With `repeats` as many as there are rows it is the mean over all permutations, exactly. The importance of a
    column for the model as a whole is the mean over rows: the notes tell it with its standard error, `e.players.values.mean(0)` has it.
    Units: target units. Of pel.Loss(y) the mean is minus the usual importance: the right column lowers the loss.
    Misleads when: columns depend on each other: each can be spared for the other, and rows are asked about that never occur. Group such columns.
    Source: Breiman 2001, doi:10.1023/A:1010933404324, section 10; Fisher, Rudin, Dominici 2019, arXiv:1801.01489, equation 2.
    """

    card = Card(
        title="Permutation importance", scope="semi-local", paper="arXiv:1801.01489", needs=Needs.VALUE, cost="`repeats` forward rows a player", baseline=True, samples=True, random=True,
        promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    masker: Any = param("auto", "what the players are: columns, or groups of columns that are taken together")
    repeats: int = param(10, "background rows that each player of each row is taken from in turn; all are, where there are no more", ge=1, unit="background rows")

    def estimate(self, game: Game) -> Played:
        drop = self._drops(game)
        repeats, d = len(drop), game.board.copies
        left = math.sqrt(1 - repeats / d)  # what was drawn without replacement is known
        spread = drop.std(0) / math.sqrt(repeats) if repeats > 1 else torch.zeros_like(drop[0])
        error = widened(spread, repeats - 1) * left if 1 < repeats < d else torch.zeros_like(spread)
        values = drop.mean(0).T
        alone = "" if repeats > 1 or d == 1 else "; of a single one there is no error"
        return Played(values, error.T, notes=(f"each player from {repeats:,} of {d:,} background rows{alone}", _importance(game, values)))

    def _drops(self, game: Game) -> Tensor:
        """(repeats, P, B) what the answer loses."""
        board, n = game.board, game.players
        q, repeats = board.question, min(self.repeats, board.copies)
        from_ = torch.stack([torch.randperm(board.copies, generator=torch.Generator().manual_seed(row_seed(q.seed, name, -2)))[:repeats] for name in q.ids], 1)
        without = ~torch.eye(n, dtype=torch.bool)

        def make(s: Tensor, rows: Tensor) -> Tree:
            return board.make(without[s % n], rows, from_[s // n, rows])

        _, everybody = game.ends()
        return everybody - q.value(Points(repeats * n, make)).double().cpu().reshape(repeats, n, q.size)


def _importance(game: Game, values: Tensor) -> str:
    """The mean over rows and its standard error, the weightiest columns first."""
    mean, rows = values.mean(0), len(values)
    error = widened(values.std(0) / math.sqrt(rows), rows - 1) if rows > 1 else None
    order = mean.abs().argsort(descending=True, stable=True)[:NAMED].tolist()
    told = ", ".join(f"{game.board.names[0][i]} {float(mean[i]):+.3g}" + (f" ± {float(error[i]):.2g}" if error is not None else "") for i in order)
    return f"importance, the mean over {rows:,} rows{' and its standard error' if rows > 1 else ''}: {told}{', ...' if len(mean) > NAMED else ''}"
