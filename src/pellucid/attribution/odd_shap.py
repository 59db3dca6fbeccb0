"""OddSHAP: Shapley values from the few odd terms that a game is made of."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._coalitions import enough
from ._estimators import screened
from ._game_method import Played, Sampled
from ._rounds import spent


@dataclass(frozen=True, kw_only=True)
class OddSHAP(Sampled):
    """What does a player add, if only a few groups of players act together?

    How: y(S) = (v(S) - v(not S)) / 2 is a sum of F(T) prod of s_i over i in T, for odd T and signs s; phi_i = 2 sum over T with i of F(T) / |T|.
    All single players and the strongest groups of three and five, one for every five pairs, are fitted by weighted least squares.
    Groups are screened by the posterior mean of a Gaussian process, then by what the fit leaves (the paper screens by boosted trees).
    Units: target units; the values sum to v(everybody) - v(nobody). Errors are sandwich estimates given the groups.
    Misleads when: many groups act, each a little (odd-gp then errs less), or the budget is near 2 n, where no group can be fitted: it is then leverage-shap.
    Source: Fumagalli, Witter, Musco 2026, arXiv:2602.01399, algorithm 1.
    """

    card = Card(
        title="OddSHAP", paper="arXiv:2602.01399", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, min(2 * n + 2, 2**n))
        return spent(game, self.budget, self.tol, 8 * n, screened)
