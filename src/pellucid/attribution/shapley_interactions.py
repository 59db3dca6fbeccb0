"""Shapley interactions: what players are worth together beyond what each is worth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import all_worths, enough, paired
from ._game_method import Played, Sampled
from ._interactions import Found, exactly, groups, sampled
from ._rounds import spent
from ._shapley import Estimate, marginals, regression, shapley_weights


@dataclass(frozen=True, kw_only=True)
class ShapleyInteractions(Sampled):
    """What are two or three players worth together, beyond what each is worth by itself?

    How: SII is the mean over coalitions of the others of what the players add jointly; k-SII spreads it so that all groups sum to the answer; STII gives
    all of a larger group's worth to its parts of `order` players; FSII is the nearest polynomial of degree `order`. Exact where 2^n fits into the
    budget; else a polynomial is fitted, and what it leaves is summed up over the coalitions that were asked.
    Units: target units. The values are Shapley values and sum to v(everybody) - v(nobody); `players.interactions` holds the index of every pair,
    on its diagonal that of each player alone; `players.triples` that of three. Errors are standard errors.
    Misleads when: the budget is small: errors of interactions are larger than those of values (the notes say how large).
    Source: Grabisch, Roubens 1999, doi:10.1007/s001820050125; Sundararajan, Dhamdhere, Agarwal 2020, arXiv:1902.05622; Tsai, Yeh, Ravikumar 2023, arXiv:2203.00870;
    Bord, von Luxburg 2023, arXiv:2209.04012; sampling: Fumagalli et al. 2023, arXiv:2303.01179.
    """

    card = Card(
        title="Shapley interactions", paper="arXiv:2303.01179", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    index: str = param("k-SII", "which interaction index", choices=("SII", "k-SII", "STII", "FSII"))
    order: int = param(2, "players in the largest group", ge=2, le=3)
    budget: int = param(2000, "coalitions that a row may ask about", ge=2, unit="coalitions")
    tol: float = param(0.0, "error of an interaction, as a share of v(everybody) - v(nobody), at which a row stops early; 0: the whole budget is spent", ge=0)

    def estimate(self, game: Game) -> Played:
        n = game.players
        if 2**n <= self.budget:
            worth = all_worths(game)
            values = marginals(worth, shapley_weights(n))
            return self._told(Estimate(values, torch.zeros_like(values)), exactly(self.index, min(self.order, n), worth), f"exact: all {2**n:,} coalitions fit into the budget")
        enough(self.name, game, self.budget, 2 * n + 2)
        order = min(self.order, n)
        both = spent(game, self.budget, self.tol, 8 * n, lambda part, k: _asked(part, k, self.index, order))
        error = both.values if both.error is None else both.error
        found = Found(groups(n, order), both.values[:, n:], error[:, n:])
        return self._told(Estimate(both.values[:, :n], error[:, :n]), found, both.notes[0], f"the largest standard error of an interaction is {float(found.error.max()):.2g}")

    def _told(self, plain: Estimate, found: Found, *words: str) -> Played:
        notes = (f"{self.index} of order {self.order}", *words)
        triples = _cube(found) if self.order == 3 else None
        return Played(plain.values, plain.error, interactions=_square(found), triples=triples, notes=notes)


def _asked(game: Game, budget: int, index: str, order: int) -> Estimate:
    """Shapley values and, behind them, the index of every group."""
    nobody, everybody = game.ends()
    pairs = paired(game.players, budget, game.draw())
    worth = game(torch.cat([pairs.top, ~pairs.top]))
    plain = regression(pairs, (worth[: len(pairs)] - worth[len(pairs) :]) / 2, everybody - nobody)
    found = sampled(index, order, pairs, worth, (nobody, everybody))
    return Estimate(torch.cat([plain.values, found.values], 1), torch.cat([plain.error, found.error], 1))


def _square(found: Found) -> Tensor:
    """(B, P, P) pairs, symmetric, with singles on the diagonal."""
    n = found.member.shape[1]
    out = torch.zeros(len(found.values), n, n, dtype=torch.float64)
    for member, value in zip(found.member, found.values.T, strict=True):
        who = member.nonzero()[:, 0].tolist()
        if len(who) <= 2:
            out[:, who[0], who[-1]] = out[:, who[-1], who[0]] = value
    return out


def _cube(found: Found) -> Tensor:
    """(B, P, P, P) threes, symmetric."""
    n = found.member.shape[1]
    out = torch.zeros(len(found.values), n, n, n, dtype=torch.float64)
    for member, value in zip(found.member, found.values.T, strict=True):
        who = member.nonzero()[:, 0].tolist()
        if len(who) == 3:
            for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
                out[:, who[a], who[b], who[c]] = value
    return out
