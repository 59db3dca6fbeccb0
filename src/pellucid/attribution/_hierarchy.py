"""Players in groups within groups: a tree from a user's nested lists, or from what belongs together; orders and contexts that keep groups together."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board
from ..core.start import Samples

Tree = Any
"""A player's number, or a tuple of trees."""


def tree_of(hierarchy: Any, board: Board) -> Tree:
    """The tree that is meant: nested lists of numbers or names, "flat", "halves", or "auto"."""
    n = board.players
    if hierarchy == "flat":
        return tuple(range(n))
    if hierarchy == "halves":
        return _halved(list(range(n)))
    if hierarchy == "auto":
        return _clustered(board)
    if isinstance(hierarchy, (list, tuple)):
        return _given(hierarchy, board)
    raise UsageError(f'owen-values needs hierarchy as "auto", "halves", "flat", or nested lists of players; got {hierarchy!r}.')


def _given(nested: Any, board: Board) -> Tree:
    names = {name: i for i, name in enumerate(board.names[0])}
    seen: set[int] = set()

    def read(node: Any) -> Tree:
        if isinstance(node, (list, tuple)):
            return tuple(read(k) for k in node)
        i = names.get(node, node)
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < board.players or i in seen:
            raise UsageError(f"owen-values needs every player once in its hierarchy, by name or by a number below {board.players}; got {node!r}.")
        seen.add(i)
        return i

    tree = read(nested)
    return (*tree, *(i for i in range(board.players) if i not in seen))


def _halved(players: list[int]) -> Tree:
    if len(players) == 1:
        return players[0]
    middle = (len(players) + 1) // 2
    return (_halved(players[:middle]), _halved(players[middle:]))


def _clustered(board: Board) -> Tree:
    """By correlation of a background's columns, by nearness of a picture's parts, or, where neither is known, neighbours in halves."""
    distance = _far(board)
    if distance is None or board.players < 3:
        return _halved(list(range(board.players)))
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    trees: list[Tree] = list(range(board.players))
    for a, b, *_ in linkage(squareform(distance, checks=False), "average"):
        trees.append((trees[int(a)], trees[int(b)]))
    return trees[-1]


def _far(board: Board) -> np.ndarray | None:
    q, labels = board.question, board.labels
    if labels is None or any(len(n) != board.players for n in board.names):
        return None
    if labels.ndim == 2 and isinstance(q.baseline, Samples) and not q.places and q.baseline.n > 2:
        return _unlike(labels[0], q.baseline.parts[0].double().cpu())
    if labels.ndim == 4:
        return _apart(labels[0])
    return None


def _unlike(label: Tensor, background: Tensor) -> np.ndarray:
    """1 - |correlation|, the mean over the columns of two players."""
    z = background - background.mean(0)
    z = z / z.norm(dim=0).clamp(min=1e-12)
    member = torch.stack([(label == i).double() for i in range(int(label.max()) + 1)])
    member = member / member.sum(1, keepdim=True)
    far = 1 - member @ (z.T @ z).abs() @ member.T
    return (far * (1 - torch.eye(len(far)))).numpy()


def _apart(label: Tensor) -> np.ndarray:
    """Distances between the middles of a picture's parts."""
    n = int(label.max()) + 1
    where = torch.stack(torch.meshgrid(*(torch.arange(s, dtype=torch.float64) for s in label.shape[1:]), indexing="ij"), -1)
    first = label[0].flatten()
    middle = torch.zeros(n, 2, dtype=torch.float64).index_add_(0, first.clamp(min=0), where.reshape(-1, 2) * (first >= 0)[:, None])
    middle = middle / torch.bincount(first.clamp(min=0), (first >= 0).double(), n)[:, None].clamp(min=1)
    return torch.cdist(middle, middle).numpy()


def shuffled(tree: Tree, rng: np.random.Generator) -> np.ndarray:
    """A random order of the players in which every group stays together."""
    if isinstance(tree, int):
        return np.array([tree])
    return np.concatenate([shuffled(tree[i], rng) for i in rng.permutation(len(tree))])


def members(tree: Tree) -> list[int]:
    """The players below."""
    return [tree] if isinstance(tree, int) else [i for child in tree for i in members(child)]


def contexts(tree: Tree) -> int:
    """How many coalitions of others there are for all players together, groups beside a player's own being there whole or not at all."""
    if isinstance(tree, int):
        return 1
    return 2 ** (len(tree) - 1) * sum(contexts(child) for child in tree)


def weighed(tree: Tree) -> Iterator[tuple[int, float, list[int]]]:
    """(player, weight, others that are there) for every context."""

    def go(node: Tree, weight: float, there: list[int]) -> Iterator[tuple[int, float, list[int]]]:
        if isinstance(node, int):
            yield node, weight, there
            return
        for i, child in enumerate(node):
            rest = [members(c) for j, c in enumerate(node) if j != i]
            for size in range(len(rest) + 1):
                share = weight / (len(node) * math.comb(len(node) - 1, size))
                for chosen in itertools.combinations(rest, size):
                    yield from go(child, share, [*there, *itertools.chain(*chosen)])

    yield from go(tree, 1.0, [])
