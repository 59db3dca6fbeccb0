"""Trees of tensors: what models take and give. A single tensor is its own tree.

Tuples, named tuples, lists, mappings (a `BatchEncoding`, a `ModelOutput`) and dataclasses are branches; all else is a leaf.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Tree = Any


class Shared:
    """A leaf without a batch axis: every row sees the same one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"shared({self.value!r})"


def shared(value: Any) -> Shared:
    """Marks an input that all rows share: `{"x": x, "graph": pel.shared(edges)}`."""
    return value if isinstance(value, Shared) else Shared(value)


def children(tree: Tree) -> list[tuple[Any, Any]] | None:
    """(key, child) pairs of a branch, None for a leaf."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, (tuple, list)) and not isinstance(tree, torch.Size):
        return list(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]
    return None


def rebuild(tree: Tree, values: list[Any]) -> Tree:
    """A branch like `tree` with other children; the original stays as it was."""
    if isinstance(tree, tuple):
        return type(tree)(*values) if hasattr(tree, "_fields") else tuple(values)
    if isinstance(tree, list):
        return values
    keys = [k for k, _ in children(tree) or []]
    if type(tree) is dict:
        return dict(zip(keys, values, strict=True))
    twin = copy.copy(tree)
    for k, v in zip(keys, values, strict=True):
        if isinstance(tree, Mapping):
            twin[k] = v
        else:
            object.__setattr__(twin, k, v)
    return twin


def leaves(tree: Tree) -> list[Any]:
    """All leaves in order."""
    return [leaf for _, leaf in paths(tree)]


def paths(tree: Tree, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, leaf) pairs in order."""
    kids = children(tree)
    if kids is None:
        yield at, tree
    else:
        for k, v in kids:
            yield from paths(v, (*at, k))


def map_leaves(f: Callable[[Any], Any], tree: Tree) -> Tree:
    """The same tree with `f` applied to every leaf."""
    kids = children(tree)
    return f(tree) if kids is None else rebuild(tree, [map_leaves(f, v) for _, v in kids])


def refill(tree: Tree, values: list[Any]) -> Tree:
    """The same tree with other leaves, in order."""
    rest = iter(values)
    return map_leaves(lambda _: next(rest), tree)


def each(f: Callable[..., Any], *trees: Tree) -> Tree:
    """`f` over the leaves of trees of one shape: `each(torch.mul, x, g)` serves one tensor and many alike."""
    columns = zip(*(leaves(t) for t in trees), strict=True)
    return refill(trees[0], [f(*c) for c in columns])


def has_rows(leaf: Any) -> bool:
    """Whether a leaf has a batch axis."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0


def rows_of(tree: Tree) -> int | None:
    """How many rows a tree holds: the first axis of its first tensor leaf that has one."""
    return next((leaf.shape[0] for leaf in leaves(tree) if has_rows(leaf)), None)


def take(tree: Tree, rows: Tensor) -> Tree:
    """Those rows of every batched leaf; shared leaves are handed on as they are."""
    return map_leaves(lambda leaf: leaf.index_select(0, rows.to(leaf.device)) if has_rows(leaf) else leaf, tree)


def unshare(tree: Tree) -> Tree:
    """The tree as the model takes it: what `shared` marked, unwrapped."""
    return map_leaves(lambda leaf: leaf.value if isinstance(leaf, Shared) else leaf, tree)


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a tensor of floating-point numbers."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
