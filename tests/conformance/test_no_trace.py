"""Asking leaves no trace: on the model, on the user's tensors, on torch."""

import dataclasses

import pytest
import torch
from torch import nn

from conformance.subjects import METHODS, PLACES, home, question, reference
from conformance.trials import Snapshot, inside, tried
from models import Raising, Stubborn, made, normal
from pellucid.backends import wrap
from pellucid.core.errors import Cancelled, ModelError, NotApplicable, UsageError
from pellucid.core.progress import watching

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)


@methods
@places
def test_after_an_answer(name, place):
    assert tried(name, place).left == {}
    assert tried(name, place, measured=True).left == {}


@methods
@places
@pytest.mark.parametrize("after", [0, 2])
def test_after_the_model_raised(name, place, after):
    """In the first forward, or in the middle of the work: the model's own words come back, and nothing else stays."""
    net = Raising(home(name).net(), after)
    before = Snapshot(net, home(name).x)
    with pytest.raises(ModelError, match="the model is tired"):
        METHODS[name](question(home(name), model=wrap(net), batch_size=1, **inside(home(name), place)))
    before.check()


@methods
@places
def test_a_network_that_cannot_be_copied(name, place):
    """It is run itself: the same values, and no trace, also where it was stopped half way before."""
    net = made(Stubborn)
    net.inner = home(name).net()
    before = Snapshot(net, home(name).x)
    asked = {"model": wrap(net)} | inside(home(name), place)

    def stop(p):
        raise Cancelled("enough")

    with pytest.raises(Cancelled), watching(stop):
        METHODS[name](question(home(name), batch_size=2, **asked))
    before.check()
    e = METHODS[name](question(home(name), **asked))
    before.check()
    assert torch.equal(e.values, reference(name, place).values)
    assert any("under a lock" in n for n in e.provenance["notes"])


@methods
def test_copies_are_given_back(name):
    """The same copies serve question after question, also after one that failed; none is kept by an explanation."""
    model = wrap(home(name).net())
    e = METHODS[name](question(home(name), model=model))
    first = set(model._idle)
    assert 1 <= len(first) <= 2  # listing the layers takes one of its own
    with pytest.raises(UsageError, match="9"):
        METHODS[name](question(home(name), model=model, target=9))
    METHODS[name](question(home(name), model=model))
    assert set(model._idle) == first
    assert e.question.engine._held is None


@methods
@pytest.mark.filterwarnings("ignore:.*training mode")
def test_in_training_mode_with_gradients_and_hooks_of_the_users(name):
    """A user in the middle of training keeps what was there: modes, batch statistics, gradients, hooks, frozen weights."""
    net = made(home(name).build).train()
    stem, a, b, *_ = (m for m in net.modules() if getattr(m, "weight", None) is not None)
    a.eval()
    b.weight.requires_grad_(False)
    net(home(name).x).sum().backward()
    stem.register_forward_hook(lambda m, i, o: None)
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    before = Snapshot(net, home(name).x)
    told = "batch_norm in eval mode"
    try:
        METHODS[name](question(home(name), model=wrap(net)))
    except NotApplicable as refusal:  # relevance cannot be shared where the rows are mixed
        told = str(refusal)
    assert "batch_norm in eval mode" in told
    before.check()
    assert all(p.grad is None if g is None else torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))


@methods
def test_inputs_that_ask_for_gradients(name):
    """A leaf of the user's graph is read, never written to, and gets no gradient."""
    x = home(name).x.clone().requires_grad_()
    e = METHODS[name](question(dataclasses.replace(home(name), x=x)))
    assert x.grad is None
    assert x.requires_grad
    assert not e.values.requires_grad
    assert torch.equal(e.values, reference(name).values)


@methods
def test_inside_the_users_no_grad_and_inference_mode(name):
    want = reference(name).values
    with torch.no_grad():
        assert torch.equal(METHODS[name](question(home(name))).values, want)
        assert not torch.is_grad_enabled()
    model = wrap(home(name).net())
    with torch.inference_mode():
        got = METHODS[name](question(home(name), model=model)).values
    assert torch.equal(got.clone(), want)


def test_the_snapshot_sees_what_it_should():
    """Each kind of trace, left on purpose, is found."""
    def hook(net, x):
        net.a.register_forward_hook(lambda m, i, o: None)

    faults = [hook, lambda net, x: net.a.train(), lambda net, x: net.a.weight.data.add_(1), lambda net, x: net(x).sum().backward(), lambda net, x: torch.rand(1),
              lambda net, x: x.add_(1), lambda net, x: net.a.weight.requires_grad_(False), lambda net, x: setattr(net, "_left", 1)]
    for fault in faults:
        net, x = nn.Sequential(), normal(3, 2, 6, 6)
        net.add_module("a", nn.Conv2d(2, 2, 1).double().eval())
        before = Snapshot(net, x)
        fault(net, x)
        with pytest.raises(AssertionError):
            before.check()
