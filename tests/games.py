"""Games without a model: many at once, one a row, each a function of who is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from pellucid.core.game import Board, Game
from pellucid.core.points import Points

Worth = Callable[[Tensor], Tensor]
"""(K, P) numbers, 1 for present and 0 for absent, to (K,) worths."""


@dataclass(frozen=True)
class Table:
    """Stands for a question: row i asks the i-th function."""

    worths: tuple[Worth, ...]
    seed: int = 0
    model: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="game"))

    @property
    def size(self) -> int:
        return len(self.worths)

    def value(self, points: Points) -> Tensor:
        k = torch.arange(points.n)
        return torch.stack([w(points.make(k, torch.full_like(k, i))) for i, w in enumerate(self.worths)], 1)

    def take(self, rows: Tensor) -> "Table":
        return Table(tuple(self.worths[i] for i in rows.tolist()), self.seed, self.model)


def game_of(worths: list[Worth], players: int, seed: int = 0) -> Game:
    """One game of all those functions, row by row."""
    names = (tuple(f"player {i}" for i in range(players)),) * len(worths)
    return Game(Board(Table(tuple(worths), seed), names, "nothing", lambda present, rows, copies: present.double(), lambda t: t))


def table(n: int, seed: int) -> Worth:
    """A random set function: noise over a random additive part."""
    r = np.random.default_rng((seed, n))
    noise, slope = torch.from_numpy(r.normal(size=2**n)), torch.from_numpy(r.normal(size=n))
    place = 2 ** torch.arange(n)
    return lambda z: noise[(z.long() * place).sum(1)] * 0.5 + z @ slope


def sparse(n: int, seed: int) -> Worth:
    """Additive, with some random interactions of two to four players."""
    r = np.random.default_rng((seed, n))
    slope = torch.from_numpy(r.normal(size=n))
    terms = [(float(r.normal()), torch.from_numpy(r.choice(n, r.integers(2, 5), replace=False))) for _ in range(n)]
    return lambda z: z @ slope + sum(c * z[:, t].prod(1) for c, t in terms)


def network(n: int, seed: int) -> Worth:
    """A random multilayer perceptron between two random inputs."""
    r = np.random.default_rng((seed, n))
    a, b, c = (torch.from_numpy(r.normal(size=s) / s[-1] ** 0.5) for s in ((32, n), (32, 32), (1, 32)))
    x, x0 = torch.from_numpy(r.normal(size=n) * 2), torch.from_numpy(r.normal(size=n))
    return lambda z: (torch.relu(torch.relu((x0 + z * (x - x0)) @ a.T) @ b.T) @ c.T)[:, 0] * 3


def threshold(n: int, seed: int) -> Worth:
    """A smooth vote: it is worth one where the present weigh enough."""
    r = np.random.default_rng((seed, n))
    weight = torch.from_numpy(r.uniform(0.2, 1, size=n))
    return lambda z: torch.sigmoid(8 * ((z @ weight) / weight.sum() - 0.5))


def largest(n: int, seed: int) -> Worth:
    """The largest of those present."""
    own = torch.from_numpy(np.random.default_rng((seed, n)).uniform(size=n))
    return lambda z: (z * own).amax(1)


def parity(n: int, seed: int) -> Worth:
    """Additive, with a few products of signs of two and three players: like XOR."""
    r = np.random.default_rng((seed, n))
    slope = torch.from_numpy(r.normal(size=n))
    terms = [torch.from_numpy(r.choice(n, k, replace=False)) for k in (2, 3, 3)]
    return lambda z: z @ slope + sum((2 * z[:, t] - 1).prod(1) for t in terms)


KINDS = {"table": table, "sparse": sparse, "network": network, "threshold": threshold, "largest": largest, "parity": parity}


def games(kind: str, n: int, count: int, seed: int = 0) -> Game:
    """`count` games of one kind, one a row."""
    return game_of([KINDS[kind](n, 1000 * seed + i) for i in range(count)], n, seed)
