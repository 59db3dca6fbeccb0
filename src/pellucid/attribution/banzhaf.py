"""Banzhaf values: what a player adds to a coalition drawn by fair coins."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import all_worths, enough, halves
from ._game_method import Played, Sampled
from ._rounds import spent
from ._shapley import Estimate, fitted, marginals


@dataclass(frozen=True, kw_only=True)
class Banzhaf(Sampled):
    """What does a player add to a coalition in which everyone else is as likely there as not?

    How: beta_i = mean over all S without i of v(S with i) - v(S): exact where 2^n fits into the budget. Else every coalition, drawn with its complement, serves
    every player (maximum sample reuse), and beta is the least-squares slope of v on who is there, which takes out what other players add by themselves.
    Units: target units; the values sum to nothing in particular.
    Misleads when: read as shares of the answer: they are not, which makes their order robust to noise, and their sum arbitrary.
    Source: Wang, Jia 2023, arXiv:2205.15466, section 4; regression: Liu, Witter, Fang, Musco 2024, arXiv:2410.08336, algorithm 1.
    """

    card = Card(
        title="Banzhaf values", paper="arXiv:2205.15466", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        n = game.players
        if 2**n <= self.budget:
            return Played(marginals(all_worths(game), torch.full((n,), 0.5 ** (n - 1), dtype=torch.float64)), notes=(f"exact: all {2**n:,} coalitions fit into the budget",))
        enough(self.name, game, self.budget, 2 * n + 4)
        return spent(game, self.budget, self.tol, 8 * n, _slopes)


def _slopes(game: Game, budget: int) -> Estimate:
    pairs = halves(game.players, budget, game.draw())
    a = pairs.signs / 2
    back, freedom = torch.linalg.pinv(a.T @ a, rtol=1e-10, hermitian=True), max(len(pairs) - game.players, 1)
    return fitted(a, torch.ones(len(a), dtype=a.dtype), pairs.odd(game), back, 1 - pairs.chance, freedom)
