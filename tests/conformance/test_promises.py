"""What a card promises holds. Every promise is shown to fail somewhere too, so that the test can see."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from conformance.subjects import METHODS, PLACES, SUBJECTS, question, reference, spread
from models import Reused, made, normal, smooth
from pellucid.backends import wrap
from pellucid.core.card import Promise
from pellucid.core.question import ask
from pellucid.core.target import Custom
from pellucid.core.tree import leaves


def claiming(promise):
    """The methods that claim it, and those that wrap one which does."""
    return pytest.mark.parametrize("name", [n for n, m in METHODS.items() if promise in m.card.promises])


NEAR = {"smooth": 1e-6, "two inputs": 0.1, "pictures": 0.1, "words": 1e-4}
"""How far the values' sum may lie from the target's change on a network, relative to its largest."""


def _gap(values, total, base):
    return sum(v.flatten(1).sum(1) for v in leaves(values)) - (total - base)


@spread(lambda m, s, p: p == 0 or s == 0 or (m + s) % 3 == p, name=[n for n, m in METHODS.items() if Promise.COMPLETE in m.card.promises], subject=list(NEAR), place=PLACES)
def test_complete(name, subject, place):
    q, e, tol = question(SUBJECTS[subject], place), reference(name, place, subject), NEAR[subject]
    total, base = q.value(q.point), q.value(q.start)
    assert (total - base).abs().max() > 1e-3
    gap = _gap(e.values, total, base)
    assert gap.abs().max() < tol * (total - base).abs().max()
    torch.testing.assert_close(e.total, total)
    torch.testing.assert_close(e.base, base)
    torch.testing.assert_close(e.gap, gap, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_promise_nothing_report_no_gap(name):
    e = reference(name)
    assert (e.gap is not None) is (Promise.COMPLETE in METHODS[name].card.promises)


@claiming(Promise.LOCAL)
@pytest.mark.parametrize("subject", ["columns", "pictures"])
def test_local(name, subject):
    """A channel or a column that the network does not read gets zero, exactly."""
    s = SUBJECTS[subject]
    net = s.net()
    first = net.stem if subject == "pictures" else net.first
    with torch.no_grad():
        first.weight[:, 1] = 0
    values = METHODS[name](question(s, model=wrap(net), baseline=0.3)).values
    assert values[:, 1].abs().max() == 0
    assert values[:, 0].abs().max() > 1e-3


def double(out):
    return 2 * out[:, 1]


def single(out):
    return out[:, 1]


@claiming(Promise.LINEAR)
@pytest.mark.parametrize("place", ["input", "layer"])
def test_linear(name, place):
    """Twice the target, twice the values."""
    one, two = (METHODS[name](question(place=place, target=Custom(f))).values for f in (single, double))
    torch.testing.assert_close(two, 2 * one, rtol=1e-9, atol=1e-12)
    assert one.abs().max() > 1e-4


@claiming(Promise.SYMMETRIC)
def test_symmetric(name):
    """Two columns that play the same part, with the same number in them, get the same value."""
    net = made(smooth)
    with torch.no_grad():
        net[0].weight[:, 3] = net[0].weight[:, 1]
    x = normal(3, 5)
    x[:, 3] = x[:, 1]
    values = METHODS[name](ask(wrap(net), x, [0, 1, 2], batch_size=8)).values
    torch.testing.assert_close(values[:, 3], values[:, 1])
    assert (values[:, 0] - values[:, 1]).abs().max() > 1e-3


class Doubled(nn.Module):
    """The same function as `Reused`, otherwise built: units in another order and halved, a layer more, another ReLU."""

    def __init__(self, net):
        super().__init__()
        order = torch.tensor([3, 1, 5, 0, 2, 4, 3, 1, 5, 0, 2, 4])
        copies = copy.deepcopy
        self.first, self.twice, self.again, self.out = (copies(m) for m in (net.first, net.twice, net.twice, net.out))
        self.same = nn.Linear(5, 5).double()
        with torch.no_grad():
            self.same.weight.copy_(torch.eye(5))
            self.same.bias.zero_()
        for m in (self.first, self.twice, self.again):
            m.weight, m.bias = nn.Parameter(m.weight[order]), nn.Parameter(m.bias[order])
        for m in (self.twice, self.again, self.out):
            m.weight = nn.Parameter(m.weight[:, order] / 2)

    def forward(self, x):
        f = lambda v: (v + v.abs()) / 2  # noqa: E731
        h = f(self.first(self.same(x)))
        h = h + f(self.twice(h))
        return self.out(h + f(self.again(h)))


@claiming(Promise.IMPLEMENTATION_INVARIANT)
def test_implementation_invariant(name):
    """Two networks that compute the same function get the same values."""
    net = made(Reused)
    twin = Doubled(net).eval()
    x = normal(3, 5)
    torch.testing.assert_close(twin(x), net(x))
    assert not torch.equal(twin(x), net(x)), "the same network proves nothing"
    one, two = (METHODS[name](ask(wrap(m), x, [0, 1, 2], batch_size=8)).values for m in (net, twin))
    torch.testing.assert_close(two, one, rtol=1e-7, atol=1e-9)
    assert one.abs().max() > 1e-3


def test_promises_can_fail():
    """Saliency is not complete, Occlusion on this network neither: the tests above would see it."""
    q = question(SUBJECTS["smooth"])
    for name in ("saliency", "input-x-gradient", "occlusion"):
        e = METHODS[name](q)
        total, base = q.value(q.point), q.value(q.start)
        assert _gap(e.values, total, base).abs().max() > 1e-3 * (total - base).abs().max()
        assert Promise.COMPLETE not in METHODS[name].card.promises


@pytest.mark.parametrize("name", METHODS)
def test_a_wrapper_that_changes_nothing_keeps_the_values(name):
    """A wrapper without noise around a method gives that method's values."""
    method = METHODS[name]
    if not method.card.wraps or "noise" not in method.parameters():
        pytest.skip("no wrapper that adds noise")
    still = dataclasses.replace(method, noise=0)
    want = still.inner()(question()).values
    torch.testing.assert_close(still(question()).values, want)
    assert want.abs().max() > 1e-3
