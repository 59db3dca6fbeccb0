"""HSIC attribution: on whose presence does the answer depend, in whatever way?"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import enough, everyone
from ._game_method import Played, Sampled
from ._settled import Asker, settled
from ._shapley import widened

BLOCK = 16
"""Coalitions drawn together: each player is there in half of them (a Latin hypercube of zeros and ones)."""


@dataclass(frozen=True, kw_only=True)
class HSIC(Sampled):
    """How strongly does the answer depend on whether this player is there, in any way that a kernel can see?

    How: coalitions are drawn evenly; the Hilbert-Schmidt independence criterion between a player's presence (Dirac kernel) and the answer
    (Gaussian kernel, as wide as the median distance of answers), without bias, over that of the answer with itself.
    Units: 0 where the answer is independent of the player, 1 where nothing else matters; they sum to nothing in particular.
    Misleads when: read as direction: it has no sign. A few hundred coalitions rank players well; small values drown in the errors.
    Source: Novello, Fel, Vigouroux 2022, arXiv:2206.06219, section 4 (with masker="grid:7"); estimator: Song et al. 2012, JMLR 13, equation 5; scale: Da Veiga 2015, arXiv:1311.2483.
    """

    card = Card(
        title="HSIC attribution", paper="arXiv:2206.06219", needs=Needs.VALUE, cost="at most `budget` forward rows a background row", baseline=True, samples=True, random=True, signed=False,
        promises=Promise.IMPLEMENTATION_INVARIANT,
    )
    budget: int = param(1536, "coalitions that a row may ask about", ge=16, le=20_000, unit="coalitions")
    tol: float = param(0.005, "error of a value at which a row stops early; 0: the whole budget is spent", ge=0)

    def estimate(self, game: Game) -> Played:
        n = game.players
        if 2**n <= self.budget:
            z = everyone(n)
            return Played(_whole(z, game(z)), torch.zeros(game.size, n, dtype=torch.float64), notes=(f"all {2**n:,} coalitions", "values have no sign"))
        enough(self.name, game, self.budget, 4 * BLOCK)
        draws = _Balanced(n, game.draw())
        goal = torch.full((game.size,), self.tol, dtype=torch.float64)

        def solve(rows: Tensor, answers: Tensor) -> dict[str, Tensor]:
            return _unbiased(draws(0, len(answers)), answers)

        done = settled(game.size, 16 * BLOCK, self.budget, goal, Asker(game, draws), solve, even=BLOCK)
        told = done.told("coalitions", 0) + (f"; errors are below {self.tol:g} in {int(done.met.sum())} of {game.size} rows" if self.tol else "")
        return Played(done.found["values"], done.found["error"], notes=(told, "values have no sign"))


class _Balanced:
    """Coalitions in which every player is there in half of each block."""

    def __init__(self, players: int, rng: np.random.Generator) -> None:
        self.rng, self.drawn = rng, torch.zeros(0, players, dtype=torch.bool)

    def __call__(self, i: int, j: int) -> Tensor:
        while j > len(self.drawn):
            block = self.rng.random((BLOCK, self.drawn.shape[1])).argsort(0) < BLOCK // 2
            self.drawn = torch.cat([self.drawn, torch.from_numpy(block)])
        return self.drawn[i:j]


def _alike(y: Tensor) -> Tensor:
    """(K, K) the Gaussian kernel of (K,) answers, as wide as their median distance."""
    far = (y[:, None] - y).abs()
    width = far[torch.ones_like(far).triu(1).bool()].median()
    width = width if width > 0 else far.max().clamp(min=1e-300)
    return (-(far / width).square() / 2).exp()


def _whole(z: Tensor, y: Tensor) -> Tensor:
    """(B, P) from all coalitions."""
    s = 2 * z.double() - 1
    found = []
    for one in y.T:
        like = _alike(one)
        centred = like - like.mean(0) - like.mean(1, keepdim=True) + like.mean()
        own = centred.square().mean()
        found.append(_scaled(((centred @ s) * s).sum(0) / (2 * len(s) ** 2), own))
    return torch.stack(found)


def _scaled(dependence: Tensor, own: Tensor) -> Tensor:
    """Over the root of the two self-dependences, of which a fair coin's is a quarter."""
    return dependence / (0.5 * own.sqrt()) if own > 1e-12 else torch.zeros_like(dependence)


def _unbiased(z: Tensor, y: Tensor) -> dict[str, Tensor]:
    """(R, P) values and errors from (K, P) drawn coalitions and (K, R) answers; an estimate below zero is noise and shown as zero.

    The error is that of the projection of the statistic on its single draws.
    """
    k, s = len(z), 2 * z.double() - 1
    values, errors = [], []
    for one in y.T:
        like = _alike(one)
        bare = like - torch.eye(k)
        sums, total = bare.sum(1), bare.sum()
        there = ((bare @ s) * s).sum(0) / 2
        alone = (s.sum(0).square() - k) / 2 * total / ((k - 1) * (k - 2))
        cross = (s.sum(0) * (sums @ s) - total) / 2 * 2 / (k - 2)
        own = _song(bare, bare)
        values.append(_scaled((there + alone - cross) / (k * (k - 3)), own).clamp(min=0))
        centred = like - like.mean(0) - like.mean(1, keepdim=True) + like.mean()
        each = (centred @ (s - s.mean(0))) * (s - s.mean(0)) / (2 * k)
        errors.append(_scaled(2 * each.std(0) / k**0.5, own))
    return {"values": torch.stack(values), "error": widened(torch.stack(errors), k - 1)}


def _song(a: Tensor, b: Tensor) -> Tensor:
    """The unbiased dependence of two kernel matrices with zeros on their diagonals."""
    k = len(a)
    return ((a * b).sum() + a.sum() * b.sum() / ((k - 1) * (k - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (k - 2)) / (k * (k - 3))
