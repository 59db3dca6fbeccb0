"""Shapley values by the estimator that suits the budget."""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import all_worths, enough
from ._estimators import LARGEST, nearer, regressed, screened
from ._game_method import Played, Sampled
from ._rounds import noted, spent
from ._shapley import marginals, shapley_weights

PLENTY = 20_000
"""Coalitions beyond which the plain regression is as good as it needs to be, and fitting terms costs more than it gains."""
MANY = 500
"""Players beyond which groups of three are too many to look for."""


@dataclass(frozen=True, kw_only=True)
class Shapley(Sampled):
    """What does a player add to the answer, on average over every order in which the players could join?

    How: all coalitions where they fit into the budget, and the values are exact. Else, up to 2,500 coalitions, odd-gp and odd-shap on the same coalitions,
    of each row the one with the smaller error; up to 20,000 odd-shap; beyond, or with more than 500 players, leverage-shap. The notes say which it was.
    Units: target units; the values sum to v(everybody) - v(nobody). A row stops early once its largest error is below `tol` of that.
    Misleads when: "absent" makes inputs the model never saw, or players depend on each other: what they share is split between them.
    Source: Shapley 1953, doi:10.1515/9781400881970-018; Lundberg, Lee 2017, arXiv:1705.07874; the estimators: see odd-gp, odd-shap, leverage-shap.
    """

    card = Card(
        title="Shapley values", paper="arXiv:1705.07874", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    tol: float = param(0.01, "error, as a share of v(everybody) - v(nobody), at which a row stops early; 0: the whole budget is spent", ge=0)

    def estimate(self, game: Game) -> Played:
        n = game.players
        if 2**n <= self.budget:
            return Played(marginals(all_worths(game), shapley_weights(n)), notes=(f"exact: all {2**n:,} coalitions fit into the budget",))
        enough(self.name, game, self.budget, 2 * n + 2)
        words, solve = chosen(n, self.budget)
        return noted(spent(game, self.budget, self.tol, 4 * n, solve), words)


def chosen(players: int, budget: int) -> tuple[str, Any]:
    """(why, the estimator) for that many players and coalitions."""
    if players > MANY or budget > PLENTY:
        return f"leverage-shap: {players:,} players and {budget:,} coalitions are beyond what terms can be fitted to", regressed
    if budget > LARGEST:
        return f"odd-shap: {budget:,} coalitions are more than a Gaussian process can hold", screened
    return "odd-gp or odd-shap, whichever errs less in each row", nearer
