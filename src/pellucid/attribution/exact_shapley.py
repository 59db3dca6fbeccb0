"""Exact Shapley values: every coalition is asked."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.errors import CannotComplete
from ..core.game import Game
from ._coalitions import all_worths
from ._game_method import GameMethod, Played
from ._shapley import marginals, shapley_weights


@dataclass(frozen=True, kw_only=True)
class ExactShapley(GameMethod):
    """What does a player add to the answer, on average over every order in which the players could join?

    How: phi_i = sum over coalitions S without i of |S|! (n - 1 - |S|)! / n! (v(S with i) - v(S)); all 2^n coalitions are asked.
    Units: target units; the values sum to v(everybody) - v(nobody).
    Misleads when: "absent" makes inputs the model never saw, or players depend on each other: what they share is split between them.
    Source: Shapley 1953, doi:10.1515/9781400881970-018; Lundberg, Lee 2017, arXiv:1705.07874, equation 4.
    """

    card = Card(
        title="Exact Shapley values", paper="arXiv:1705.07874", needs=Needs.VALUE, cost="2^n forward rows a background row, for n players", baseline=True, samples=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
    )
    most: int = param(20, "players above which it refuses, since every one doubles the work", ge=1, le=30)

    def estimate(self, game: Game) -> Played:
        n = game.players
        if n > self.most:
            rows = 2**n * game.board.copies
            raise CannotComplete(f"exact-shapley asks about 2^n coalitions; {n} players would take {rows:,} forward rows a row, and it stops at {self.most} players. "
                                 "Use shapley or leverage-shap, choose a masker with fewer players, or raise most.")
        return Played(marginals(all_worths(game), shapley_weights(n)), notes=(f"exact: all {2**n:,} coalitions were asked",))
