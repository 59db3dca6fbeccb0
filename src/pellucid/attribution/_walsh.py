"""Sparse odd Walsh terms: which products of signs a game is made of, and the Shapley values of the game that they make."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ._coalitions import Pairs
from ._odd import Prior, answers, fitted_to
from ._shapley import Estimate, fitted, kernel, regression

EVERY = 5
"""Pairs for each term, so that few terms are there by luck."""
TERMS = 600
"""Terms of which no more are fitted to one row."""
LEADING = 80
"""Players among which three are looked for that act together; beyond them all threes would be too many."""
GROWN = 40
"""Strongest terms that are tried with two players more."""
SEEN = 600
"""Pairs on which terms are screened first."""


@dataclass(frozen=True)
class Terms:
    """(K, P) who is in each term."""

    member: Tensor

    def columns(self, s: Tensor) -> Tensor:
        """(M, K) the product of each term's signs."""
        away = (s < 0).double() @ self.member.double().T
        return 1 - 2 * away.remainder(2)

    def shares(self) -> Tensor:
        """(K, P) 2 / |T| for the members: Shapley values from coefficients."""
        return 2 * self.member.double() / self.member.sum(1, keepdim=True)


def sparse_fit(pairs: Pairs, odd: Tensor, change: Tensor, prior: Prior) -> Estimate:
    """Shapley values of (M, B) odd parts from the singles and, for each row, the strongest odd terms."""
    n = pairs.top.shape[1]
    plain = regression(pairs, odd, change)
    more = min(len(pairs) // EVERY - n, TERMS)
    if more < 1 or n < 3:
        return plain
    s, (seen, y) = pairs.signs, answers(pairs, odd, change, SEEN)
    rows = []
    for i, first in enumerate(plain.values):
        own = Prior(prior.weight[i : i + 1], prior.nugget[i : i + 1])
        rows.append(_row(pairs, s, odd[:, i : i + 1], change[i], first, own, (seen, y[:, i : i + 1]), more))
    return Estimate(torch.cat([r.values for r in rows]), torch.cat([r.error for r in rows]))


def _row(pairs: Pairs, s: Tensor, y: Tensor, change: Tensor, first: Tensor, prior: Prior, seen: tuple[Tensor, Tensor], more: int) -> Estimate:
    """Half of the terms by the posterior mean of a Gaussian process, half by what the fit to them leaves."""
    n, w = len(first), prior.weight[0]
    singles = Terms(torch.eye(n, dtype=torch.bool))
    alpha = fitted_to(prior.noisy(prior.covariance(seen[0])), seen[0], seen[1][None]).alpha[0, :, 0]
    lead = first.abs().argsort(descending=True, stable=True)[:LEADING]
    terms = _joined(singles, _threes(seen[0], alpha, w, lead, (more + 1) // 2))
    left = y[:, 0] - terms.columns(s) @ _coefficients(terms, pairs, s, y, change)[0][:, 0]
    weighted = left * _weights(pairs)
    found = _joined(_threes(s, weighted, w.sqrt(), lead, more), _fives(s, weighted, w.sqrt(), terms, lead, more))
    terms = _joined(terms, _strongest(found, s, weighted, w.sqrt(), terms, n + more - len(terms.member)))
    return _coefficients(terms, pairs, s, y, change)[1]


def _weights(pairs: Pairs) -> Tensor:
    return kernel(pairs.top.shape[1], pairs.top.sum(1)) / pairs.chance


def _joined(a: Terms, b: Terms) -> Terms:
    return Terms(torch.cat([a.member, b.member]))


def _coefficients(terms: Terms, pairs: Pairs, s: Tensor, y: Tensor, change: Tensor) -> tuple[Tensor, Estimate]:
    """((K, 1) coefficients, Shapley values): weighted least squares, the coefficients' sum held at half the change."""
    x, k = terms.columns(s), len(terms.member)
    a = x - x.mean(1, keepdim=True)
    b = y - x.sum(1, keepdim=True) * (change / 2 / k)
    w = _weights(pairs)
    back = torch.linalg.pinv(a.T @ (a * w[:, None]), rtol=1e-10, hermitian=True)
    to = terms.shares() - terms.shares().mean(0)
    own = fitted(a, w, b, back, 1 - pairs.chance, max(len(pairs) - k + 1, 1), to)
    coefficients = back @ (a.T @ (b * w[:, None])) + change / 2 / k
    return coefficients, Estimate(own.values + (terms.shares().sum(0) * change / 2 / k), own.error)


def _threes(s: Tensor, left: Tensor, w: Tensor, lead: Tensor, count: int) -> Terms:
    """The strongest products of three of the leading players in `left`."""
    z, own = s[:, lead], w[lead]
    scores, where = [], []
    for i in range(len(lead) - 2):
        rest = z[:, i + 1 :]
        c = ((rest * (left * z[:, i])[:, None]).T @ rest).abs() * own[i] * own[i + 1 :, None] * own[i + 1 :]
        a, b = torch.triu_indices(len(c), len(c), 1)
        best = c[a, b].topk(min(count, len(a)))
        scores.append(best.values)
        where.append(torch.stack([torch.full_like(best.indices, i), a[best.indices] + i + 1, b[best.indices] + i + 1], 1))
    top = torch.cat(scores).topk(min(count, sum(map(len, scores)))).indices
    return _members(lead[torch.cat(where)[top]], s.shape[1])


def _fives(s: Tensor, left: Tensor, w: Tensor, terms: Terms, lead: Tensor, count: int) -> Terms:
    """Threes that were found first, with two more of the leading players."""
    threes = terms.member[terms.member.sum(1) == 3][:GROWN]
    a, b = torch.triu_indices(len(lead), len(lead), 1)
    scores, found = [], []
    for t in threes:
        free = ~(t[lead[a]] | t[lead[b]])
        pairs = torch.stack([lead[a][free], lead[b][free]], 1)
        z = s * (left * s[:, t].prod(1))[:, None]
        c = (z.T @ s)[pairs[:, 0], pairs[:, 1]].abs() * w[t].prod() * w[pairs[:, 0]] * w[pairs[:, 1]]
        best = c.topk(min(count, len(c)))
        scores.append(best.values)
        found.append(_members(pairs[best.indices], len(t)).member | t)
    if not found or not sum(map(len, found)):
        return Terms(torch.zeros(0, s.shape[1], dtype=torch.bool))
    top = torch.cat(scores).topk(min(count, sum(map(len, scores)))).indices
    return Terms(torch.cat(found)[top])


def _strongest(found: Terms, s: Tensor, left: Tensor, w: Tensor, known: Terms, count: int) -> Terms:
    """The strongest of `found` that are not known yet, each once."""
    member = found.member.unique(dim=0)
    member = member[~(member[:, None] == known.member[None]).all(2).any(1)]
    force = (Terms(member).columns(s).T @ left).abs() * torch.where(member, w, 1).prod(1)
    return Terms(member[force.argsort(descending=True, stable=True)[:count]])


def _members(who: Tensor, players: int) -> Terms:
    return Terms(torch.zeros(len(who), players, dtype=torch.bool).scatter_(1, who, True))
