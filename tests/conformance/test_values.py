"""A method is a value with parameters that are checked and explained."""

import copy
import dataclasses
import pickle
import re

import pytest

from conformance.subjects import METHODS, VARIANTS, Few
from pellucid import attribution
from pellucid.core import catalogue
from pellucid.core.card import Needs
from pellucid.core.errors import UnknownName, UsageError

methods = pytest.mark.parametrize("name", METHODS)
variants = pytest.mark.parametrize("name", VARIANTS)
ENTRIES = catalogue.entries("methods")
FIELDS = [(name, f) for name, e in ENTRIES.items() for f in e.fields]
fields = pytest.mark.parametrize(("name", "f"), FIELDS, ids=[f"{n}.{f.name}" for n, f in FIELDS])


@variants
def test_repr_pickle_equality_hash(name):
    method = VARIANTS[name]
    assert eval(repr(method), vars(attribution) | {"Few": Few}) == method
    assert pickle.loads(pickle.dumps(method)) == method
    assert copy.deepcopy(method) == method
    assert hash(copy.copy(method)) == hash(method)
    others = [m for n, m in VARIANTS.items() if n != name]
    assert sum(m == method for m in others) <= sum(repr(m) == repr(method) for m in others)


@methods
def test_frozen(name):
    for f in dataclasses.fields(METHODS[name]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(METHODS[name], f.name, None)
    assert METHODS[name] == METHODS[name]


@methods
def test_made_by_name(name):
    entry = ENTRIES[name]
    made = catalogue.make("methods", name)
    assert type(made) is catalogue.load("methods", name)
    assert made.name == name
    assert made.parameters() == {f.name: f.default for f in entry.fields}
    assert {f.name for f in dataclasses.fields(made)} == {f.name for f in entry.fields}, "every parameter is made by param()"


@fields
def test_bad_parameters_are_refused_by_name(name, f):
    """Out of range, of another kind, NaN: one sentence that names the parameter and what it got."""
    cls = catalogue.load("methods", name)
    bad = [None, object()] if f.ge is not None or f.le is not None else []
    bad += [f.ge - 1, float("nan"), float("-inf")] if f.ge is not None else []
    bad += [f.le + 1, float("inf")] if f.le is not None else []
    bad += ["no such word"] if f.choices else []
    bad += [3, None] if f.choices and f.ge is None else []
    bad += [2.5] if isinstance(f.default, (int, str)) and f.ge is not None else []
    bad += [True] if f.ge is not None else []
    bad += ["yes", 3, None] if isinstance(f.default, bool) else []
    for value in bad:
        with pytest.raises(UsageError, match=rf"\b{f.name}\b") as e:
            cls(**{f.name: value})
        assert repr(value) in str(e.value)
        assert cls.__name__ in str(e.value)
    assert bad or f.name in ("method", "through", "contrast", "over", "rules", "hierarchy", "masker", "fitted"), "a parameter without a range, words or a switch cannot be checked"


@fields
def test_the_edges_are_allowed(name, f):
    cls = catalogue.load("methods", name)
    for value in [f.ge, f.le, *(f.choices or ()), f.default]:
        if value is not None:
            whole = isinstance(f.default, int) or f.choices or f.default == "auto"
            assert getattr(cls(**{f.name: int(value) if whole and isinstance(value, (int, float)) and not isinstance(value, bool) else value}), f.name) == value


@methods
def test_an_unknown_parameter_is_answered_with_the_nearest(name):
    with pytest.raises(UnknownName, match=name):
        catalogue.make("methods", name, nothing_of_the_kind=1)


@methods
def test_documented(name):
    entry = ENTRIES[name]
    assert entry.summary.endswith("?"), "the first sentence is the question it answers"
    for heading in ("How:", "Units:", "Misleads when:", "Source:"):
        assert re.search(rf"^{heading} \S", entry.doc, re.MULTILINE), heading
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:|ISBN|https://", entry.card.paper + entry.doc)
    assert entry.card.title
    assert entry.card.cost
    assert entry.card.needs & Needs.VALUE or entry.card.needs & Needs.GRADIENT
    assert all(len(f.meaning) > 5 for f in entry.fields)


def test_the_catalogue_is_the_package():
    assert set(ENTRIES) >= {"saliency", "input-x-gradient", "integrated-gradients", "grad-cam", "occlusion", "smooth-grad"}
    assert {e.cls for e in ENTRIES.values()} <= set(vars(attribution))
