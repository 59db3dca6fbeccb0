"""Permutation Shapley: players join in random orders and in their reverse."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import enough
from ._game_method import Played, Sampled
from ._orders import along, orders
from ._rounds import spent
from ._shapley import Estimate, mean_of


@dataclass(frozen=True, kw_only=True)
class PermutationShapley(Sampled):
    """What does a player add when players join one by one, on average over random orders?

    How: each order is walked forwards and backwards (antithetic), 2 (n - 1) coalitions in all; a value is the mean over orders, its error their spread.
    Units: target units; the values sum to v(everybody) - v(nobody).
    Misleads when: few orders fit into the budget: watch the errors. odd-gp and leverage-shap err less for the same budget.
    Source: Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004; Mitchell, Cooper, Frank, Holmes 2022, arXiv:2104.12199, section 3.
    """

    card = Card(
        title="Permutation Shapley", paper="arXiv:2104.12199", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, 2 + 4 * (n - 1))
        return spent(game, self.budget, self.tol, 2 + 16 * (n - 1), _walked)


def _walked(game: Game, budget: int) -> Estimate:
    count = (budget - 2) // (2 * (game.players - 1)) if game.players > 1 else 2
    return mean_of(along(game, orders(game.players, count, game.draw())))
