"""Sobol attribution: whose coming and going makes the answer vary?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import enough
from ._degrees import Degrees
from ._game_method import Played, Sampled
from ._settled import Settled, settled
from ._shapley import widened

LEAST = 8
"""Points of the design below which an index is noise."""


@dataclass(frozen=True, kw_only=True)
class Sobol(Sampled):
    """Which share of the answer's variance is due to this player, alone or together with others, when all come and go by degrees?

    How: every player fades in and out on its own, evenly between absent (0) and there (1). Total index, Jansen's estimator:
    the mean of (f(A) - f(A with player i from B))^2 / 2 over the variance of f, on a scrambled Sobol sequence. "first" leaves out
    what a player does only together with others.
    Units: share of the variance, a player. First indices sum to at most 1, total ones to at least 1; the excess is interaction.
    Misleads when: read as direction: a player that lowers the answer counts like one that raises it.
    Source: Fel, Cadene, Chalvidal, Cord, Vigouroux, Serre 2021, arXiv:2111.04138, equations 3 and 5 (with masker="grid:8"); Jansen 1999, doi:10.1016/S0010-4655(98)00154-4.
    """

    card = Card(
        title="Sobol attribution", paper="arXiv:2111.04138", needs=Needs.VALUE, cost="at most `budget` forward rows a background row", baseline=True, samples=True, random=True, signed=False,
        promises=Promise.IMPLEMENTATION_INVARIANT,
    )
    budget: int = param(4000, "inputs that a row may ask about; a point of the design takes two and one a player", ge=2, unit="inputs")
    tol: float = param(0.01, "error of an index at which a row stops early; 0: the whole budget is spent", ge=0)
    order: str = param("total", "which index", choices=("total", "first"))

    def estimate(self, game: Game) -> Played:
        n = game.players
        enough(self.name, game, self.budget, LEAST * (n + 2))
        most = 2 ** ((self.budget // (n + 2)).bit_length() - 1)
        design = _design(n, most, game)
        boards = [Degrees(game.board)]

        def ask(rows: Tensor, i: int, j: int) -> Tensor:
            if len(rows) < boards[-1].board.question.size:
                boards.append(Degrees(game.board.take(rows)))
            return boards[-1](design[i // (n + 2) : j // (n + 2)].flatten(0, 1))

        def solve(rows: Tensor, answers: Tensor) -> dict[str, Tensor]:
            return _jansen(answers.unflatten(0, (-1, n + 2)), first=self.order == "first")

        done = settled(game.size, 2 * LEAST * (n + 2), most * (n + 2), torch.full((game.size,), self.tol), ask, solve, even=n + 2, growth=2)
        return Played(done.found["values"], done.found["error"], notes=(_told(done, self.tol, n), "indices have no sign"))


def _told(done: Settled, tol: float, n: int) -> str:
    low, high = int(done.took.min()), int(done.took.max())
    words = f"{high:,} inputs a row ({high // (n + 2)} points of the design)" if low == high else f"{low:,} to {high:,} inputs a row"
    return words + (f"; errors are below {tol:g} in {int(done.met.sum())} of {len(done.met)} rows" if tol else "")


def _design(n: int, points: int, game: Game) -> Tensor:
    """(points, P + 2, P) degrees: A, B, and A with one player's degree from B."""
    from scipy.stats import qmc

    both = torch.from_numpy(qmc.Sobol(2 * n, scramble=True, seed=game.draw()).random(points))
    a, b = both[:, None, :n], both[:, None, n:]
    return torch.cat([a, b, torch.where(torch.eye(n, dtype=torch.bool), b, a)], 1)


def _jansen(f: Tensor, first: bool) -> dict[str, Tensor]:
    """Indices (R, P) and their errors from (K, P + 2, R) answers; an estimate below zero is noise and shown as zero.

    The error is that of a ratio of means over the points of the design, as if they were independent: a Sobol sequence errs less.
    """
    k = len(f)
    a, b, mixed = f[:, :1], f[:, 1:2], f[:, 2:]
    middle = f[:, :2].mean((0, 1))
    spread = ((a - middle).square() + (b - middle).square()) / 2
    variance = spread.mean(0)
    apart = ((b if first else a) - mixed).square() / 2
    still = variance <= 1e-24 * middle.square()
    ratio = torch.where(still, float(first), apart.mean(0) / variance.clamp(min=1e-300))
    error = torch.where(still, 0.0, (apart - ratio * spread).std(0) / variance.clamp(min=1e-300) / k**0.5)
    return {"values": ((1 - ratio) if first else ratio).clamp(min=0).T, "error": widened(error.T, k - 1)}
