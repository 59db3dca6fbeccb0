"""Shapley estimators on a paired design: what each makes of the same coalitions."""

import torch

from ..core.game import Game
from ._coalitions import Pairs, paired
from ._odd import krige, prior_of
from ._shapley import Estimate, regression
from ._walsh import sparse_fit

LARGEST = 2500
"""Coalitions beyond which a Gaussian process costs more than most models: sparse terms are fitted instead."""


def regressed(game: Game, budget: int, equal: bool = True) -> Estimate:
    """By the Shapley regression; `equal` draws as many coalitions of every size."""
    nobody, everybody = game.ends()
    pairs = paired(game.players, budget, game.draw(), equal)
    return regression(pairs, pairs.odd(game), everybody - nobody)


def kriged(game: Game, budget: int) -> Estimate:
    """By a Gaussian process over the odd part; of more than `LARGEST` coalitions, by sparse terms."""
    return _odd(game, budget, ("smooth",) if budget <= LARGEST else ("sparse",))


def screened(game: Game, budget: int) -> Estimate:
    """By the strongest odd terms."""
    return _odd(game, budget, ("sparse",))


def nearer(game: Game, budget: int) -> Estimate:
    """By both, of each row the one with the smaller error: a smooth game suits the one, a sparse one the other."""
    return _odd(game, budget, ("smooth", "sparse"))


def _odd(game: Game, budget: int, ways: tuple[str, ...]) -> Estimate:
    nobody, everybody = game.ends()
    pairs = paired(game.players, budget, game.draw())
    odd, change = pairs.odd(game), everybody - nobody
    if _known(pairs):
        return regression(pairs, odd, change)
    prior = prior_of(pairs, odd, change)
    found = [(krige if way == "smooth" else sparse_fit)(pairs, odd, change, prior) for way in ways]
    best = found[0]
    for other in found[1:]:
        better = (other.error.square().sum(1) < best.error.square().sum(1))[:, None]
        best = Estimate(torch.where(better, other.values, best.values), torch.where(better, other.error, best.error))
    return best


def _known(pairs: Pairs) -> bool:
    """Whether every coalition was asked, or too few for a trend: the regression is then all there is."""
    return bool(pairs.chance.min() == 1) or len(pairs) < pairs.top.shape[1]
