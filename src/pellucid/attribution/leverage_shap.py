"""Leverage SHAP: the Shapley regression, with coalitions of every size alike."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import enough
from ._estimators import regressed
from ._game_method import Played, Sampled
from ._rounds import spent


@dataclass(frozen=True, kw_only=True)
class LeverageSHAP(Sampled):
    """Which additive game is nearest to this one, if coalitions are drawn by how much each can move the fit?

    How: the regression of kernel-shap. Coalitions come by their leverage, which is the same for every size: as many of each size,
    in pairs, without replacement; each is weighted by kernel / chance.
    Units: target units; the values sum to v(everybody) - v(nobody). Errors are sandwich estimates over pairs.
    Misleads when: three or more players act only together: no additive game is near, and errors shrink slowly; odd-gp and odd-shap fit such games.
    Source: Musco, Witter 2025, arXiv:2410.01917, algorithm 1.
    """

    card = Card(
        title="Leverage SHAP", paper="arXiv:2410.01917", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, min(2 * n + 2, 2**n))
        return spent(game, self.budget, self.tol, 8 * n, regressed)
