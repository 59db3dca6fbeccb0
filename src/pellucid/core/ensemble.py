"""Decision trees of any library as one flat structure: what readers fill in, and tree methods walk.

Nodes of a tree stand in preorder: a left child follows its parent, `end[i]` is the first node after the subtree of i, and the
right child of i stands at `end[i + 1]`. Every split is "x in S goes left", S being {x <= threshold} or a set of categories.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ModelError, NotApplicable, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ZERO = 1e-35
"""What is no larger counts as zero where zero counts as missing."""
AT_ONCE = 2**18
"""Rows times trees that are walked together."""
READS_ZERO, MISSING, ZERO_MISSING = 0, 1, 2
"""What NaN means at a split: zero; missing; missing as zero is too."""


@dataclass(frozen=True)
class OneTree:
    """One tree as its library has it. `left[i] < 0` marks a leaf; `value` is (nodes, outputs) or (nodes,) for one output, `output`.

    `sets` are the categories that go left at a node, `known` those that the split knows: others are missing there.
    """

    left: ArrayLike
    right: ArrayLike
    feature: ArrayLike
    threshold: ArrayLike
    cover: ArrayLike
    value: ArrayLike
    output: int = 0
    missing_left: ArrayLike | None = None
    missing: ArrayLike | int = MISSING
    sets: Mapping[int, NDArray[np.uint32]] = field(default_factory=dict)
    known: Mapping[int, NDArray[np.uint32]] = field(default_factory=dict)


def bits(categories: Sequence[int]) -> NDArray[np.uint32]:
    """Categories as a set of bits, 32 a word."""
    words = np.zeros(max(categories, default=0) // 32 + 1, np.uint32)
    for c in categories:
        words[c // 32] |= np.uint32(1 << (c % 32))
    return words


class Ensemble:
    """All trees of a model, added up: `base` + sum of the leaves that a row reaches, for each of `outputs` outputs."""

    def __init__(self, trees: Sequence[OneTree], features: int, outputs: int, base: ArrayLike = 0.0, *, single: bool = False, prepare: Callable[[Floats], Floats] | None = None) -> None:
        if not trees:
            raise UsageError("A tree method needs at least one tree; the model holds none. Fit it first.")
        self.features, self.outputs, self.single, self.prepare = features, outputs, single, prepare
        self.base = np.broadcast_to(np.asarray(base, np.float64), (outputs,)).copy()
        laid = _Laid(trees)
        self.start, self.end, self.parent, self.level = laid.start, laid.end, laid.parent, laid.level
        self.tree: Ints = np.repeat(np.arange(len(trees)), np.diff(self.start))
        self.output = np.array([t.output for t in trees])
        self.feature, self.threshold, self.cover, self.value = laid.feature, laid.threshold, laid.cover, laid.value
        self.missing_left, self.missing, self.left_child = laid.missing_left, laid.missing, laid.left_child
        self.category, self.words = _sets(trees, laid.place, laid.first)
        self.players, self.owner = features, np.arange(features)
        self._paths()

    # -- what the paths are made of ------------------------------------------------------------------------------------

    def _paths(self) -> None:
        """For the edge into each node: its player, the edge above of the same player, shares of the cover, and the player's place on the path."""
        inner = self.parent >= 0
        up = np.maximum(self.parent, 0)
        self.edge: Ints = np.where(inner, self.owner[self.feature[up]], -1)
        whole = self.cover[up]
        self.share: Floats = np.where(inner, np.divide(self.cover, whole, out=np.full(len(whole), 0.5), where=whole > 0), 1.0)
        self.above = _same_above(self.parent, self.edge)
        self.parted = np.zeros(len(inner), np.int8)
        """Whether the same player splits again below the edge."""
        self.parted[self.above[self.above >= 0]] = 1
        self.joint: Floats = self.share.copy()
        """The product of the shares of all edges of this player on the path."""
        self.distinct = np.zeros(len(inner), np.int64)
        """Players that differ on the path to a node."""
        self.slot = np.zeros(len(inner), np.int64)
        for d in range(1, int(self.level.max()) + 1):
            at = np.flatnonzero(self.level == d)
            above, new = self.above[at], self.above[at] < 0
            self.joint[at] *= np.where(new, 1.0, self.joint[np.maximum(above, 0)])
            self.distinct[at] = self.distinct[self.parent[at]] + new
            self.slot[at] = np.where(new, self.distinct[self.parent[at]], self.slot[np.maximum(above, 0)])
        self.widest: Ints = np.maximum.reduceat(np.where(self.feature < 0, self.distinct, 0), self.start[:-1])
        """The most players that differ on a path of each tree."""

    def played(self, owner: Ints, players: int) -> "Ensemble":
        """The same trees in the game whose players own features: all features of a player are there or absent together."""
        if players == self.players and np.array_equal(owner, self.owner):
            return self
        kept: dict[Any, Ensemble] = self.__dict__.setdefault("_games", {})
        key = (players, owner.tobytes())
        if key not in kept:
            new = self._bare()
            new.players, new.owner = players, np.asarray(owner, np.int64)
            new._paths()
            kept.clear()
            kept[key] = new
        return kept[key]

    def narrowed(self) -> tuple["Ensemble", Ints]:
        """(the same trees over the features that they split by, which those are)."""
        used = np.unique(np.append(self.feature[self.feature >= 0], [0] if (self.feature < 0).all() else []).astype(np.int64))
        new = self._bare()
        new.features = new.players = len(used)
        new.owner, new.prepare = np.arange(len(used)), None
        new.feature = np.where(self.feature < 0, -1, np.searchsorted(used, self.feature))
        new._paths()
        return new, used

    def _bare(self) -> "Ensemble":
        """A copy that shares the nodes, less what was kept with them."""
        new = copy.copy(self)
        for kept in ("_tables", "_games", "_opened"):
            new.__dict__.pop(kept, None)
        return new

    @property
    def depth(self) -> int:
        """The longest path."""
        return int(self.level.max())

    def on_paths(self) -> tuple[Ints, Ints, Ints]:
        """(where each leaf's list begins, the players that differ on its path, the levels of their last edges), by their place on the path."""
        leaf = np.flatnonzero(self.feature < 0)
        begin = np.zeros(len(self.feature), np.int64)
        begin[leaf] = np.concatenate([[0], np.cumsum(self.distinct[leaf])[:-1]])
        players, levels = np.zeros(int(self.distinct[leaf].sum()), np.int64), np.full(int(self.distinct[leaf].sum()), -1)
        todo, at = leaf, leaf
        while (alive := self.parent[at] >= 0).any():
            todo, at = todo[alive], at[alive]
            to = begin[todo] + self.slot[at]
            new = levels[to] < 0
            players[to[new]], levels[to[new]] = self.edge[at[new]], self.level[at[new]]
            at = self.parent[at]
        return begin, players, levels

    def expected(self) -> Floats:
        """(outputs,) the answer when every split is taken as often as in training."""
        reach = np.ones(len(self.level))
        for d in range(1, self.depth + 1):
            at = np.flatnonzero(self.level == d)
            reach[at] = reach[self.parent[at]] * self.share[at]
        leaf = np.flatnonzero(self.feature < 0)
        return self.base + self._gathered(self.value[leaf] * reach[leaf, None], self.tree[leaf])

    def _gathered(self, values: Floats, trees: Ints) -> Floats:
        """(outputs,) sums of leaves' values by the output that their tree adds to."""
        if values.shape[1] > 1:
            return np.asarray(values.sum(0))
        return np.asarray(np.bincount(self.output[trees], values[:, 0], minlength=self.outputs), np.float64)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, x: ArrayLike) -> Floats:
        """Rows as the trees read them: of the library's own precision."""
        z = np.asarray(x, np.float64)
        if z.ndim != 2 or z.shape[1] != self.features:
            raise UsageError(f"The trees need rows of {self.features} columns; got shape {z.shape}.")
        return self.cast(self.prepare(z) if self.prepare is not None else z)

    def cast(self, z: Floats) -> Floats:
        """Rows of features in the precision that the library compares in."""
        return np.ascontiguousarray(z.astype(np.float32).astype(np.float64) if self.single else z)

    def leaves(self, z: Floats) -> Ints:
        """(rows, trees) the leaf that each row reaches in each tree."""
        at = np.tile(self.start[:-1], (len(z), 1)).ravel()
        row = np.repeat(np.arange(len(z)), len(self.output))
        going = np.flatnonzero(self.feature[at] >= 0)
        while going.size:
            i = at[going]
            i = np.where(self.goes_left(z[row[going], self.feature[i]], i), i + 1, self.end[i + 1])
            at[going] = i
            going = going[self.feature[i] >= 0]
        return at.reshape(len(z), -1)

    def goes_left(self, v: Floats, i: Ints) -> NDArray[np.bool_]:
        """Whether values `v` go left at nodes `i`."""
        nan, kind = np.isnan(v), self.missing[i]
        missing = (nan & (kind != READS_ZERO)) | ((kind == ZERO_MISSING) & (nan | (np.abs(v) <= ZERO)))
        left = np.where(nan, 0.0, v) <= self.threshold[i]
        sets = np.flatnonzero(self.category[i, 1] > 0)
        if sets.size:
            inside, strange = self._in_set(v[sets], i[sets])
            left[sets], missing[sets] = inside, strange
        return np.where(missing, self.missing_left[i] != 0, left)

    def _in_set(self, v: Floats, i: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(whether a category is among those that go left, whether it is missing or one that the split does not know)."""
        start, size, known, most = self.category[i].T
        real = (v > -1) & (v < 2**31 - 1)
        c = np.where(real, v, 0).astype(np.int64)
        has = lambda at, n: real & (c >> 5 < n) & ((self.words[np.minimum(at + (c >> 5), len(self.words) - 1)] >> (c & 31).astype(np.uint32)) & 1).astype(bool)  # noqa: E731
        inside = has(start, size)
        return inside, np.isnan(v) | ((most > 0) & ~inside & ~has(known, most))

    def predict(self, x: ArrayLike) -> Floats:
        """(rows, outputs) what the trees add up to."""
        return self.sums(self.rows(x))

    def sums(self, z: Floats) -> Floats:
        """The same for rows that are prepared already."""
        out, step = np.tile(self.base, (len(z), 1)), max(1, AT_ONCE // len(self.output))
        for at in range(0, len(z), step):
            found = self.value[self.leaves(z[at : at + step])]
            if found.shape[2] > 1:
                out[at : at + step] += found.sum(1)
            else:
                for k in np.unique(self.output).tolist():
                    out[at : at + step, k] += found[:, self.output == k, 0].sum(1)
        return out

    def opened(self) -> "Ensemble | None":
        """The trees less their last output, where every leaf's outputs add up to the same; None elsewhere.

        Shares of classes do: what lifts one lowers the others by as much.
        """
        if self.value.shape[1] < 2:
            return None
        if "_opened" not in self.__dict__:
            leaf = self.feature < 0
            sums = np.where(leaf, self.value.sum(1), np.nan)
            low, high = np.fmin.reduceat(sums, self.start[:-1]), np.fmax.reduceat(sums, self.start[:-1])
            new = self._bare()
            new.value, new.outputs, new.base = np.ascontiguousarray(self.value[:, :-1]), self.outputs - 1, self.base[:-1]
            self.__dict__["_opened"] = new if bool((high - low <= 1e-12 * np.maximum(np.abs(high), 1e-3)).all()) else None
        return self.__dict__["_opened"]

    def verify(self, x: ArrayLike, answers: ArrayLike, tolerance: float, who: str) -> None:
        """Refuses trees that do not answer as the library does on these rows."""
        own, theirs = self.predict(x), np.asarray(answers, np.float64).reshape(len(np.asarray(x)), -1)
        if own.shape != theirs.shape:
            raise ModelError(f"The trees of {who} give {own.shape[1]} outputs a row and its own predict {theirs.shape[1]}: this kind of model is not read yet.")
        off = np.abs(own - theirs).max(initial=0)
        if not off <= tolerance * max(1.0, float(np.abs(theirs).max(initial=0))):
            raise ModelError(f"The trees of {who} as they were read differ from its own predict by {off:.3g}: this kind of model is not read rightly. Please report it; nothing was explained.")


@dataclass(frozen=True)
class TreeSum:
    """A model as a sum over trees: in which scale they add up, in words ("" for that of the answers), and what they read of a question's inputs.

    `sources[f]` are the columns that feature f of the ensemble is made of, `mixers` the preprocessing that makes one feature of several columns.
    """

    ensemble: Ensemble
    scale: str
    read: Callable[[Any], Floats]
    """Inputs as the rows that the trees compare."""
    columns: int
    sources: tuple[frozenset[int], ...]
    mixers: tuple[tuple[str, frozenset[int]], ...] = ()
    notes: tuple[str, ...] = ()

    def grouped(self, join: bool, names: Sequence[str], who: str) -> tuple[Ensemble, Ints]:
        """(the trees in the game of the columns, the player of each column): columns that preprocessing mixes are one player where `join` says so."""
        label = np.arange(self.columns)
        for mixer, columns in self.mixers:
            if not join:
                told = [names[j] for j in sorted(columns)]
                raise NotApplicable(f"{who} needs preprocessing that keeps columns apart; {mixer} mixes {', '.join(told[:6])}{f' and {len(told) - 6} more' if len(told) > 6 else ''}. "
                                    "Take them as one player with mixed='join' (--set mixed=join), or explain the last step alone on what it is given.")
            label[np.isin(label, label[sorted(columns)])] = label[min(columns)]
        _, label = np.unique(label, return_inverse=True)
        owner = np.array([label[min(s)] if s else 0 for s in self.sources], np.int64)
        return self.ensemble.played(owner, int(label.max()) + 1), label


class _Laid:
    """All trees in preorder, one after the other."""

    def __init__(self, trees: Sequence[OneTree]) -> None:
        sizes = [len(np.asarray(t.left)) for t in trees]
        self.first: Ints = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        joined = lambda name, other=0: np.concatenate([_wide(getattr(t, name), k, other) for t, k in zip(trees, sizes, strict=True)])  # noqa: E731
        shift = np.repeat(self.first, sizes)
        left, right = (np.where((c := joined(side)) < 0, -1, c + shift) for side in ("left", "right"))
        order, self.level, up, size = _preorder(left, right, self.first)
        n, place = len(order), np.full(len(left), -1)
        place[order] = np.arange(n)
        self.place: Ints = place
        self.parent: Ints = np.where(up < 0, -1, place[up])
        self.start: Ints = np.append(place[self.first], n)
        leaf = left[order] < 0
        self.left_child = np.zeros(n, np.int8)
        self.left_child[place[left[order[~leaf]]]] = 1
        self.end: Ints = np.arange(n) + size
        self.feature: Ints = np.where(leaf, -1, joined("feature")[order]).astype(np.int64)
        self.threshold, self.cover = joined("threshold")[order].astype(np.float64), joined("cover")[order].astype(np.float64)
        self.value: Floats = np.concatenate([np.asarray(t.value, np.float64).reshape(k, -1) for t, k in zip(trees, sizes, strict=True)])[order]
        kinds = joined("missing")[order].astype(np.int8)
        self.missing_left: NDArray[np.int8] = joined("missing_left")[order].astype(np.int8)
        numeric = np.ones(n, bool)
        by_set = np.array([place[f + v] for t, f in zip(trees, self.first.tolist(), strict=True) for v in t.sets], np.int64)
        numeric[by_set[by_set >= 0]] = False
        zero = (kinds == READS_ZERO) & numeric  # NaN goes where zero goes
        self.missing_left[zero] = self.threshold[zero] >= 0
        self.missing: NDArray[np.int8] = np.where(kinds == READS_ZERO, MISSING, kinds).astype(np.int8)


def _wide(values: Any, n: int, other: int) -> Any:
    """One value a node."""
    values = other if values is None else values
    return np.full(n, values) if np.ndim(values) == 0 else values


def _preorder(left: Ints, right: Ints, roots: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(nodes in preorder, tree by tree, and of each: its level, its parent, the number of nodes under and with it), all trees a level at a time."""
    level, up, size, place = (np.full(len(left), -1) for _ in range(4))
    fronts = [roots]
    level[roots] = 0
    while (inner := fronts[-1][left[fronts[-1]] >= 0]).size:
        for child in (left[inner], right[inner]):
            up[child], level[child] = inner, len(fronts)
        fronts.append(np.concatenate([left[inner], right[inner]]))
    for front in reversed(fronts):
        inner = front[left[front] >= 0]
        size[front] = 1
        size[inner] += size[left[inner]] + size[right[inner]]
    place[roots] = np.concatenate([[0], np.cumsum(size[roots])[:-1]])
    for front in fronts:
        inner = front[left[front] >= 0]
        place[left[inner]], place[right[inner]] = place[inner] + 1, place[inner] + 1 + size[left[inner]]
    reached = np.flatnonzero(place >= 0)
    order = np.empty(len(reached), np.int64)
    order[place[reached]] = reached
    return order, level[order], up[order], size[order]


def _same_above(parent: Ints, edge: Ints) -> Ints:
    """The nearest edge above of the same feature, named by the node it leads into; -1 for none."""
    found = np.full(len(parent), -1)
    todo = np.flatnonzero(parent >= 0)
    at = parent[todo]
    while todo.size:
        alive = parent[at] >= 0
        todo, at = todo[alive], at[alive]
        same = edge[at] == edge[todo]
        found[todo[same]] = at[same]
        todo, at = todo[~same], parent[at[~same]]
    return found


def _sets(trees: Sequence[OneTree], place: Ints, first: Ints) -> tuple[Ints, NDArray[np.uint32]]:
    """((nodes, 4): where the set that goes left begins and its words, the same of the known ones; all words)."""
    where = np.zeros((int((place >= 0).sum()), 4), np.int64)
    words = [np.zeros(1, np.uint32)]
    used = 1
    for t, f in zip(trees, first.tolist(), strict=True):
        for column, sets in ((0, t.sets), (2, t.known)):
            for v, w in sets.items():
                if place[f + v] >= 0:
                    where[place[f + v], column : column + 2] = used, len(w)
                    words.append(np.asarray(w, np.uint32))
                    used += len(w)
    return where, np.concatenate(words)
