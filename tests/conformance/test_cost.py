"""The counted cost is what the model saw, and no more than the card says."""

import re

import pytest

from conformance.subjects import METHODS, PLACES, home, with_
from models import Counting
from pellucid.backends import wrap
from pellucid.core.planner import Plan
from pellucid.core.question import ask
from pellucid.core.target import Neuron

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)


def counted(method, place, **changes):
    """The explanation's cost, and the rows that the model itself counted."""
    s = home(method.name)
    net = Counting(s.net())
    model = wrap(net)
    model.layers(s.x)  # finding the layers takes one row, once a model
    net.tally.rows = 0
    target = Neuron("inner." + s.unit[0], s.unit[1]) if place == "neuron" else [0, 1, 2]
    at = "inner." + s.layer if place == "layer" else None
    asked = {"target": target, "at": at, "batch_size": 2, "ids": ("p", "q", "r")} | changes
    return method(ask(model, s.x, **asked)).cost, net.tally.rows


@methods
@places
@pytest.mark.parametrize("batch_size", [2, None], ids=["fixed", "measured"])
def test_counted_rows_are_the_rows_the_model_saw(name, place, batch_size):
    cost, seen = counted(METHODS[name], place, batch_size=batch_size)
    assert cost.forward_rows == seen
    assert cost.seconds > 0
    assert cost.batch_size == Plan.parse(cost.plan).size


@methods
@places
def test_within_what_the_card_says(name, place):
    """A card that says "1 forward and 1 backward row" is held to it, for each of three rows."""
    told = re.fullmatch(r"(\d+) forward(?: and (\d+) backward)? rows?", METHODS[name].card.cost)
    if not told:
        pytest.skip("the card says it in words: the tests below know them")
    cost, _ = counted(METHODS[name], place)
    assert cost.forward_rows <= 3 * int(told[1])
    assert cost.backward_rows <= 3 * int(told[2] or 0)


@places
@pytest.mark.parametrize("steps", [1, 7])
def test_integrated_gradients(place, steps):
    """`steps` rows forward and backward, and the two ends of the path."""
    cost, _ = counted(with_(METHODS["integrated-gradients"], steps=steps), place)
    assert cost.backward_rows == 3 * steps
    assert 3 * steps < cost.forward_rows <= 3 * (steps + 2) + overhead(place)


@places
def test_integrated_gradients_auto(place):
    cost, _ = counted(METHODS["integrated-gradients"], place)
    assert 3 * 20 <= cost.backward_rows <= 3 * (21 + 540)
    assert cost.forward_rows <= cost.backward_rows + 3 * (41 + 2) + 2 * overhead(place)


@places
def test_occlusion(place):
    """One row a window (windows of 1 x 1 on 6 x 6), the row itself, and the baseline where it lies at a layer."""
    cost, _ = counted(with_(METHODS["occlusion"], window=2, stride=2), place)
    assert cost.backward_rows == 0
    assert 3 * 9 < cost.forward_rows <= 3 * (9 + 1) + overhead(place)


@places
def test_smooth_grad(place):
    inside, _ = counted(METHODS["saliency"], place)
    cost, _ = counted(with_(METHODS["smooth-grad"], samples=5), place)
    assert cost.backward_rows == 5 * inside.backward_rows
    assert cost.forward_rows <= 5 * inside.forward_rows + 3 + overhead(place)


def overhead(place):
    """At a layer: its value and the baseline's value there, and what the suffix records and checks itself with."""
    return 3 * 2 + 3 + 3 + 3 * 3 if place == "layer" else 0
