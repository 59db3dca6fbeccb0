"""One run of a method, with all that is looked at afterwards: what it answered, what it left behind, what the model saw."""

import copy
import dataclasses
import functools
import threading
import warnings
from typing import Any

import scipy.sparse
import scipy.special  # noqa: F401
import torch
import torch.fx.experimental.symbolic_shapes  # torch imports it at its first gradient with grad_outputs, and sympy with it, which sets a filter of warnings, as scipy's parts do

from conformance.subjects import METHODS, home, reference
from models import Counting
from pellucid.backends import wrap
from pellucid.core.explanation import Explanation
from pellucid.core.question import ask
from pellucid.core.target import Neuron
from pellucid.core.tree import leaves


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

    def left(self):
        """What is no longer as it was."""
        now = self.look()
        found = {k: v for k, v in now.items() if v != self.seen[k]}
        found |= {k: "changed" for k, v in self.net.state_dict().items() if not torch.equal(self.state[k], v)}
        return found | {f"input {i}": "changed" for i, (a, b) in enumerate(zip(self.inputs, leaves(self.x), strict=True)) if not torch.equal(a, b)}

    def check(self):
        left = self.left()
        assert not left, left


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a method answered, what it left behind on a network that counts its rows, and how many rows that was given."""

    explanation: Explanation
    left: dict[str, Any]
    rows: int


def inside(subject, place):
    """How a question asks at that place of the subject's network where another one holds it as `inner`."""
    return {"target": Neuron("inner." + subject.unit[0], subject.unit[1]) if place == "neuron" else [0, 1, 2], "at": "inner." + subject.layer if place == "layer" else None, "ids": ("p", "q", "r")}


def run(method, place, **changes):
    """A run of its own, on a network of its own."""
    s = home(method.name)
    net = Counting(s.net())
    model = wrap(net)
    model.layers(s.x)  # finding the layers takes one row, once a model
    net.tally.rows = 0
    before = Snapshot(net, s.x)
    e = method(ask(model, s.x, **inside(s, place) | {"batch_size": 2} | changes))
    return Trial(e, before.left(), net.tally.rows)


@functools.cache
def tried(name, place, measured=False):
    """The run that several tests look at, each at something else; nobody changes its values. In chunks that are measured, or so small that several are needed."""
    many = reference(name, place).cost.forward_rows > 40
    return run(METHODS[name], place, batch_size=None if measured else 7 if many else 2)
