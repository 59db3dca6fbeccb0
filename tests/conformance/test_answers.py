"""Every method answers at the input, at a layer and of a neuron, on every kind of network, with values of the right shape."""

import pytest
import torch

from conformance.subjects import METHODS, PLACES, SUBJECTS, VARIANTS, explained, home, looks_at_a_grid, question, reference, spread
from models import made, normal
from pellucid.backends import wrap
from pellucid.core.card import Needs
from pellucid.core.errors import NotApplicable
from pellucid.core.tree import leaves

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)
COARSE = ("xrai", "guided-grad-cam")
"""Methods that 16 bits move far: regions are cut otherwise where the picture is rounded, and a product of two gradients is rounded twice."""


def looks_at_differences(method):
    """Methods without gradients subtract outputs, each of which is rounded."""
    return Needs.GRADIENT not in method.card.needs


def _check(e, q, method):
    values, point = leaves(e.values), leaves(q.point)
    assert len(e) == 3
    if not looks_at_a_grid(method):
        assert [v.shape for v in values] == [p.shape for p in point]
    assert [v.dtype for v in values] == [point[0].dtype] * len(values)
    assert all(v.isfinite().all() and len(v) == 3 and not v.requires_grad for v in values)
    assert e.signed or all((v >= 0).all() for v in values)
    assert e.total.shape == (3,)
    assert len(e.target) == 3
    assert e.error is None or [t.shape for t in leaves(e.error)] == [v.shape for v in values]
    assert e.convergence is None or e.convergence.shape == (3,)


@methods
@places
def test_shape_and_finiteness(name, place):
    _check(reference(name, place), question(home(name), place), METHODS[name])
    _check_some(reference(name, place))


@spread(lambda v, p: v % 3 == p, variant=[v for v in VARIANTS if v not in METHODS], place=PLACES)
def test_shape_and_finiteness_of_variants(variant, place):
    method = VARIANTS[variant]
    subject = home(method.name)
    e = explained(method, subject, place)
    _check(e, question(subject, place), method)
    _check_some(e)


def _check_some(e):
    assert sum(float(v.abs().sum()) for v in leaves(e.values)) > 0, "an answer of nothing but zeros passes every test"


@spread(lambda m, s, p: p in (0, 1 + (m + s) % 2), name=METHODS, subject=[s for s in SUBJECTS if s != "pictures"], place=PLACES)
def test_every_kind_of_network(name, subject, place):
    e = reference(name, place, subject)
    if e is not None:
        _check(e, question(SUBJECTS[subject], place), METHODS[name])


@spread(lambda m, d, p: (m + d) % 3 == p, name=METHODS, dtype=[torch.float32, torch.bfloat16, torch.float16], place=PLACES)
def test_other_precisions(name, dtype, place):
    """16-bit networks are answered, near to what float64 says."""
    s, method = home(name), METHODS[name]
    e = explained(method, s, place, model=wrap(s.net(dtype)))
    _check(e, question(s, place, model=wrap(s.net(dtype))), method)
    exact = reference(name, place).values
    assert e.values.dtype == dtype
    coarse = torch.finfo(dtype).eps * float(e.total.abs().max()) * exact.numel() ** 0.5 if looks_at_differences(method) else 0
    near = {torch.float32: 1e-4, torch.bfloat16: 0.4, torch.float16: 0.4 if name in COARSE else 0.1}[dtype]
    assert (e.values.double() - exact).norm() < near * exact.norm() + 2 * coarse


@methods
def test_a_plain_callable_is_answered_or_refused_by_what_the_card_needs(name):
    s = SUBJECTS["columns"]
    f = s.net()
    model = wrap(lambda x: f(x).detach())
    method = METHODS[name]
    inner = getattr(method, "inner", lambda: method)()
    if inner.card.needs & ~model.can:
        with pytest.raises(NotApplicable, match="needs a model that offers"):
            method(question(s, model=model))
    else:
        assert method(question(s, model=model)).values.shape == s.x.shape


@methods
def test_a_layer_of_the_users_own(name):
    """A layer is given by name or as the module itself."""
    s = home(name)
    net = s.net()
    by_module = METHODS[name](question(s, model=wrap(net), at=net.get_submodule(s.layer))).values
    assert torch.equal(by_module, reference(name, "layer").values)


@methods
def test_values_are_the_methods_alone(name):
    """The user's tensors are neither handed out nor changed: writing into values touches no input."""
    s = home(name)
    x = normal(3, 2, 6, 6)
    e = METHODS[name](question(dataclass_with(s, x)))
    e.values.fill_(7)
    assert torch.equal(x, normal(3, 2, 6, 6))


def dataclass_with(subject, x):
    import dataclasses

    return dataclasses.replace(subject, x=x)


def test_the_models_are_not_trivial():
    for s in SUBJECTS.values():
        out = wrap(s.net())
        q = question(s, model=out)
        assert q.own_outputs().std() > 1e-3
        q.close()
    assert made(SUBJECTS["pictures"].build) is not None
