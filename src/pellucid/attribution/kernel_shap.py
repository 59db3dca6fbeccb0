"""Kernel SHAP: Shapley values as a weighted regression on coalitions."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import enough
from ._estimators import regressed
from ._game_method import Played, Sampled
from ._rounds import spent


@dataclass(frozen=True, kw_only=True)
class KernelSHAP(Sampled):
    """Which additive game is nearest to this one, as the Shapley kernel weighs coalitions?

    How: least squares of v(S) - v(nobody) on who is in S, weighted by (n - 1) / (C(n, s) s (n - s)), the sum held at v(everybody) - v(nobody).
    Sizes come as often as they weigh; those of which all coalitions fit are asked whole; every coalition comes with its complement. Nothing is set to zero.
    Units: target units; the values sum to v(everybody) - v(nobody). Errors are sandwich estimates over pairs.
    Misleads when: the budget is near 2 n, where the fit has hardly a pair to spare; leverage-shap and odd-gp err less for the same budget.
    Source: Lundberg, Lee 2017, arXiv:1705.07874, theorem 2; pairs: Covert, Lee 2021, arXiv:2012.01536, section 4.
    """

    card = Card(
        title="Kernel SHAP", paper="arXiv:1705.07874", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, min(2 * n + 2, 2**n))
        return spent(game, self.budget, self.tol, 8 * n, lambda g, k: regressed(g, k, equal=False))
