"""From worths to values: exact sums over all coalitions, and weighted regressions with their standard errors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._coalitions import Pairs

NORMAL = 1.959963984540054
"""95 % of a normal distribution lie within this many standard deviations."""

PRIOR = 3
"""Draws that the mean variance over players counts for beside a player's own."""


@dataclass(frozen=True)
class Estimate:
    """(B, P) values and their standard errors."""

    values: Tensor
    error: Tensor


def marginals(worth: Tensor, weight: Tensor) -> Tensor:
    """(B, P) what a player adds to coalitions of the others, sum over s of weight[s] times the sum over coalitions of s others."""
    n = len(weight)
    sizes = torch.zeros(1, dtype=torch.long)
    for _ in range(n - 1):
        sizes = torch.cat([sizes, sizes + 1])
    w = weight.to(worth)[sizes]
    out = []
    for i in range(n):
        split = worth.reshape(2 ** (n - 1 - i), 2, 2**i, -1)
        out.append((split[:, 1] - split[:, 0]).reshape(2 ** (n - 1), -1).T @ w)
    return torch.stack(out, 1)


def shapley_weights(players: int) -> Tensor:
    """(P,) the weight of one coalition of s others: s! (P - 1 - s)! / P!"""
    return torch.tensor([1 / (players * math.comb(players - 1, s)) for s in range(players)], dtype=torch.float64)


def kernel(players: int, sizes: Tensor) -> Tensor:
    """The Shapley kernel: the weight of a coalition of each size in the regression whose solution are Shapley values."""
    n = players
    table = [0.0] + [(n - 1) / (math.comb(n, s) * s * (n - s)) for s in range(1, n)] + [0.0]
    return torch.tensor(table, dtype=torch.float64)[sizes]


def regression(pairs: Pairs, odd: Tensor, change: Tensor) -> Estimate:
    """Shapley values as the weighted least-squares fit to the odd part, their sum held at `change` (B,).

    The error is the sandwich estimate over pairs with leverage corrected (HC3) and shrunk by the share of pairs that is known:
    where all coalitions were asked, nothing is left to chance.
    """
    n = pairs.top.shape[1]
    if n == 1:
        return Estimate(change[:, None], torch.zeros_like(change)[:, None])
    s = pairs.signs / 2
    a = s - s.mean(1, keepdim=True)
    w = kernel(n, pairs.top.sum(1)) / pairs.chance
    b = odd - s.sum(1, keepdim=True) * (change / n)
    back, freedom = torch.linalg.pinv(a.T @ (a * w[:, None]), rtol=1e-10, hermitian=True), max(len(pairs) - n + 1, 1)
    own = fitted(a, w, b, back, 1 - pairs.chance, freedom)
    return Estimate(own.values + change[:, None] / n, own.error)


def fitted(a: Tensor, w: Tensor, b: Tensor, back: Tensor, free: Tensor, freedom: int, to: Tensor | None = None) -> Estimate:
    """The least-squares fit of (M, B) answers to (M, K) columns, or what `to` (K, P) makes of its coefficients.

    `back` inverts the columns' moments; `free` (M,) is the share of each answer that is left to chance.
    """
    reach = (a @ back) * w[:, None]
    left = b - a @ (reach.T @ b)
    hat = (reach * a).sum(1)
    reach = reach if to is None else reach @ to
    scaled = reach / (1 - hat).clamp(min=1e-6)[:, None]
    error = ((scaled.square() * free[:, None]).T @ left.square()).sqrt()
    return Estimate((reach.T @ b).T, widened(error.T, freedom))


def mean_of(draws: Tensor) -> Estimate:
    """(K, B, P) independent draws: their mean and its standard error.

    Few draws of a player may agree by luck. Each variance is therefore moderated by the mean over the row's players, as if that had been
    seen in `PRIOR` draws more (Smyth 2004, doi:10.2202/1544-6115.1027).
    """
    k = len(draws)
    own = draws.var(0)
    shared = (own * (k - 1) + own.mean(1, keepdim=True) * PRIOR) / (k - 1 + PRIOR)
    return Estimate(draws.mean(0), widened((shared / k).sqrt(), k - 1 + PRIOR))


def widened(error: Tensor, freedom: int) -> Tensor:
    """Errors from few draws, widened as Student's t says, so that 95 % of values lie within 1.96 of them all the same."""
    from scipy import special  # waited for only where something is sampled

    return error * float(special.stdtrit(freedom, 0.975)) / NORMAL
