"""Linear models of a game around the input: coalitions drawn as a kernel weighs them, and the fit with its standard errors."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._shapley import widened


def size_chances(players: int, width: float) -> Tensor:
    """(P + 1,) how often a coalition of each size comes under LIME's kernel exp(-d^2 / (2 width^2)), d the cosine distance to everybody."""
    k = np.arange(players + 1)
    ways = np.array([math.lgamma(players + 1) - math.lgamma(i + 1) - math.lgamma(players - i + 1) for i in k])
    log = ways - (1 - np.sqrt(k / players)) ** 2 / (2 * width**2)
    chance = np.exp(log - log.max())
    return torch.from_numpy(chance / chance.sum())


def weights_of(z: Tensor, chances: Tensor) -> Tensor:
    """(K,) the chance of each coalition."""
    n = z.shape[1]
    ways = torch.tensor([float(math.comb(n, k)) for k in range(n + 1)], dtype=torch.float64)
    return (chances / ways)[z.sum(1)]


class Draws:
    """Coalitions by those chances, in antithetic pairs: where one is large the other is small, and it takes the players from the other end."""

    def __init__(self, players: int, chances: Tensor, rng: np.random.Generator) -> None:
        self.reach, self.rng = np.cumsum(chances.numpy()), rng
        self.reach[-1] = 1.0
        self.drawn = np.zeros((0, players), bool)

    def __call__(self, i: int, j: int) -> Tensor:
        """Draws i to j, i and j even: the same whatever was asked before."""
        if j > len(self.drawn):
            self.drawn = np.concatenate([self.drawn, self._more((j - len(self.drawn)) // 2)])
        return torch.from_numpy(self.drawn[i:j])

    def _more(self, pairs: int) -> np.ndarray:
        n = self.drawn.shape[1]
        u = self.rng.random((pairs, n + 1))
        place = u[:, 1:].argsort(1).argsort(1)
        low, high = (np.searchsorted(self.reach, v, side="right").clip(max=n) for v in (u[:, 0], 1 - u[:, 0]))
        return np.stack([place < low[:, None], place >= n - high[:, None]], 1).reshape(2 * pairs, n)


@dataclass(frozen=True)
class Fit:
    """(R, P) coefficients, their standard errors, and the (R,) share of the variance that the linear model explains."""

    values: Tensor
    error: Tensor
    r2: Tensor

    @property
    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values, "error": self.error, "r2": self.r2}


def fit(z: Tensor, y: Tensor, weight: Tensor | None = None) -> Fit:
    """Least squares of (K, R) worths on (K, P) coalitions. With `weight` the coalitions are all there are, and nothing is left to chance.

    Without, they are drawn in pairs: the error is the sandwich estimate over pairs with leverage corrected (HC3), and the share is
    adjusted for the number of players.
    """
    x = torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z.double()], 1)
    w = torch.full((len(z),), 1 / len(z), dtype=torch.float64) if weight is None else weight
    back = torch.linalg.pinv(x.T @ (x * w[:, None]), rtol=1e-12, hermitian=True)
    reach = (x @ back) * w[:, None]
    beta = reach.T @ y
    left, mean = y - x @ beta, w @ y
    around, total = w @ left.square(), w @ (y - mean).square()
    share = torch.where(total > 1e-24 * mean.square(), around / total.clamp(min=1e-300), torch.zeros_like(total))
    if weight is not None:
        return Fit(beta[1:].T, torch.zeros_like(beta[1:].T), 1 - share)
    freedom = len(z) - x.shape[1]
    scaled = left / (1 - (reach * x).sum(1)).clamp(min=1e-6)[:, None]
    (a, b), (e, f) = (reach[0::2], reach[1::2]), (scaled[0::2], scaled[1::2])
    error = (a.square().T @ e.square() + b.square().T @ f.square() + 2 * (a * b).T @ (e * f)).clamp(min=0).sqrt()
    return Fit(beta[1:].T, widened(error[1:].T, max(freedom, 1)), 1 - share * (len(z) - 1) / max(freedom, 1))


def narrowed(z: Tensor, y: Tensor, weight: Tensor | None, whole: Fit, most: int) -> Fit:
    """The fit of each row's `most` weightiest players alone; the others get zero, with the error that the whole fit gave them."""
    values, error, r2 = torch.zeros_like(whole.values), whole.error.clone(), whole.r2.clone()
    for i, row in enumerate(whole.values.abs()):
        kept = row.argsort(descending=True, stable=True)[:most].sort().values
        one = fit(z[:, kept], y[:, i : i + 1], weight)
        values[i, kept], error[i, kept], r2[i] = one.values[0], one.error[0], one.r2[0]
    return Fit(values, error, r2)
