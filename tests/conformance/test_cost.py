"""The counted cost is what the model saw, and no more than the card says."""

import re

import pytest

from conformance.subjects import METHODS, PLACES, with_
from conformance.trials import run, tried
from pellucid.core.planner import Plan

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)


@methods
@places
def test_counted_rows_are_the_rows_the_model_saw(name, place):
    for measured in (False, True):
        trial = tried(name, place, measured)
        cost = trial.explanation.cost
        assert cost.forward_rows == trial.rows
        assert cost.seconds > 0
        assert cost.batch_size == Plan.parse(cost.plan).size


TOLD = {name: re.fullmatch(r"(\d+) forward(?: and (\d+) backward)? rows?", method.card.cost) for name, method in METHODS.items()}
"""What cards say in numbers; what the others say in words, the tests below know."""


@pytest.mark.parametrize("name", [name for name, told in TOLD.items() if told])
@places
def test_within_what_the_card_says(name, place):
    """A card that says "1 forward and 1 backward row" is held to it, for each of three rows."""
    cost = tried(name, place).explanation.cost
    assert cost.forward_rows <= 3 * int(TOLD[name][1])
    assert cost.backward_rows <= 3 * int(TOLD[name][2] or 0)


@places
@pytest.mark.parametrize("steps", [1, 7])
def test_integrated_gradients(place, steps):
    """`steps` rows forward and backward, and the two ends of the path."""
    cost = run(with_(METHODS["integrated-gradients"], steps=steps), place).explanation.cost
    assert cost.backward_rows == 3 * steps
    assert 3 * steps < cost.forward_rows <= 3 * (steps + 2) + overhead(place)


@places
def test_integrated_gradients_auto(place):
    cost = tried("integrated-gradients", place).explanation.cost
    assert 3 * 20 <= cost.backward_rows <= 3 * (21 + 540)
    assert cost.forward_rows <= cost.backward_rows + 3 * (41 + 2) + 2 * overhead(place)


@places
def test_occlusion(place):
    """One row a window (windows of 1 x 1 on 6 x 6), the row itself, and the baseline where it lies at a layer."""
    cost = run(with_(METHODS["occlusion"], window=2, stride=2), place).explanation.cost
    assert cost.backward_rows == 0
    assert 3 * 9 < cost.forward_rows <= 3 * (9 + 1) + overhead(place)


@places
def test_smooth_grad(place):
    inside = tried("saliency", place).explanation.cost
    cost = run(with_(METHODS["smooth-grad"], samples=5), place).explanation.cost
    assert cost.backward_rows == 5 * inside.backward_rows
    assert cost.forward_rows <= 5 * inside.forward_rows + 3 + overhead(place)


def overhead(place):
    """At a layer: its value and the baseline's value there, and what the suffix records and checks itself with."""
    return 3 * 2 + 3 + 3 + 3 * 3 if place == "layer" else 0
