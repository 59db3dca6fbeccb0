"""The conformance suite that others run: our own methods pass it, and each fault that it looks for is found."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from pellucid.attribution import Saliency
from pellucid.cli import doctor
from pellucid.core import catalogue
from pellucid.core.card import Card, Needs, Promise, param
from pellucid.core.errors import UsageError
from pellucid.core.procedure import Method, Metric, Scores, Values
from pellucid.core.tree import each
from pellucid.run.conformance import DUTIES, PROMISES, Broken, conform, conform_metric

PROMISED = Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT


@dataclass(frozen=True, kw_only=True)
class Good(Method):
    """Which features would move the target?

    How: the gradient.
    Units: the target's, a unit of the feature.
    Misleads when: the target is saturated.
    """

    card: ClassVar[Card] = Card(title="Good", paper="", needs=Needs.GRADIENT, promises=PROMISED, cost="1 forward and 1 backward row")
    times: float = param(1.0, "what the gradient is multiplied by", ge=0.5, le=9)
    square: bool = param(False, "whether to square it")

    def attribute(self, q):
        return Values(self.changed(q, q.grad()))

    def changed(self, q, g):
        return each(lambda t: self.times * t, g)


def faults(method):
    return {f.duty: f.fault for f in conform(method) if f.fault}


OURS = {"saliency": {}, "grad-cam": {}, "occlusion": {"window": 3, "stride": 3}, "smooth-grad": {"samples": 2}}


@pytest.mark.parametrize(("name", "quick"), OURS.items(), ids=OURS)
def test_our_own_keep_their_word(name, quick):
    method = catalogue.make("methods", name, **quick)
    found = list(conform(method))
    assert not faults(method)
    assert len(found) == len(DUTIES) + sum(p in method.card.promises for p in PROMISES)


def test_a_good_one():
    assert faults(Good()) == {}


def variant(changed=None, card=None, **more):
    """A class like `Good` with one thing wrong."""
    body = {"__doc__": Good.__doc__, "card": dataclasses.replace(Good.card, promises=Promise.NONE, **(card or {})), "__annotations__": {"card": ClassVar[Card]}} | more
    if changed is not None:
        body["changed"] = changed
    name = f"Bad{len(globals())}"
    globals()[name] = dataclass(frozen=True, kw_only=True)(type(name, (Good,), body | {"__module__": __name__}))
    return globals()[name]()


def _noise(self, q, g):
    return each(lambda t: t + torch.rand(t.shape, dtype=t.dtype), g)


def _seeded(self, q, g):
    return each(lambda t, n: t + n, g, q.noise(torch.zeros(q.size, dtype=torch.long), torch.arange(q.size)))


def _neighbours(self, q, g):
    return each(lambda t: t - t.mean(0, keepdim=True), g)


def _baseline(self, q, g):
    return each(lambda t, s: t + s.mean(), g, q.start)


def _train(self, q, g):
    q.model.module.train()
    return g


def _weights(self, q, g):
    with torch.no_grad():
        next(q.model.module.parameters()).mul_(1.5)
    return g


def _around(self, q, g):
    with torch.no_grad():
        for _ in range(2):
            q.model.module(q.x)
    return g


def _single(self, q, g):
    return each(torch.Tensor.float, g)


def _negative(self, q, g):
    return each(lambda t: -t.abs() - 1, g)


FAULTS = [
    ("is repeatable", variant(_noise), "two runs with one seed differ"),
    ("is repeatable", variant(_seeded), "needs random=True"),
    ("does not depend on the batch", variant(_neighbours), "depend"),
    ("is rooted in the baseline as its card says", variant(_baseline), "needs baseline=True"),
    ("leaves no trace", variant(_train), "modes changed"),
    ("leaves no trace", variant(_weights), "weights changed"),
    ("counts its cost", variant(_around), "the model saw 9"),
    ("counts its cost", variant(lambda self, q, g: q.grad()), "its card says"),
    ("answers", variant(_single), "float32"),
    ("answers", variant(_negative, {"signed": False}), "negative numbers"),
    ("answers", variant(lambda self, q, g: each(torch.zeros_like, g)), "nothing but zeros|everything with zeros"),
    ("is documented", variant(__doc__="A gradient."), "question"),
    ("is documented", variant(__doc__="Which?\n\nHow: so.\nUnits: none."), "Misleads when:"),
    ("is documented", variant(card={"cost": ""}), "title and a cost"),
    ("refuses bad parameters", variant(__post_init__=lambda self: None), "accepts times"),
]


@pytest.mark.parametrize(("duty", "method", "told"), FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_each_fault_is_found(duty, method, told):
    with pytest.raises(Broken, match=told):
        DUTIES[duty](method)


@pytest.mark.parametrize(("promise", "changed"), [
    (Promise.COMPLETE, lambda self, q, g: g),
    (Promise.LOCAL, lambda self, q, g: each(lambda t: t + 1, g)),
    (Promise.LINEAR, lambda self, q, g: each(torch.square, g)),
    (Promise.SYMMETRIC, lambda self, q, g: each(lambda t: t * torch.arange(1.0, 1 + t.shape[-1], dtype=t.dtype), g)),
    (Promise.IMPLEMENTATION_INVARIANT, lambda self, q, g: each(lambda t: t * len(q.model.layers()), g)),
])  # fmt: skip
def test_each_broken_promise_is_found(promise, changed):
    method = variant(changed)
    type(method).card = dataclasses.replace(method.card, promises=promise, cost="a gradient")
    assert set(faults(method)) == {f"promise: {str(promise.name).lower().replace('_', '-')}"}


@dataclass(kw_only=True, unsafe_hash=True)
class Loose:
    """Not frozen."""

    times: float = 1.0
    card = dataclasses.replace(Good.card, promises=Promise.NONE)
    parameters = Method.parameters


def test_a_method_that_can_be_changed_and_one_that_raises():
    assert "can be changed" in faults(Loose())["is a value"]

    def broken(self, q, g):
        raise ZeroDivisionError("by zero")

    assert faults(variant(broken))["answers"] == "ZeroDivisionError: by zero"


class Moody(Metric):
    """Does it like the map?"""

    card = Card(title="Moody", paper="")

    def score(self, e):
        return Scores(torch.rand(len(e)))


def test_metrics():
    assert [f.fault for f in conform_metric(catalogue.make("metrics", "sparseness"))] == [""]
    assert [f.fault for f in conform_metric(catalogue.make("metrics", "completeness-gap"))] == [""]
    assert "two scores" in next(conform_metric(Moody())).fault


def test_the_doctor_tells_what_is_broken():
    assert [line.sound for line in doctor._kept("method saliency", Saliency())] == [True]
    lines = list(doctor._kept("method bad", variant(_neighbours)))
    assert [line.sound for line in lines] == [False]
    assert "depend" in lines[0].told
    with pytest.raises(UsageError):
        list(doctor._package("no-such-package"))
