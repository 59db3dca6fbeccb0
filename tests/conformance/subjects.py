"""What the whole catalogue is put through: every method, with every switch, at the input, at a layer and of a neuron."""

import atexit
import dataclasses
import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from architectures import ViT
from models import Subject, normal, subjects
from pellucid.attribution import _segments
from pellucid.backends import wrap
from pellucid.core import catalogue
from pellucid.core.card import Needs
from pellucid.core.errors import NotApplicable
from pellucid.core.explanation import Explanation
from pellucid.core.game import Board
from pellucid.core.procedure import Method
from pellucid.core.question import Question, ask
from pellucid.core.target import Neuron
from pellucid.modalities.maskers import masker_of
from pellucid.training import fit_masking_model


@dataclasses.dataclass(frozen=True)
class Few:
    """The players that there are by themselves, in at most so many groups: budgets grow with players, and every coalition of a few can be asked."""

    most: int = 9

    def board(self, q: Question) -> Board:
        fine = masker_of("auto", q).board(q)
        own = torch.arange(fine.players) % self.most
        names = tuple(tuple(f"group {k}" for k in range(min(len(n), self.most))) for n in fine.names)
        return dataclasses.replace(fine, names=names, labels=None, make=lambda z, rows, copies: fine.make(z[:, own], rows, copies), share=lambda t: fine.share(t[:, own] / own.bincount()[own]))


_segments._cut = functools.cache(_segments._cut.__wrapped__)  # a picture is cut in a frame of 224 x 224, and more of them are asked about here than are remembered
QUICK = {"samples": 4, "budget": 48, "masker": Few()}
"""Parameters that only cost time. 48 coalitions of the 512 that nine players can form: a sample, in which a tolerance stops some rows before others."""
QUICK_OF: dict[str, dict[str, Any]] = {"guided-integrated-gradients": {"steps": 8}, "blur-integrated-gradients": {"steps": 8}, "internal-influence": {"steps": 8}, "xrai": {"steps": 8}}
"""The same for one method alone."""
FINE = {"budget": 330}
"""What all 36 players of the pictures ask for."""
QUICK_OF |= {"exact-shapley": {"masker": Few(6)}, "dasp": {"masker": "auto", "sizes": 4}, "hsic": {"budget": 64}}
QUICK_OF |= {name: {"steps": 6} for name in ("meaningful-perturbation", "extremal-perturbation", "counterfactual-infilling", "perceptual-ball")}


def mask_network() -> str:
    """A file with a mask network for the pictures, hardly trained."""
    net = fit_masking_model(SUBJECTS["pictures"].net(), SUBJECTS["pictures"].x, layers=(), steps=2, width=4, generator=torch.Generator().manual_seed(0))
    folder = tempfile.mkdtemp(prefix="pellucid")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(net.save(Path(folder) / "mask.safetensors"))


QUICK_OF |= {"sobol": {"budget": 96}, "maple": {"draws": 40, "trees": 4, "leaf": 4}}
DRAWS_ROWS = ("permutation-importance",)
"""Methods that draw from a background alone: from a single baseline there is nothing to draw."""

PICTURES = ("blur-integrated-gradients", "xrai", "guided-grad-cam")
"""Methods that need a picture as input."""
PLACES = ("input", "layer", "neuron")
SUBJECTS = subjects()
QUICK_OF |= {"masking-model": {"fitted": mask_network()}}

INSIDE = ("saliency", "grad-cam", "occlusion", "integrated-gradients")
"""What wrappers are tried around: a gradient, a map with a grid of its own, values alone, a path from a baseline.

A wrapper asks its method through one door, so that all others would repeat these. Every pair of a catalogue of sixty would take the suite hours.
"""


class Pooled(nn.Module):
    """Pictures through convolutions, a mean over space and a linear layer: the one head that CAM has a closed form for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.act, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.b(self.a(self.stem(x)))).mean((2, 3)))


HOMES = {"cam": Subject(Pooled, normal(3, 2, 6, 6), "act", ("out", 1), PLACES)}
"""Methods that ask for a certain build of network, and the pictures' network that has it. All others refuse them with a sentence."""


ATTENTION = ("attention-flow", "attention-rollout", "gradient-rollout")
HOMES |= dict.fromkeys(ATTENTION, Subject(ViT, normal(3, 2, 6, 6), "first", ("twice#0", (0, 3)), PLACES))
REFUSED: dict[str, tuple[str, set[str]]] = dict.fromkeys(("guided-backprop", "deconvnet", "beta-smooth"), ("rectifier", {"smooth", "words", "vision transformer layer"}))
"""What a method says, and of which networks ("name", or "name place"), where it has nothing to act on."""
REFUSED |= {"masking-model": ("picture", {"columns", "smooth", "two inputs", "keywords", "words", "vision transformer layer"})}
REFUSED |= {"guided-grad-cam": ("rectifier", {"vision transformer layer"})}
REFUSED |= dict.fromkeys(ATTENTION, ("attention", {"pictures", "columns", "smooth", "two inputs", "keywords", "words", "vision transformer layer"}))


def chained() -> nn.Module:
    """Pictures through one layer after the other: what DASP sends moments through."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


HOMES |= {"dasp": Subject(chained, normal(3, 2, 6, 6), "1", ("3", (1, 2, 1)), PLACES)}
REFUSED |= {"dasp": ("chain", {"pictures", "columns", "smooth input", "smooth neuron", "two inputs", "keywords", "words", "vision transformer"})}


def refused(method: Method, subject: Subject, place: str) -> str | None:
    """The word by which a method must refuse that subject there; None where it must answer."""
    inner = getattr(method, "inner", lambda: method)()
    if inner.name not in REFUSED and looks_at_a_grid(inner) and (place not in subject.grid or inner.name in HOMES and subject is not home(inner.name)):
        return "grid"
    if inner.name in PICTURES and not subject.grid:
        return "grid"
    word, subjects_ = REFUSED.get(inner.name, ("", set()))
    name = next((n for n, s in SUBJECTS.items() if s is subject), "")
    return word if subjects_ & {name, f"{name} {place}"} else None


def home(name: str) -> Subject:
    """The network for pictures on which a method is tried first."""
    return HOMES.get(name, SUBJECTS["pictures"])


def quick(name: str, **parameters: Any) -> Method:
    """A method of the catalogue as it comes, less what only costs time."""
    known = {f.name for f in catalogue.entries("methods")[name].fields}
    return catalogue.make("methods", name, **{k: v for k, v in QUICK.items() if k in known} | QUICK_OF.get(name, {}) | parameters)


METHODS = {name: quick(name) for name, e in catalogue.entries("methods").items() if not e.card.needs & (Needs.TREES | Needs.TOKENS)}
"""All but those of trees, which are put through the same in oracles/test_trees.py."""


def variants() -> dict[str, Method]:
    """Every method as it is tried, and once for every switch turned, every choice made, every player there is, every method wrapped."""
    found: dict[str, Method] = {}
    for name in METHODS:
        entry, found[name] = catalogue.entries("methods")[name], quick(name)
        for f in entry.fields:
            for value in _others(f):
                found[f"{name} {f.name}={value}"] = quick(name, **{f.name: value})
            if found[name].parameters()[f.name] != f.default and (f.choices or f.name == "masker" and f.name not in QUICK_OF.get(name, {})):
                found[f"{name} {f.name}={f.default}"] = quick(name, **{f.name: f.default} | {k: v for k, v in FINE.items() if f.name == "masker" and k in found[name].parameters()})
        if entry.card.wraps:
            found |= {f"{name} of {n}": quick(name, method=n) for n in INSIDE}
    return found


def _others(f: catalogue.Field) -> list[Any]:
    if isinstance(f.default, bool):
        return [not f.default]
    if f.choices and f.ge is not None:
        return [max(int(f.ge), 5)]
    return [c for c in f.choices or () if c != f.default]


VARIANTS = variants()


def spread(often: Callable[..., bool], **axes: Sequence[Any]) -> pytest.MarkDecorator:
    """The product of some axes, by the names of a test's arguments. The quick suite takes those for whose places on the axes `often` holds, `make test-slow` the others.

    Most faults show wherever they are looked for, and the others in one pair of a method and a place, a network or a precision. So the quick suite
    tries every such pair, and leaves to the slow one what only a third thing besides would show.
    """
    ways = itertools.product(*(enumerate(a) for a in axes.values()))
    cases = [([i for i, _ in way], [str(v) for _, v in way], [v for _, v in way]) for way in ways]
    return pytest.mark.parametrize(tuple(axes), [pytest.param(*values, id="-".join(words), marks=() if often(*at) else pytest.mark.slow) for at, words, values in cases])


def question(subject: Subject = SUBJECTS["pictures"], place: str = "input", model: Any = None, **changes: Any) -> Question:
    """The subject's question at that place; a list of classes, one a row, unless a neuron is asked for."""
    target: Any = [0, 1, 2]
    if place == "neuron":
        target = Neuron(*subject.unit)
    asked = {"target": target, "at": subject.layer if place == "layer" else None, "batch_size": 32, "ids": ("p", "q", "r")} | changes
    return ask(wrap(subject.net()) if model is None else model, subject.x, **asked)


def explained(method: Method, subject: Subject, place: str, **changes: Any) -> Explanation | None:
    """The explanation; None where the method looks for a grid, or a build of network, that the subject lacks, which it must say."""
    q, word = question(subject, place, **changes), refused(method, subject, place)
    if word is None:
        return method(q)
    try:
        method(q)
    except NotApplicable as sentence:
        told = str(sentence)
        if word not in told or not any(way in told for way in ("integrated-gradients", "at=", "Use ")):
            raise AssertionError(f"a refusal needs to say what is lacking and what to do: {told}") from None
        return None
    raise AssertionError(f"{method} lacks something for {place} of a subject and answered all the same")


@functools.cache
def reference(name: str, place: str = "input", subject: str = "") -> Explanation | None:
    """What the method answers at that place of a network (its home, unless one is named), None where it refuses: asked once, compared with everywhere, changed by nobody."""
    return explained(METHODS[name], SUBJECTS[subject] if subject else home(name), place)


def looks_at_a_grid(method: Method) -> bool:
    """Methods that choose the shape of their values themselves, and wrappers around them: they draw maps."""
    inner = getattr(method, "inner", lambda: method)()
    return type(inner).shaped is not Method.shaped


def with_(method: Method, **changes: Any) -> Method:
    return dataclasses.replace(method, **changes)
