"""The Shapley regression on a paired design."""

from ..core.game import Game
from ._coalitions import paired
from ._shapley import Estimate, regression


def regressed(game: Game, budget: int, equal: bool = True) -> Estimate:
    """Shapley values from about `budget` coalitions; `equal` draws as many of every size."""
    nobody, everybody = game.ends()
    pairs = paired(game.players, budget, game.draw(), equal)
    return regression(pairs, pairs.odd(game), everybody - nobody)
