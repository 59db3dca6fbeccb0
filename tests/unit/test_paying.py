"""Every row that a model sees for a question is on that question's account, also those it runs to look at itself."""

import pytest

from models import Counting, Residual, made, normal
from pellucid.backends import wrap
from pellucid.core.paying import pay, paying
from pellucid.run.explain import explain

X = normal(3, 2, 6, 6)


@pytest.mark.parametrize(("method", "first"), [("grad-cam", 4), ("saliency", 3)])
def test_listing_the_layers_is_counted_once(method, first):
    net = Counting(made(Residual))
    model = wrap(net)
    for rows in (first, 3):
        net.tally.rows = 0
        e = explain(model, X, method=method, target=1, evidence="none", batch_size=3)
        assert e.cost.forward_rows == net.tally.rows == rows


def test_what_is_looked_at_outside_a_question_is_on_no_account():
    net = Counting(made(Residual))
    model = wrap(net)
    assert model.layers(X)
    assert explain(model, X, method="grad-cam", target=1, evidence="none").cost.forward_rows == 3


def test_the_inner_account_pays():
    one, two = [], []
    pay(7)
    with paying(one.append):
        pay(1)
        with paying(two.append):
            pay(2)
        pay(3)
    assert (one, two) == ([1, 3], [2])
