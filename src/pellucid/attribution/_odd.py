"""Kriging the odd part of a game: a Gaussian process over coalitions whose Shapley values are known in closed form.

Shapley values depend only on y(S) = (v(S) - v(not S)) / 2, which is odd in the signs s = +-1 of who is there: y = sum over odd T of F(T) prod of s over T,
and phi_i = 2 sum over T with i of F(T) / |T|. The prior is a linear trend, about which nothing is assumed, and for three players and more
independent F(T) of variance prod of w over T: the covariance of two coalitions is then
    k(s, s') = [prod (1 + w_i s_i s'_i) - prod (1 - w_i s_i s'_i)] / 2 - sum w_i s_i s'_i = exp(a) sinh(g) - sum w_i s_i s'_i,
with u = artanh(w), g = sum u_i s_i s'_i and a = sum log(1 - w_i^2) / 2: one product of matrices. 1/|T| is the integral of t^(|T| - 1), which
Gauss-Legendre nodes give exactly.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._coalitions import Pairs
from ._shapley import Estimate, regression

RHOS, GAMMAS, NUGGETS = (0.05, 0.1, 0.2, 0.35, 0.6), (0.0, 0.5, 1.0), (1e-4, 1e-2)
"""Largest weight, the power of |phi| by which players weigh less, and the share of variance that no smooth term explains: tried by restricted likelihood."""
TRIED = 250
"""Pairs on which that is tried; the chosen one is then fitted to all."""
HELD = 2**24
"""Numbers of covariance matrices that are in memory at once."""
FLOOR = 1e-3
"""Least weight of a player beside the weightiest."""


@dataclass(frozen=True)
class Prior:
    """One choice of the prior for R rows: weights (R, P) and nuggets (R,)."""

    weight: Tensor
    nugget: Tensor

    @property
    def spread(self) -> Tensor:
        """(R,) the variance of every coalition."""
        w = self.weight
        return ((1 + w).prod(1) - (1 - w).prod(1)) / 2 - w.sum(1)

    def covariance(self, s: Tensor) -> Tensor:
        """(R, M, M) between signs (M, P), in units of `spread`."""
        w = self.weight[:, None]
        g = (s * torch.atanh(w)) @ s.T
        a = torch.log1p(-w.square()).sum(2, keepdim=True) / 2
        k = torch.exp(a + g).sub_(torch.exp(a - g)).div_(2).sub_((s * w) @ s.T)
        return k.div_(self.spread[:, None, None])

    def noisy(self, k: Tensor) -> Tensor:
        """`k` with the nugget; the last coalition, everybody, is known without one."""
        noisy = k.clone()
        noisy.diagonal(dim1=1, dim2=2).add_(1e-9)[:, :-1].add_(self.nugget[:, None])
        return noisy


@dataclass(frozen=True)
class Fit:
    """A fitted process: factors, trend (R, P, Q), weights of coalitions (R, M, Q), variance (R, Q), restricted log likelihood (R, Q)."""

    factor: Tensor
    inner: Tensor
    trend: Tensor
    alpha: Tensor
    variance: Tensor
    likelihood: Tensor


def prior_of(pairs: Pairs, odd: Tensor, change: Tensor) -> Prior:
    """The prior of every row that its restricted likelihood prefers, on at most `TRIED` pairs, spread over all sizes."""
    first = regression(pairs, odd, change).values
    s, y = answers(pairs, odd, change, TRIED)
    y = y / size_of(y)
    part = (first.abs() / first.abs().amax(1, keepdim=True).clamp(min=1e-300)).clamp(min=FLOOR)
    best = torch.full((len(first),), -torch.inf, dtype=y.dtype)
    weight, nugget = torch.full_like(first, RHOS[0]), torch.full_like(best, NUGGETS[-1])
    for gamma in GAMMAS:
        for rho in RHOS:
            w = rho * part**gamma if gamma else torch.full_like(first[:1], rho)
            for nug, told in zip(NUGGETS, _likelihoods(w, s, y), strict=True):
                better = told > best
                best = torch.where(better, told, best)
                weight, nugget = torch.where(better[:, None], w, weight), torch.where(better, nug, nugget)
    return Prior(weight, nugget)


def krige(pairs: Pairs, odd: Tensor, change: Tensor, prior: Prior) -> Estimate:
    """Shapley values of (M, B) odd parts, and their posterior standard deviations."""
    s, y = answers(pairs, odd, change)
    scale = size_of(y)
    values = torch.zeros(odd.shape[1], s.shape[1], dtype=s.dtype)
    error = values.clone()
    for rows in _alike(prior):
        own = Prior(prior.weight[rows[:1]], prior.nugget[rows[:1]])
        fit = fitted_to(own.noisy(own.covariance(s)), s, (y / scale)[None, :, rows])
        got = values_of(own, fit, s)
        values[rows], error[rows] = got.values * scale[rows, None], got.error * scale[rows, None]
    return Estimate(values + (change - values.sum(1))[:, None] / values.shape[1], error)


def answers(pairs: Pairs, odd: Tensor, change: Tensor, most: int = 0) -> tuple[Tensor, Tensor]:
    """((M, P) signs, (M, B) odd parts) of all pairs, or of about `most`, everybody last."""
    few = thinned(len(pairs), most) if most else slice(None)
    return torch.cat([pairs.signs[few], torch.ones(1, pairs.top.shape[1], dtype=odd.dtype)]), torch.cat([odd[few], change[None] / 2])


def size_of(y: Tensor) -> Tensor:
    """(B,) how large the answers of a row are."""
    return y.square().mean(0).sqrt().clamp(min=1e-300)


def thinned(count: int, most: int) -> Tensor:
    """At most so many of `count` pairs, spread over all sizes."""
    return torch.arange(0, count, max(1, math.ceil(count / most)))


def _alike(choice: Prior) -> list[Tensor]:
    """Rows by their prior: those that share one share its factor."""
    _, which = torch.cat([choice.weight, choice.nugget[:, None]], 1).unique(dim=0, return_inverse=True)
    return [(which == k).nonzero()[:, 0] for k in range(int(which.max()) + 1)]


def _likelihoods(w: Tensor, s: Tensor, y: Tensor) -> list[Tensor]:
    """(B,) restricted log likelihoods, one for every nugget; a covariance that all rows share is factored once for all."""
    step = max(1, HELD // len(s) ** 2) if len(w) > 1 else y.shape[1]
    out: list[list[Tensor]] = [[] for _ in NUGGETS]
    for i in range(0, y.shape[1], step):
        part = slice(i, i + step)
        one = Prior(w[part] if len(w) > 1 else w, torch.zeros(1, dtype=w.dtype))
        k, mine = one.covariance(s), y.T[part, :, None] if len(w) > 1 else y[None]
        for told, nug in zip(out, NUGGETS, strict=True):
            told.append(fitted_to(Prior(one.weight, torch.full((1,), nug, dtype=w.dtype)).noisy(k), s, mine).likelihood.flatten())
    return [torch.cat(told) for told in out]


def fitted_to(k: Tensor, s: Tensor, y: Tensor) -> Fit:
    """Universal kriging of (R, M, Q) answers with covariances (R, M, M), the trend estimated with them."""
    m, n = s.shape
    factor, bad = torch.linalg.cholesky_ex(k)
    trend = s.expand(len(factor), m, n)
    half = torch.linalg.solve_triangular(factor, torch.cat([trend, y], 2), upper=False)
    hs, hy = half[:, :, :n], half[:, :, n:]
    inner = torch.linalg.cholesky_ex(hs.mT @ hs + 1e-10 * torch.eye(n, dtype=s.dtype))[0]
    beta = torch.cholesky_solve(hs.mT @ hy, inner)
    left = hy - hs @ beta
    freedom = max(m - n, 1)
    variance = left.square().sum(1) / freedom
    alpha = torch.linalg.solve_triangular(factor.mT, left, upper=True)
    told = -freedom / 2 * variance.clamp(min=1e-300).log() - (_log_diagonal(factor) + _log_diagonal(inner))[:, None]
    return Fit(factor, inner, beta, alpha, variance, told.masked_fill((bad > 0)[:, None], -torch.inf).nan_to_num(-torch.inf, -torch.inf, -torch.inf))


def _log_diagonal(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=1, dim2=2).log().sum(1)


def values_of(prior: Prior, fit: Fit, s: Tensor) -> Estimate:
    """(Q, P) Shapley values of one fitted process and their posterior standard deviations."""
    w = prior.weight[0]
    cross, own = _cross(w, s) / prior.spread[0], _own(w) / prior.spread[0]
    values = 2 * fit.trend[0] + cross.T @ fit.alpha[0]
    half = torch.linalg.solve_triangular(fit.factor[0], torch.cat([cross, s], 1), upper=False)
    hc, hs = half[:, : len(w)], half[:, len(w) :]
    r = 2 * torch.eye(len(w), dtype=s.dtype) - hs.T @ hc
    trend = torch.linalg.solve_triangular(fit.inner[0], r, upper=False)
    share = (own - hc.square().sum(0) + trend.square().sum(0)).clamp(min=0)
    return Estimate(values.T, (fit.variance[0, :, None] * share).sqrt())


def _nodes(n: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1]: exact for polynomials of degree n - 1; more than 32 change nothing in double precision."""
    q, w = np.polynomial.legendre.leggauss(min((n + 1) // 2 + 1, 32))
    return torch.from_numpy((q + 1) / 2), torch.from_numpy(w / 2)


def _cross(w: Tensor, s: Tensor) -> Tensor:
    """(M, P) covariance of a coalition's odd part and a player's value."""
    total = torch.zeros_like(s)
    for t, weight in zip(*_nodes(len(w)), strict=True):
        total += weight * _odd_without(t * w, s)
    return 2 * w * s * total


def _own(w: Tensor) -> Tensor:
    """(P,) prior variance of a player's value, less the trend's."""
    q, weights = _nodes(len(w))
    product = (q[:, None] * q).flatten()
    each = _odd_without(product[:, None] * w, torch.ones(1, len(w), dtype=w.dtype))
    return 4 * w * ((weights[:, None] * weights).flatten() @ each)


def _odd_without(w: Tensor, s: Tensor) -> Tensor:
    """[prod (1 + w_l s_l) + prod (1 - w_l s_l)] / 2 - 1 over all l but i, for every i."""
    there, away = 1 + w * s, 1 - w * s
    return (_but_one(there) + _but_one(away)) / 2 - 1


def _but_one(x: Tensor) -> Tensor:
    return torch.exp(torch.log(x).sum(1, keepdim=True)) / x
