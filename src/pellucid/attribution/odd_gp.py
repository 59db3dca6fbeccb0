"""Odd-GP: Shapley values from a Gaussian process over the odd part of the game."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import enough
from ._estimators import LARGEST, kriged
from ._game_method import Played, Sampled
from ._rounds import noted, spent


@dataclass(frozen=True, kw_only=True)
class OddGP(Sampled):
    """What does a player add, by the smoothest game that agrees with every coalition that was asked?

    How: Shapley values depend only on y(S) = (v(S) - v(not S)) / 2. y is a free linear trend and a Gaussian process over coalitions, whose prior is
    chosen by restricted likelihood; phi is a linear function of y, so that its posterior mean and deviation have a closed form.
    Units: target units; the values sum to v(everybody) - v(nobody). Errors are posterior deviations.
    Misleads when: few players act only together, like XOR: odd-shap finds such terms. Beyond 2,500 coalitions it fits terms as odd-shap does, and says so.
    Source: kriging: Rasmussen, Williams 2006, ISBN 9780262182539, section 2.7; the odd part: Fumagalli, Witter, Musco 2026, arXiv:2602.01399; the rest is ours.
    """

    card = Card(
        title="Odd-GP", paper="arXiv:2602.01399", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    budget: int = param(500, "coalitions that a row may ask about", ge=2, unit="coalitions")

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, min(2 * n + 2, 2**n))
        played = spent(game, self.budget, self.tol, 4 * n, kriged)
        return noted(played, f"beyond {LARGEST:,} coalitions odd terms were fitted, as odd-shap does") if self.budget > LARGEST and 2**n > self.budget else played
