"""An answer does not depend on how the work was cut, on its neighbours in the batch, or on when it was asked."""

import dataclasses

import pytest
import torch

from conformance.subjects import DRAWS_ROWS, METHODS, PLACES, SUBJECTS, home, question, reference, refused, spread
from conformance.trials import run, tried
from models import normal, take
from pellucid.core.planner import Plan
from pellucid.core.question import Samples
from pellucid.core.tree import leaves

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@methods
@places
def test_batch_size(name, place):
    want = reference(name, place).values
    assert want.abs().max() > 1e-6
    for measured in (False, True):
        torch.testing.assert_close(tried(name, place, measured).explanation.values, want, **CLOSE)


@spread(lambda m, p: m % 3 == p, name=METHODS, place=PLACES)
def test_one_row_at_a_time(name, place):
    torch.testing.assert_close(METHODS[name](question(home(name), place, batch_size=1)).values, reference(name, place).values, **CLOSE)


@methods
@places
def test_order_of_rows(name, place):
    whole = reference(name, place).values
    order = torch.tensor([2, 0, 1])
    ids = tuple("pqr"[i] for i in order)
    targets = {} if place == "neuron" else {"target": order.tolist()}
    turned = METHODS[name](question(take(home(name), order), place, ids=ids, **targets)).values
    torch.testing.assert_close(turned, whole[order], **CLOSE)
    if (name, place) != ("deconvnet", "neuron"):  # between rectifiers it ignores the input altogether
        assert not torch.equal(whole[0], whole[1])


@spread(lambda m, s, p, row: row == 1 and (s == 0 or (m + s) % 3 == p), name=METHODS, subject=["pictures", "two inputs", "words"], place=PLACES, row=[0, 1, 2])
def test_each_row_alone(name, subject, place, row):
    """The middle row alone tells of whatever is taken from the first of several, from the last, or from all."""
    s, known = (home(name), "") if subject == "pictures" else (SUBJECTS[subject], subject)
    if refused(METHODS[name], s, place):
        pytest.skip("refused: see test_answers")
    targets = {} if place == "neuron" else {"target": row}
    alone = METHODS[name](question(take(s, torch.tensor([row])), place, ids=("pqr"[row],), **targets)).values
    for a, w in zip(leaves(alone), leaves(reference(name, place, known).values), strict=True):
        torch.testing.assert_close(a[0], w[row], **CLOSE)


@methods
@places
def test_same_seed_same_bits(name, place):
    """The second answer of a model is its first; other tests say the same of another model of the same weights."""
    one = reference(name, place)
    two = METHODS[name](question(home(name), place, model=one.question.model))
    assert torch.equal(one.values, two.values)
    assert one.cost.plan == two.cost.plan


@methods
@places
def test_a_recorded_plan_gives_the_same_bits(name, place):
    e = tried(name, place, measured=True).explanation
    again = run(METHODS[name], place, batch_size=Plan.parse(e.cost.plan)).explanation
    assert torch.equal(e.values, again.values)
    assert again.cost.plan == e.cost.plan
    assert (again.cost.forward_rows, again.cost.backward_rows) == (e.cost.forward_rows, e.cost.backward_rows)


@methods
def test_only_methods_that_say_so_depend_on_the_seed(name):
    baseline = Samples(normal(12, *home(name).x.shape[1:], seed=5)) if name in DRAWS_ROWS else 0
    one = METHODS[name](question(home(name), baseline=baseline)).values if baseline else reference(name).values
    two = METHODS[name](question(home(name), seed=1, baseline=baseline)).values
    assert torch.equal(one, two) is not METHODS[name].card.random


@methods
def test_only_methods_that_say_so_depend_on_the_baseline(name):
    method = METHODS[name]
    if "against_baseline" in method.parameters():
        method = dataclasses.replace(method, against_baseline=True)
    if method.card.wraps:
        method = dataclasses.replace(method, method="integrated-gradients")
    one, two = (method(question(home(name), baseline=b)) for b in (0, 0.5))
    assert torch.equal(one.values, two.values) is not method.card.baseline
    assert (one.baseline, two.baseline) == (("0", "0.5") if method.card.baseline else ("none", "none"))


@methods
def test_noise_belongs_to_the_row_and_not_to_its_place(name):
    """Without names the rows are numbered, so that a random method draws otherwise for them. Rows that play one game share its coalitions."""
    named, other = reference(name).values, METHODS[name](question(home(name), ids=("p", "x", "r"))).values
    assert torch.equal(named[0], other[0])
    own = METHODS[name].card.random and "masker" not in METHODS[name].parameters()
    assert torch.equal(named[1], other[1]) is not own
