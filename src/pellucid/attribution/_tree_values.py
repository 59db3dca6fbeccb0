"""Exact values of tree ensembles: along the trees' own paths or against a background, and interactions. Compiled where numba is there, else numpy."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.ensemble import Ensemble, Floats, Ints
from ..core.errors import NotApplicable

DEEPEST = 16
"""The most features on a path for which a leaf gets tables: 2^16 numbers each."""
BITS = 62
"""The most features on a path that a pattern can tell apart."""
ROOM = 2**26
"""Bytes of tables that are held at once."""


@functools.cache
def compiled() -> bool:
    """Whether numba is there."""
    return importlib.util.find_spec("numba") is not None


@dataclass(frozen=True)
class Weighing:
    """How much coalitions of each size count: a measure on [0, 1], the chance that another player takes part.

    The uniform one gives Shapley values, all mass at 1/2 Banzhaf values, Beta(beta, alpha) the Beta Shapley values of Kwon, Zou 2022 (arXiv:2110.14049):
    alpha above beta counts small coalitions more.
    """

    alpha: float = 1.0
    beta: float = 1.0
    half: bool = False

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def nodes(self, players: int) -> tuple[Floats, Floats]:
        """(chances, weights) that integrate what a path with so many players needs, exactly."""
        if self.half:
            return np.array([0.5]), np.array([1.0])
        n = max(1, (players + 1) // 2)
        if self.alpha == self.beta == 1:
            x, w = np.polynomial.legendre.leggauss(n)
            return (x + 1) / 2, w / 2
        from scipy.special import roots_jacobi

        x, w = roots_jacobi(n, self.beta - 1, self.alpha - 1)
        return (1 - x) / 2, w / w.sum()

    def chances(self, most: int) -> Floats:
        """(most, most): the chance that a players whom it takes are there and b others are not."""
        a, b = np.mgrid[:most, :most]
        if self.half:
            return 0.5 ** (a + b)
        from scipy.special import betaln

        return np.asarray(np.exp(betaln(a + self.beta, b + self.alpha) - betaln(self.alpha, self.beta)))


SHAPLEY = Weighing()


class Tables:
    """What the kernels need of an ensemble, made once."""

    def __init__(self, trees: Ensemble, weighing: Weighing) -> None:
        t = self.trees = trees
        self.by_width: Ints = np.array([len(weighing.nodes(d)[0]) for d in range(int(t.widest.max()) + 1)])
        """Quadrature nodes for so many features on a path."""
        self.nodes: Ints = self.by_width[t.widest]
        most = int(self.nodes.max())
        self.quads = np.zeros((most + 1, 2, most))
        for d, n in enumerate(self.by_width):
            self.quads[n, :, :n] = weighing.nodes(d)
        self.above: Ints = np.where(t.above >= 0, t.level[np.maximum(t.above, 0)], 0)
        self.splits = (t.feature, t.threshold, t.category, t.missing_left, t.missing, t.words)
        self.at: Ints = np.zeros(len(t.output), np.int64)
        """Where the factors of each tree begin."""
        self.tab = self._tab()

    @functools.cached_property
    def paths(self) -> tuple[Ints, Ints, Ints]:
        """What lies on the path to each leaf."""
        return self.trees.on_paths()

    def _tab(self) -> Floats:
        """Three factors a node and quadrature node, none of them a quotient of covers: a child that no training row reached is fine."""
        t, sizes = self.trees, np.diff(self.trees.start)
        upper = np.where(t.above >= 0, t.joint[np.maximum(t.above, 0)], 1.0)
        out, used = [np.zeros(0)], 0
        for n in np.unique(self.nodes).tolist():
            own = np.flatnonzero(self.nodes == n)
            at = np.flatnonzero(np.repeat(self.nodes == n, sizes))
            self.at[own] = used + 3 * n * np.concatenate([[0], np.cumsum(sizes[own])[:-1]])
            q, z, za, r = self.quads[n, 0, :n][None], t.joint[at, None], upper[at, None], t.share[at, None]
            here, above, off = q + (1 - q) * z, q + (1 - q) * za, (1 - q) * z
            block = np.empty((len(at), 3, n))
            block[:, 0], block[:, 1], block[:, 2] = off / above - r, (here - off) / above, (1 - z) / here + 1 / (1 - q)
            out.append(block.ravel())
            used += block.size
        return np.concatenate(out)


def tables(trees: Ensemble, weighing: Weighing) -> Tables:
    """The ensemble's tables, kept with it."""
    kept: dict[Any, Tables] = trees.__dict__.setdefault("_tables", {})
    if weighing not in kept:
        kept[weighing] = Tables(trees, weighing)
    return kept[weighing]


def answers(trees: Ensemble, z: Floats) -> Floats:
    """(rows, outputs) what the trees add up to."""
    if not compiled():
        return trees.sums(z)
    from ._tree_kernels import add_up

    out = np.tile(trees.base, (len(z), 1))
    add_up(trees.start, trees.end, trees.value, trees.output, trees.feature, trees.threshold, trees.category, trees.missing_left, trees.missing, trees.words, z, out)
    return out


def shared_out(work: Callable[[slice], None], n: int, least: int) -> None:
    """Does `work` on slices of n things, several at a time where there are threads for it; none is smaller than `least`."""
    threads = min(int(importlib.import_module("numba").config.NUMBA_NUM_THREADS), n // least)
    if threads < 2:
        return work(slice(0, n))
    step = least * -(-n // (least * threads * 4))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (slice(i, min(i + step, n)) for i in range(0, n, step))))
    return None


def closed(values: Floats) -> Floats:
    """With the last output, which loses what the others gain."""
    return np.concatenate([values, -values.sum(-1, keepdims=True)], -1)


def along_paths(trees: Ensemble, z: Floats, weighing: Weighing = SHAPLEY) -> Floats:
    """(rows, players, outputs): absent players follow the trees' own training rows."""
    if (fewer := trees.opened()) is not None:
        return closed(along_paths(fewer, z, weighing))
    out = np.zeros((len(z), trees.players, trees.outputs))
    if not compiled():
        return _leaf_by_leaf(trees, z, weighing, out)
    from ._tree_kernels import path_values

    t, k = trees, tables(trees, weighing)
    shared_out(lambda s: path_values(t.start, t.level, t.parent, t.left_child, k.above, t.parted, t.edge, t.share, t.value, t.output, k.nodes, k.at, k.tab, k.quads, t.depth + 2,
                                     *k.splits, z[s], out[s]), len(z), 128)
    return out


def interactions(trees: Ensemble, z: Floats) -> Floats:
    """(rows, players, players, outputs): half of a pair's Shapley interaction on either side, the diagonal takes what is left of the value."""
    from ._tree_kernels import path_interactions

    if (fewer := trees.opened()) is not None:
        return closed(interactions(fewer, z))
    out = np.zeros((len(z), trees.players, trees.players, trees.outputs))
    t, k = trees, tables(trees, SHAPLEY)
    begin, _, levels = k.paths
    shared_out(lambda s: path_interactions(t.start, t.level, t.parent, t.left_child, k.above, t.edge, t.share, t.value, t.output, k.nodes, k.at, k.tab, k.quads, t.depth + 2,
                                           levels, begin, t.distinct, *k.splits, z[s], out[s]), len(z), 16)
    return out


def against(trees: Ensemble, z: Floats, background: Floats, weighing: Weighing = SHAPLEY, form: str = "auto") -> Floats:
    """(rows, players, outputs): absent players hold what a background row holds, the mean over all of them."""
    from ._tree_tables import count, follow, look_up

    if trees.widest.max() > BITS:
        raise NotApplicable(f"A background needs trees with at most {BITS} different columns on a path; this model has one with {int(trees.widest.max())}. Use the trees' own paths (no background).")
    if (fewer := trees.opened()) is not None:
        return closed(against(fewer, z, background, weighing, form))
    t, k = trees, tables(trees, weighing)
    out = np.zeros((len(z), t.players, t.outputs))
    fresh = (t.above < 0) & (t.parent >= 0)
    shape = (t.level, t.parent, t.left_child, fresh, t.slot, t.distinct)
    b, (begin, on_path, _) = np.ascontiguousarray(background.T), k.paths
    columns = lambda s: np.ascontiguousarray(z[s].T)  # noqa: E731
    tabled = by_table(trees, len(z), len(background)) if form == "auto" else np.full(len(t.output), form == "tables")
    for group, where, room in _groups(trees, np.flatnonzero(tabled)):
        big, both = np.empty(room), np.empty(room)
        shared_out(lambda s: count(group[s], t.start, *shape, k.by_width, k.quads, t.depth + 1, *k.splits, b, where, big, both), len(group), 1)  # noqa: B023
        shared_out(lambda s: look_up(group, t.start, *shape, on_path, begin, t.value, t.output, t.depth + 1, *k.splits, columns(s), where, big, both, out[s]), len(z), 64)  # noqa: B023
    chances, rest = weighing.chances(BITS + 1), np.flatnonzero(~tabled)
    if rest.size:
        shared_out(lambda s: follow(rest, t.start, t.end, *shape, on_path, begin, t.value, t.output, t.depth + 1, *k.splits, chances, columns(s), b, out[s]), len(z), 16)
    return out


def by_table(trees: Ensemble, rows: int, background: int) -> NDArray[np.bool_]:
    """For which trees counting patterns is cheaper than following background rows, in nanoseconds as they were measured."""
    leaf = trees.feature < 0
    leaves = np.add.reduceat(leaf.astype(float), trees.start[:-1])
    d = trees.distinct.astype(float)
    made = np.add.reduceat(np.where(leaf, 2.0 ** np.minimum(d, 60) * (d * (d + 1) / 8 + d), 0), trees.start[:-1])
    table = made + leaves * (5.0 * rows + 1.5 * background)
    direct = rows * background * np.minimum(leaves, 4 + 3 * np.sqrt(leaves)) * 2.5 + background * leaves
    return np.asarray((table < direct) & (trees.widest <= DEEPEST) & (_room(trees) * 16 <= ROOM))


def _room(trees: Ensemble) -> Floats:
    """Numbers that one table of each tree holds."""
    return np.add.reduceat(np.where(trees.feature < 0, 2.0 ** np.minimum(trees.distinct, 60), 0), trees.start[:-1])


def _groups(trees: Ensemble, chosen: Ints) -> list[tuple[Ints, Ints, int]]:
    """Trees whose tables are held together: (which, where each leaf's begin, how many numbers)."""
    sizes, groups, held = _room(trees), list[list[int]](), 0.0
    for t in chosen.tolist():
        if not groups or (held + sizes[t]) * 16 > ROOM:
            groups.append([])
            held = 0.0
        groups[-1].append(t)
        held += sizes[t]
    found = []
    for group in groups:
        leaf = np.concatenate([np.flatnonzero(trees.feature[trees.start[t] : trees.start[t + 1]] < 0) + trees.start[t] for t in group])
        ends = np.cumsum(2 ** trees.distinct[leaf])
        where = np.zeros(len(trees.feature), np.int64)
        where[leaf] = np.concatenate([[0], ends[:-1]])
        found.append((np.array(group), where, int(ends[-1])))
    return found


def _leaf_by_leaf(trees: Ensemble, z: Floats, weighing: Weighing, out: Floats) -> Floats:
    """Without numba: the formula of each leaf as it stands, all rows at once."""
    begin, features, _ = trees.on_paths()
    for i in np.flatnonzero(trees.feature < 0).tolist():
        d, at = int(trees.distinct[i]), int(begin[i])
        if not d:
            continue
        met, usual = np.ones((len(z), d), bool), np.ones(d)
        j = i
        while trees.parent[j] >= 0:
            p, s = int(trees.parent[j]), int(trees.slot[j])
            v = z[:, trees.feature[p]]
            met[:, s] &= trees.goes_left(v, np.full(len(v), p)) == bool(trees.left_child[j])
            usual[s] *= trees.share[j]
            j = p
        q, w = weighing.nodes(d)
        factor = q[:, None, None] * met + (1 - q[:, None, None]) * usual  # (nodes, rows, features)
        others = np.stack([np.delete(factor, k, 2).prod(2) for k in range(d)], 2)
        share = (met - usual) * np.tensordot(w, others, 1)
        value = trees.value[i]
        to = slice(None) if len(value) > 1 else int(trees.output[trees.tree[i]])
        for k in range(d):
            out[:, features[at + k], to] += share[:, k, None] * value if len(value) > 1 else share[:, k] * value[0]
    return out
