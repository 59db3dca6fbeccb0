"""Asking leaves no trace: on the model, on the user's tensors, on torch."""

import copy
import threading
import warnings

import pytest
import torch
import torch.fx.experimental.symbolic_shapes  # torch imports it at its first gradient with grad_outputs, and sympy with it, which sets a filter of warnings
from torch import nn

from conformance.subjects import METHODS, PLACES, home, question
from models import Raising, Stubborn, made, normal
from pellucid.backends import wrap
from pellucid.core.errors import Cancelled, ModelError, NotApplicable, UsageError
from pellucid.core.progress import watching
from pellucid.core.tree import leaves

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)


class Snapshot:
    """All that a careless library would leave behind."""

    def __init__(self, net, x):
        self.net, self.x = net, x
        self.state = copy.deepcopy(net.state_dict())
        self.inputs = [t.clone() for t in leaves(x)]
        self.seen = self.look()

    def look(self):
        return {
            "modes": [m.training for m in self.net.modules()],
            "hooks": [[len(v) for k, v in sorted(vars(m).items()) if "hook" in k and hasattr(v, "__len__")] for m in self.net.modules()],
            "attributes": [sorted(vars(m)) for m in self.net.modules()],
            "asked": [p.requires_grad for p in self.net.parameters()],
            "grads": [p.grad is None for p in self.net.parameters()],
            "where": [p.data_ptr() for p in self.net.state_dict().values()],
            "strides": [p.stride() for p in self.net.parameters()],
            "inputs ask": [t.requires_grad for t in leaves(self.x)],
            "generator": torch.get_rng_state().tolist(),
            "threads": torch.get_num_threads(),
            "grad mode": torch.is_grad_enabled(),
            "default dtype": torch.get_default_dtype(),
            "filters": list(warnings.filters),
            "running": threading.active_count(),
        }

    def check(self):
        now = self.look()
        assert {k: v for k, v in now.items() if v != self.seen[k]} == {}
        assert all(torch.equal(self.state[k], v) for k, v in self.net.state_dict().items())
        assert all(torch.equal(a, b) for a, b in zip(self.inputs, leaves(self.x), strict=True))


@methods
@places
@pytest.mark.parametrize("batch_size", [2, None], ids=["fixed", "measured"])
def test_after_an_answer(name, place, batch_size):
    net = home(name).net()
    before = Snapshot(net, home(name).x)
    METHODS[name](question(home(name), place, model=wrap(net), batch_size=batch_size))
    before.check()


@methods
@places
@pytest.mark.parametrize("after", [0, 2])
def test_after_the_model_raised(name, place, after):
    """In the first forward, or in the middle of the work: the model's own words come back, and nothing else stays."""
    net = Raising(home(name).net(), after)
    before = Snapshot(net, home(name).x)
    at = "inner." + home(name).layer if place == "layer" else None
    target = _neuron(home(name)) if place == "neuron" else [0, 1, 2]
    with pytest.raises(ModelError, match="the model is tired"):
        METHODS[name](question(home(name), model=wrap(net), batch_size=1, at=at, target=target))
    before.check()


@methods
@places
def test_a_network_that_cannot_be_copied(name, place):
    """It is run itself: the same values, and no trace, also when it is stopped half way."""
    net = made(Stubborn)
    net.inner = home(name).net()
    before = Snapshot(net, home(name).x)
    model = wrap(net)
    asked = {"model": model, "at": "inner." + home(name).layer if place == "layer" else None, "target": _neuron(home(name)) if place == "neuron" else [0, 1, 2], "batch_size": 2}
    e = METHODS[name](question(home(name), **asked))
    before.check()
    want = METHODS[name](question(home(name), place, batch_size=2))
    assert torch.equal(e.values, want.values)
    assert any("under a lock" in n for n in e.provenance["notes"])

    def stop(p):
        told.append(p)
        raise Cancelled("enough")

    told = []
    with pytest.raises(Cancelled), watching(stop):
        METHODS[name](question(home(name), **asked))
    before.check()
    assert torch.equal(METHODS[name](question(home(name), **asked)).values, want.values)


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


def _neuron(s):
    from pellucid.core.target import Neuron

    return Neuron("inner." + s.unit[0], s.unit[1])


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
    import dataclasses

    x = home(name).x.clone().requires_grad_()
    e = METHODS[name](question(dataclasses.replace(home(name), x=x)))
    assert x.grad is None
    assert x.requires_grad
    assert not e.values.requires_grad
    assert torch.equal(e.values, METHODS[name](question(home(name))).values)


@methods
def test_inside_the_users_no_grad_and_inference_mode(name):
    want = METHODS[name](question(home(name))).values
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
