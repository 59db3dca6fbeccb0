"""Targets are values; what they read is what their name says; what they cannot read they refuse in a sentence."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from models import normal
from pellucid.core import target as targets
from pellucid.core.errors import ModelError, PellucidError, UnknownName, UsageError
from pellucid.core.places import Place
from pellucid.core.target import (
    Contrast,
    Custom,
    Direction,
    Entropy,
    Label,
    Loss,
    Neuron,
    Output,
    PerRow,
    Predicted,
    Probability,
    Similarity,
    Target,
    as_target,
    check_rows,
    of_row,
    per_row,
    read_tensor,
)

OUT = normal(4, 3)
ROWS = torch.arange(4)
NAMES = ["tabby, tabby cat", "Egyptian cat", "lynx"]


def half(out):
    return out[:, 0] / 2


ALL = [
    Label(1), Label("lynx"), Label((1, 2)), Label(-1), Probability(0), Probability("lynx"), Contrast(0, 2), Contrast("lynx", 0), Output(), Loss(1), Loss(0.5), Entropy(),
    Neuron("a.b", 3), Neuron("a", (1, 2)), Neuron(Place("a", "input"), 1), Direction("a", (1.0, 2.0)), Similarity((1.0, 0.5, 2.0)), Custom(half), Predicted(), PerRow((Label(0), Label(1))),
]


@pytest.mark.parametrize("t", ALL, ids=lambda t: repr(t).split(" at 0x")[0])
def test_a_target_is_a_value(t):
    assert pickle.loads(pickle.dumps(t)) == t
    assert copy.deepcopy(t) == t
    assert hash(copy.deepcopy(t)) == hash(t)
    assert sum(t == other for other in ALL) == 1
    assert as_target(t) == t
    assert isinstance(t.text(NAMES), str)
    if not isinstance(t, (Direction, Similarity, Custom)):
        assert eval(repr(t), {**vars(targets), "Place": Place}) == t


classes = st.integers(0, 2)
simple = st.one_of(st.builds(Label, st.integers(-3, 2)), st.builds(Probability, classes), st.builds(Contrast, classes, classes), st.builds(Loss, classes), st.just(Entropy()))


@given(st.lists(simple, min_size=4, max_size=4), st.permutations(range(4)))
def test_one_target_a_row_reads_each_rows_own(mine, order):
    """Whatever rows a chunk holds, in whatever order."""
    t = check_rows(per_row(mine), 4).resolve(OUT, None)
    rows = torch.tensor(order)
    got = t.read(OUT[rows], rows)
    for value, i in zip(got, order, strict=True):
        torch.testing.assert_close(value, mine[i].resolve(OUT, None).read(OUT[i : i + 1], rows[:1])[0])
        assert of_row(t, i) == mine[i].resolve(OUT, None)


@given(simple)
def test_resolving_twice_changes_nothing(t):
    once = t.resolve(OUT, NAMES)
    assert once.resolve(OUT, NAMES) == once
    assert once.read(OUT, ROWS).shape == (4,)


def test_what_each_reads():
    p = OUT.softmax(1)
    cases = {
        Label(2): OUT[:, 2], Label(-1): OUT[:, 2], Label("LYNX"): OUT[:, 2], Label("tabby cat"): OUT[:, 0], Probability(1): p[:, 1], Contrast(2, "Egyptian cat"): OUT[:, 2] - OUT[:, 1],
        Loss(1): -p[:, 1].log(), Entropy(): -(p * p.log()).sum(1), Custom(half): OUT[:, 0] / 2, Predicted(): OUT.amax(1),
        Similarity(torch.tensor([1.0, 2.0, 3.0])): torch.cosine_similarity(OUT, torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)),
        Direction("x", [1, 0, -1]): OUT[:, 0] - OUT[:, 2],
    }
    for t, want in cases.items():
        torch.testing.assert_close(t.resolve(OUT, NAMES).read(OUT, ROWS), want)


def test_single_outputs():
    one = normal(4, 1)
    torch.testing.assert_close(Output().resolve(one, None).read(one, ROWS), one[:, 0])
    torch.testing.assert_close(Output().resolve(one[:, 0], None).read(one[:, 0], ROWS), one[:, 0])
    torch.testing.assert_close(Probability(0).resolve(one, None).read(one, ROWS), one[:, 0].sigmoid())
    torch.testing.assert_close(Loss(0.5).resolve(one, None).read(one, ROWS), (one[:, 0] - 0.5) ** 2)
    assert Predicted().resolve(one, None) == Output()
    torch.testing.assert_close(Loss(2).resolve(one, None).read(one, ROWS), (one[:, 0] - 2) ** 2)


def test_maps_and_channels():
    maps = normal(4, 3, 2, 2)
    torch.testing.assert_close(Label((1, 0, 1)).resolve(maps, None).read(maps, ROWS), maps[:, 1, 0, 1])
    torch.testing.assert_close(Direction("x", (1, 0, 0)).resolve(maps, None).read(maps, ROWS), maps[:, 0].mean((1, 2)))
    whole = torch.arange(12.0)
    torch.testing.assert_close(Direction("x", whole).resolve(maps, None).read(maps, ROWS), maps.flatten(1) @ whole.double())


def test_short_forms():
    assert as_target(None) == Predicted()
    assert as_target(3) == as_target(np.int64(3)) == as_target(torch.tensor(3)) == Label(3)
    assert as_target("lynx") == Label("lynx")
    assert as_target((1, 2)) == Label((1, 2))
    assert as_target(torch.tensor([0, 2])) == as_target(np.array([0, 2])) == as_target(Label([0, 2])) == PerRow((Label(0), Label(2)))
    assert as_target(Loss(torch.tensor([0.5, 1.0]))) == PerRow((Loss(0.5), Loss(1.0)))
    assert as_target(half) == Custom(half)
    assert as_target(torch.tensor([1, 1])) == Label(1)


def test_words():
    assert Label(1).text(NAMES) == "Egyptian cat (1)"
    assert Label(0).text(NAMES) == "tabby (0)"
    assert Label(7).text(None) == "7"
    assert Contrast(0, 2).text(NAMES) == "tabby (0) rather than lynx (2)"
    assert Custom(half).text(None) == "half"
    assert Neuron("features.3", (1, 2)).text(NAMES) == "unit (1, 2) of features.3"


REFUSED = [
    (lambda: as_target(1.5), "1.5"), (lambda: as_target(True), "True"), (lambda: as_target(object()), "object"),
    (lambda: Label(3).resolve(OUT, None), "got 3"), (lambda: Label(-4).resolve(OUT, None), "0 to 2"), (lambda: Contrast(0, 9).resolve(OUT, None), "got 9"),
    (lambda: Label(0).resolve(normal(4, 3, 2), None), r"Label\(\(0, 0\)\)"), (lambda: Label((0, 0)).resolve(OUT, None), r"Label\(0\)"), (lambda: Label(0).resolve(OUT[:, 0], None), r"Output\(\)"),
    (lambda: Label("lynx").resolve(OUT, None), "labels="), (lambda: Label("lynks").resolve(OUT, NAMES), "'lynx'"), (lambda: Label("cat").resolve(OUT, ["cat", "cat", "dog"]), "names 2 labels"),
    (lambda: Output().resolve(OUT, None), "one number a row"),
    (lambda: Probability(0).resolve(normal(4, 3, 2), None), r"\(4, 3, 2\)"), (lambda: Predicted().resolve(normal(4, 3, 2), None), "no single prediction"),
    (lambda: Similarity((1.0,)).resolve(OUT, None), "reference of 3"), (lambda: Direction("x", (1.0,)).resolve(OUT, None), "got 1 number"),
    (lambda: Custom(lambda o: o).read(OUT, ROWS), r"\(4,\); got \(4, 3\)"), (lambda: Custom(lambda o: 1.0).read(OUT, ROWS), "float"),
    (lambda: check_rows(as_target([0, 1] and torch.tensor([0, 1])), 3), "2 targets for 3 rows"), (lambda: per_row([Label(0), Neuron("a", 1)]), "one question each"),
    (lambda: Loss(5).resolve(OUT, None), "got 5"),
]


@pytest.mark.parametrize(("ask", "says"), REFUSED, ids=[s for _, s in REFUSED])
def test_refusals_say_who_needs_what(ask, says):
    with pytest.raises(UsageError, match=says) as e:
        ask()
    assert str(e.value).endswith((".", "?"))


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(UnknownName) as e:
        Label("linx").resolve(OUT, NAMES)
    assert e.value.near == ["lynx"]
    assert isinstance(pickle.loads(pickle.dumps(e.value)), UnknownName)


def test_outputs_that_are_no_tensor():
    with pytest.raises(ModelError, match="list"):
        read_tensor([1])


def test_half_precision_is_read_in_single():
    """Softmax of sixteen bits loses what a gradient needs."""
    assert Probability(0).read(OUT.bfloat16(), ROWS).dtype == torch.float32
    assert Entropy().read(OUT.half(), ROWS).dtype == torch.float32


def test_a_target_of_ones_own():
    class Twice(Target):
        def read(self, out, rows):
            return 2 * out[:, 0]

    assert torch.equal(as_target(Twice()).resolve(OUT, None).read(OUT, ROWS), 2 * OUT[:, 0])
    with pytest.raises(NotImplementedError):
        Target().read(OUT, ROWS)
    assert issubclass(UsageError, PellucidError)
