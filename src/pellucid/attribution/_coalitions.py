"""Which coalitions a game is asked about. Designs are nested: a larger budget keeps what a smaller one asked, and adds to it."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Game

LISTED = 20_000
"""Coalitions of one size that are listed and shuffled; of more, random ones are drawn until enough differ."""
DRAWN = 256
"""Random coalitions drawn at once; a constant, so that more of them begin with the same ones."""


@dataclass(frozen=True)
class Pairs:
    """Coalitions `top` (M, P), each standing for itself and its complement, and the chance (M,) with which each pair came in."""

    top: Tensor
    chance: Tensor

    def __len__(self) -> int:
        return len(self.top)

    @property
    def signs(self) -> Tensor:
        """(M, P) 1 for present, -1 for absent."""
        return 2 * self.top.double() - 1

    def odd(self, game: Game) -> Tensor:
        """(M, B) half of what a coalition is worth more than its complement: all that Shapley values depend on."""
        worth = game(torch.cat([self.top, ~self.top]))
        return (worth[: len(self)] - worth[len(self) :]) / 2


def everyone(players: int) -> Tensor:
    """(2**P, P) all coalitions; number k holds the players whose bits are set in k."""
    return (torch.arange(2**players)[:, None] >> torch.arange(players)).bitwise_and(1).bool()


def all_worths(game: Game) -> Tensor:
    """(2**P, B) the worth of every coalition, in the order of `everyone`."""
    nobody, everybody = game.ends()
    inner = everyone(game.players)[1:-1]
    own = game(inner[:, None].expand(-1, game.size, -1)) if len(inner) else nobody.new_zeros(0, game.size)
    return torch.cat([nobody[None], own, everybody[None]])


def paired(players: int, budget: int, rng: np.random.Generator, equal: bool = True) -> Pairs:
    """About `budget` coalitions, complements and the two ends included, drawn without replacement.

    `equal` takes as many of every size (the leverage scores of the Shapley regression, Musco and Witter 2025); otherwise sizes
    come as often as the Shapley kernel weighs them. Sizes of which all fit are asked whole.
    """
    half = players // 2
    if not half:
        return Pairs(torch.ones(1, players, dtype=torch.bool), torch.ones(1, dtype=torch.float64))
    sizes = np.arange(1, half + 1)
    whole = np.array([math.comb(players, s) / (1 + (2 * s == players)) for s in sizes])
    share = np.where(2 * sizes == players, 0.5, 1.0) / (1.0 if equal else sizes * (players - sizes))
    counts = _apportioned((budget - 2) // 2, whole, share)
    rngs = rng.spawn(half)
    parts = [_of_size(players, int(s), int(k), r) for s, k, r in zip(sizes, counts, rngs, strict=True)]
    chance = np.concatenate([np.full(len(p), len(p) / w) for p, w in zip(parts, whole, strict=True)])
    return Pairs(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(chance))


def _apportioned(total: int, whole: np.ndarray, share: np.ndarray) -> np.ndarray:
    """How many of each size: one of each first, then by share, by Adams' method, so that a larger total never takes one back."""
    most = np.minimum(whole, total).astype(int)
    turn = np.concatenate([np.arange(k) / p for k, p in zip(most, share, strict=True)])
    size = np.repeat(np.arange(len(most)), most)
    return np.bincount(size[np.argsort(turn, kind="stable")[:total]], minlength=len(most))


def _of_size(players: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, P) different coalitions of one size; of half the players, those with player 0, which stand for the others."""
    if 2 * size == players:
        rest = _different(players - 1, size - 1, count, rng)
        return np.concatenate([np.ones((len(rest), 1), bool), rest], 1)
    return _different(players, size, count, rng)


def _different(players: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    if math.comb(players, size) <= max(LISTED, 2 * count):
        members = np.array(list(itertools.combinations(range(players), size)), dtype=int).reshape(math.comb(players, size), size)
        return _rows_with(players, rng.permutation(members)[:count])
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        drawn = _rows_with(players, rng.random((DRAWN, players)).argpartition(size, 1)[:, :size])
        for row in drawn:
            found.setdefault(row.tobytes(), row)
    return np.stack(list(found.values())[:count]) if count else np.zeros((0, players), bool)


def _rows_with(players: int, members: np.ndarray) -> np.ndarray:
    z = np.zeros((len(members), players), bool)
    np.put_along_axis(z, members, True, 1)
    return z


def halves(players: int, budget: int, rng: np.random.Generator) -> Pairs:
    """About `budget` different coalitions, complements and the two ends included, in which each player is as likely there as not."""
    count, all_ = (budget - 2) // 2, 2.0 ** (players - 1)
    if all_ <= LISTED:
        own = everyone(players - 1)[torch.from_numpy(rng.permutation(int(all_)))[:count]]
        top = torch.cat([torch.ones(len(own), 1, dtype=torch.bool), own], 1)
    else:
        found: dict[bytes, np.ndarray] = {}
        while len(found) < count:
            drawn = rng.random((DRAWN, players)) < 0.5
            drawn[:, 0] = True
            for row in drawn:
                found.setdefault(row.tobytes(), row)
        top = torch.from_numpy(np.stack(list(found.values())[:count]))
    return Pairs(top, torch.full((len(top),), len(top) / all_, dtype=torch.float64))


def enough(who: str, game: Game, budget: int, least: int) -> None:
    """Refuses a budget below which nothing is reliable."""
    if budget < least:
        raise UsageError(
            f"{who} needs a budget of at least {least:,} coalitions for {game.players} players; got {budget:,}, from which nothing reliable can be said. "
            "Raise budget, or choose a masker with fewer players."
        )
