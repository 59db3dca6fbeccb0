"""Shapley sampling: every player's value by orders of its own."""

from dataclasses import dataclass

import numpy as np
import torch

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import enough
from ._game_method import Played, Sampled
from ._rounds import spent
from ._shapley import Estimate, mean_of


@dataclass(frozen=True, kw_only=True)
class ShapleySampling(Sampled):
    """What does a player add to those who happen to come before it in a random order?

    How: for each player by itself, random orders; the value is the mean of v(those before it, and it) - v(those before it), the error their spread.
    Units: target units; the values sum to v(everybody) - v(nobody) up to their errors.
    Misleads when: the budget is small: two coalitions serve one player alone, so that errors are the largest of all estimators here. It is the plain
    twin that the others are judged by.
    Source: Strumbelj, Kononenko 2010, https://jmlr.org/papers/v11/strumbelj10a.html, algorithm 1; Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004.
    """

    card = Card(
        title="Shapley sampling", paper="https://jmlr.org/papers/v11/strumbelj10a.html", needs=Needs.VALUE, cost="`budget` forward rows a background row",
        promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT, baseline=True, samples=True, random=True,
    )

    def estimate(self, game: Game) -> Played:
        enough(self.name, game, self.budget, 2 + 4 * game.players)
        return spent(game, self.budget, self.tol, 2 + 16 * game.players, _sampled)


def _sampled(game: Game, budget: int) -> Estimate:
    n, rng = game.players, game.draw()
    count = (budget - 2) // (2 * n)
    time = torch.from_numpy(np.stack([rng.random((n, n)) for _ in range(count)]))
    before = time < time.diagonal(dim1=1, dim2=2)[:, :, None]
    there = before | torch.eye(n, dtype=torch.bool)
    worth = game(torch.cat([there, before]).reshape(-1, n)).reshape(2, count, n, game.size)
    return mean_of((worth[0] - worth[1]).transpose(1, 2))
