"""Interaction indices as sums over Moebius coefficients, and their estimates from some coalitions.

Every index of a group S is sum over U containing S of a(|U|) m(U), with a table `a` of its own and m the Moebius coefficients of the game
(what U is worth beyond all its parts). Written over coalitions it is sum over T of v(T) c(|T|, |T and S|).
"""

import functools
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ._coalitions import Pairs, everyone
from ._shapley import kernel

INDICES = ("SII", "k-SII", "STII", "FSII")
BERNOULLI = (Fraction(1), Fraction(-1, 2), Fraction(1, 6), Fraction(0))
PER_TERM = 2
"""Coalitions for each term of the polynomial that is fitted first."""


@dataclass(frozen=True)
class Found:
    """(B, I) indices of the groups `member` (I, P), and their standard errors."""

    member: Tensor
    values: Tensor
    error: Tensor


def groups(players: int, order: int) -> Tensor:
    """(I, P) all groups of 1 to `order` players, the small ones first."""
    chosen = [c for k in range(1, order + 1) for c in itertools.combinations(range(players), k)]
    member = torch.zeros(len(chosen), players, dtype=torch.bool)
    for row, c in zip(member, chosen, strict=True):
        row[list(c)] = True
    return member


@functools.cache
def moebius_weights(index: str, order: int, size: int, players: int) -> tuple[Fraction, ...]:
    """a(u) for u = 0 .. P: how a Moebius coefficient of u players counts for the index of a group of `size` among them."""
    return tuple(_weight(index, order, size, u) if u >= size else Fraction(0) for u in range(players + 1))


def _weight(index: str, k: int, s: int, u: int) -> Fraction:
    if index == "SII":
        return Fraction(1, u - s + 1)
    if index == "k-SII":
        return sum((BERNOULLI[j] * math.comb(u - s, j) / Fraction(u - s - j + 1) for j in range(min(k - s, u - s) + 1)), Fraction(0))
    if index == "STII":
        return Fraction(1, math.comb(u, k)) if s == k else Fraction(u == s)
    if u <= k:
        return Fraction(u == s)
    return (-1) ** (k - s) * Fraction(s, k + s) * math.comb(k, s) * Fraction(math.comb(u - 1, k), math.comb(u + k - 1, k + s))


@functools.cache
def coalition_weights(index: str, order: int, size: int, players: int) -> Tensor:
    """(P + 1, size + 1) c(t, r): how the worth of a coalition of t players, r of them in the group, counts for the group's index."""
    a, n = moebius_weights(index, order, size, players), players
    out = torch.zeros(n + 1, size + 1, dtype=torch.float64)
    for t in range(n + 1):
        for r in range(max(0, size - (n - t)), min(size, t) + 1):
            base = t + size - r
            out[t, r] = float(sum(math.comb(n - base, u - base) * (-1) ** (u - t) * a[u] for u in range(base, n + 1)))
    return out


def sign_weights(index: str, order: int, size: int, players: int) -> list[float]:
    """b(t): how the coefficient of a product of t signs counts for the index of a group of `size` among them."""
    a = moebius_weights(index, order, size, players)
    return [float(sum(math.comb(t - size, u - size) * 2**u * (-1) ** (t - u) * a[u] for u in range(size, t + 1))) if t >= size else 0.0 for t in range(players + 1)]


def counted(index: str, order: int, z: Tensor, member: Tensor) -> Tensor:
    """(K, I) how the worth of each coalition counts for the index of each group."""
    n = z.shape[1]
    total, inside = z.sum(1), (z.double() @ member.double().T).long()
    sizes = member.sum(1)
    out = torch.zeros(inside.shape, dtype=torch.float64)
    for s in sizes.unique().tolist():
        mine = sizes == s
        out[:, mine] = coalition_weights(index, order, s, n)[total[:, None], inside[:, mine]]
    return out


def exactly(index: str, order: int, worth: Tensor) -> Found:
    """From the worths (2**P, B) of all coalitions."""
    n = int(math.log2(len(worth)))
    member = groups(n, order)
    values = torch.zeros(worth.shape[1], len(member), dtype=torch.float64)
    z, step = everyone(n), max(1, 2**24 // len(member))
    for i in range(0, len(z), step):
        values += worth[i : i + step].T @ counted(index, order, z[i : i + step], member)
    return Found(member, values, torch.zeros_like(values))


def sampled(index: str, order: int, pairs: Pairs, worth: Tensor, ends: tuple[Tensor, Tensor]) -> Found:
    """From the worths (2 M, B) of pairs, complements last: a polynomial in signs is fitted, whose indices are known, and what it leaves is summed up
    with each coalition weighted by 1 / chance. The error is the spread of that sum within sizes, less the share that is known, widened by the
    share of the coalitions that the polynomial's own coefficients take up."""
    n = pairs.top.shape[1]
    member = groups(n, order)
    z = torch.cat([pairs.top, ~pairs.top, torch.zeros(1, n, dtype=torch.bool), torch.ones(1, n, dtype=torch.bool)])
    v, chance = torch.cat([worth, ends[0][None], ends[1][None]]), torch.cat([pairs.chance, pairs.chance, torch.ones(2, dtype=torch.float64)])
    terms = torch.cat([torch.zeros(1, n, dtype=torch.bool), groups(n, _degree(n, order, len(z)))])
    x = 1 - 2 * ((~z).double() @ terms.double().T).remainder(2)
    w = kernel(n, z.sum(1)) / chance
    w[-2:] = w.sum()
    q, r = torch.linalg.qr(x * w.sqrt()[:, None])
    coefficients = torch.linalg.pinv(r, rtol=1e-10) @ (q.T @ (v * w.sqrt()[:, None]))
    hat = q.square().sum(1).clamp(max=1 - 1e-6)
    left = v - x @ coefficients
    count = counted(index, order, z, member) / chance[:, None]
    values = coefficients.T @ _of_terms(index, order, terms, member) + left.T @ count
    taken = len(z) / max(len(z) - len(terms), 1)
    return Found(member, values, _spread(pairs, left / (1 - hat)[:, None], count) * taken)


def _degree(players: int, order: int, coalitions: int) -> int:
    """The highest degree of a polynomial that the coalitions can hold."""
    terms = [sum(math.comb(players, k) for k in range(d + 1)) for d in range(order + 1)]
    return max(d for d in range(order + 1) if d <= 1 or PER_TERM * terms[d] <= coalitions)


def _of_terms(index: str, order: int, terms: Tensor, member: Tensor) -> Tensor:
    """(K, I) the index of each group in a game that is one product of signs."""
    sizes, degree = member.sum(1), terms.sum(1)
    out = ((terms.double() @ member.double().T).long() == sizes).double()
    for s in sizes.unique().tolist():
        mine = sizes == s
        out[:, mine] *= torch.tensor(sign_weights(index, order, s, terms.shape[1]), dtype=torch.float64)[degree][:, None]
    return out


def _spread(pairs: Pairs, left: Tensor, count: Tensor) -> Tensor:
    """(B, I) standard errors: pairs of one size were drawn alike, without replacement."""
    m, size = len(pairs), pairs.top.sum(1)
    out = torch.zeros(left.shape[1], count.shape[1], dtype=torch.float64)
    for s in size.unique().tolist():
        mine = (size == s).nonzero()[:, 0]
        k, free = len(mine), float(1 - pairs.chance[mine[0]])
        for b in range(left.shape[1] if free > 0 else 0):
            each = left[mine, b, None] * count[mine] + left[mine + m, b, None] * count[mine + m]
            mean = each.mean(0) if k > 1 else 0
            out[b] += free * (each - mean).square().sum(0) * k / max(k - 1, 1)
    return out.sqrt()
