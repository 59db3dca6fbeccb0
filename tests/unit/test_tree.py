"""Trees of tensors: taken apart, put together, cut by rows."""

import collections
import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from pellucid.core import tree
from pellucid.core.tree import Shared, each, leaves, map_leaves, paths, refill, rows_of, shared, take, unshare

Pair = collections.namedtuple("Pair", ("left", "right"))


@dataclass
class Record:
    """A dataclass as a branch."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Frozen:
    x: Any


class Batch(collections.UserDict):
    """A mapping that is no dict, as tokenizers give."""


ROWS = 4
tensors = st.builds(lambda extra, k: torch.arange(ROWS * 2.0 ** len(extra)).reshape(ROWS, *[2] * len(extra)) + k, st.lists(st.just(2), max_size=2), st.integers(0, 9))
others = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.just(torch.tensor(3.0)), st.builds(shared, tensors))
kids = st.one_of(tensors, others)


def branches(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.builds(Pair, inner, inner), st.builds(Record, inner, inner), st.builds(Frozen, inner),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3), st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3).map(Batch),
    )


trees = st.recursive(kids, branches, max_leaves=8)


def same(a, b) -> bool:
    """One structure, and equal leaves."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Shared):
        return same(a.value, b.value)
    one, two = tree.children(a), tree.children(b)
    if one is None:
        return torch.equal(a, b) if isinstance(a, Tensor) else a is b or a == b
    return [k for k, _ in one] == [k for k, _ in two] and all(same(v, w) for (_, v), (_, w) in zip(one, two, strict=True))


@given(trees)
def test_refill_with_its_own_leaves_is_the_same_tree(t):
    assert same(refill(t, leaves(t)), t)
    assert same(map_leaves(lambda leaf: leaf, t), t)
    assert [leaf for _, leaf in paths(t)] == leaves(t) or any(isinstance(leaf, Tensor) for leaf in leaves(t))


@given(trees)
def test_paths_lead_to_the_leaves(t):
    for path, leaf in paths(t):
        at = t
        for key in path:
            at = getattr(at, key) if dataclasses.is_dataclass(at) else at[key]
        assert at is leaf
    assert len({p for p, _ in paths(t)}) == len(leaves(t))


@given(trees)
def test_each_over_one_and_over_two(t):
    marks = list(range(len(leaves(t))))
    numbered = refill(t, marks)
    assert leaves(each(lambda a, b: (a is b) and "same", t, t)) == ["same"] * len(marks)
    assert leaves(each(lambda n, m: n + m, numbered, numbered)) == [2 * m for m in marks] or not marks


@given(trees, st.lists(st.integers(0, ROWS - 1), max_size=6))
def test_take_cuts_batched_leaves_and_hands_on_the_rest(t, rows):
    got = take(t, torch.tensor(rows, dtype=torch.long))
    for a, b in zip(leaves(got), leaves(t), strict=True):
        if isinstance(b, Tensor) and b.ndim:
            assert torch.equal(a, b[rows])
        else:
            assert a is b


@given(trees)
def test_nothing_is_changed_in_place(t):
    before = refill(t, [v.clone() if isinstance(v, Tensor) else v for v in leaves(t)])
    take(t, torch.tensor([0]))
    map_leaves(lambda v: v + 1 if isinstance(v, Tensor) else v, t)
    unshare(t)
    assert same(t, before)


@given(trees)
def test_unshare_opens_what_shared_closed(t):
    assert not any(isinstance(v, Shared) for v in leaves(unshare(t)))
    assert len(leaves(unshare(t))) == len(leaves(t))


@given(trees)
def test_rows_are_those_of_the_first_batched_leaf(t):
    batched = [v for v in leaves(t) if isinstance(v, Tensor) and v.ndim]
    assert rows_of(t) == (ROWS if batched else None)


def test_shared_is_written_once_and_says_so():
    t = torch.ones(2)
    assert shared(shared(t)).value is t
    assert repr(shared(3)) == "shared(3)"


def test_transformers_outputs_and_encodings():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    batch = pytest.importorskip("transformers").BatchEncoding({"input_ids": torch.ones(2, 3), "mask": torch.zeros(2, 3)})
    out = outputs.SequenceClassifierOutput(logits=torch.ones(2, 3), hidden_states=(torch.ones(2, 4),))
    for t in (batch, out):
        assert same(refill(t, leaves(t)), t)
        assert rows_of(take(t, torch.tensor([1]))) == 1
    assert leaves(out)[0] is out.logits
    got = map_leaves(lambda v: v + 1, out)
    assert got.logits[0, 0] == got["logits"][0, 0] == 2
    assert out.logits[0, 0] == 1


def test_a_size_is_a_leaf():
    """`torch.Size` is a tuple that nobody means as a branch."""
    assert leaves(torch.Size((2, 3))) == [torch.Size((2, 3))]


def test_trees_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="zip"):
        each(torch.add, (torch.ones(1), torch.ones(1)), (torch.ones(1),))
