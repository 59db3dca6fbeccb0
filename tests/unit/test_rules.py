"""Rules on operations: relevance is conserved or accounted for, values are kept, and what is not seen is refused by name."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import Hidden, Odd, made, normal
from pellucid.backends import wrap
from pellucid.core._kept import safe
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask
from pellucid.core.rules import Rules


def identity(c):
    ratio = safe(c.output()) / safe(c.args[0].detach())
    return c.keep(c.output(), lambda g: (g * ratio,), c.args[0], conserves=True)


CONSERVING = Rules(weights=lambda c: c.native(), pointwise=identity, scale=lambda c: c.output())


class Functional(nn.Module):
    """Functional and in-place activations, BatchNorm after a convolution and by itself, residual sums in place."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b, self.m, self.f = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 3)
        for norm in (self.n, self.m):
            nn.init.uniform_(norm.bias, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x):
        y = F.relu(self.n(self.a(x)), inplace=True)
        y = y + F.relu6(self.b(F.max_pool2d(y, 3, 1, 1)))
        y += self.m(F.silu(y)) * 0.5
        return self.f(y.mean((2, 3)))


@pytest.mark.parametrize("at", [None, "a", "b"])
def test_relevance_and_what_was_absorbed_make_up_the_answer(at):
    q = ask(wrap(made(Functional)), normal(4, 3, 9, 9), [0, 1, 2, 0], at=at).with_rules(CONSERVING)
    relevance = (safe(q.point) * q.grad()).flatten(1).sum(1)
    absorbed = q.absorbed()
    torch.testing.assert_close(relevance + sum(absorbed.values()), q.target_values(), rtol=1e-10, atol=1e-12)
    assert min(float(v.abs().max()) for v in absorbed.values()) > 1e-4
    assert q.engine.account.by_row


def test_a_moved_point_keeps_its_own_account():
    x, moved = normal(4, 3, 9, 9), normal(4, 3, 9, 9, seed=5)
    model = wrap(made(Functional))
    there = ask(model, moved, [0, 1, 2, 0]).with_rules(CONSERVING)
    there.grad()
    q = ask(model, x, [0, 1, 2, 0]).with_point(moved).with_rules(CONSERVING)
    q.grad()
    assert q.absorbed().keys() == there.absorbed().keys()
    for key, amount in there.absorbed().items():
        torch.testing.assert_close(q.absorbed()[key], amount)


def added(y, x):
    y += x
    return y


def scaled(y, x):
    y *= y.sigmoid()
    return y


def in_part(y, x):
    low, high = y[:, :2], y[:, 2:]
    low += 1
    return y + x * torch.cat([high, low], -1)


def through_a_view(y, x):
    seen = y.view(-1)
    y[:, 1:] += x[:, 1:]
    return y + seen.view_as(y)


OUT_OF_PLACE = {
    added: lambda y, x: y + x,
    scaled: lambda y, x: y * y.sigmoid(),
    in_part: lambda y, x: torch.cat([y[:, :2] + 1, y[:, 2:]], -1) + x * torch.cat([y[:, 2:], y[:, :2] + 1], -1),
    through_a_view: lambda y, x: 2 * torch.cat([y[:, :1], y[:, 1:] + x[:, 1:]], -1),
}


def half(c):
    """Keeps half of the relevance, by the value as it was."""
    return c.keep(c.native().detach(), lambda g: (g / 2 * c.output().sign() * c.output().sign(),), c.native())


class Written(nn.Module):
    """A weighted operation whose output is written on."""

    def __init__(self, f):
        super().__init__()
        self.a, self.b, self.f = nn.Linear(4, 4), nn.Linear(4, 2), f

    def forward(self, x):
        return self.b(self.f(self.a(x), x))


@pytest.mark.parametrize("f", OUT_OF_PLACE, ids=lambda f: f.__name__)
def test_rules_see_values_as_they_were_before_something_was_written_on_them(f):
    rules, x = Rules(weights=half, pointwise=identity), normal(3, 4)
    one, two = (ask(wrap(made(lambda g=g: Written(g))), x, [0, 1, 0]).with_rules(rules) for g in (f, OUT_OF_PLACE[f]))
    torch.testing.assert_close(one.grad(), two.grad())
    torch.testing.assert_close(one.absorbed()["a", "linear"], two.absorbed()["a", "linear"])
    torch.testing.assert_close(one.target_values(), two.target_values())
    assert two.absorbed()["a", "linear"].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("f", "named"),
    [(lambda x: torch.cumprod(x, -1), "cumprod"), (Hidden.apply, "HiddenBackward"), (lambda x: torch.cdist(x, x + 1), "cdist")],
    ids=["no rule", "autograd.Function", "cdist"],
)
def test_what_has_no_rule_is_refused_by_name(f, named):
    net = made(lambda: Odd(f))
    q = ask(wrap(net), normal(4, 4), 0).with_rules(CONSERVING)
    with pytest.raises(NotApplicable, match=named):
        q.grad()


def test_training_batch_norm_is_refused():
    net = made(Functional)
    net.n.train()
    with pytest.warns(UserWarning, match="training"):
        q = ask(wrap(net), normal(4, 3, 9, 9), 0).with_rules(CONSERVING)
    with pytest.raises(NotApplicable, match="batch_norm in eval mode; in module 'n'"):
        q.grad()


def test_a_second_derivative_raises():
    from pellucid.core._kept import keep

    x = normal(3).requires_grad_()
    (g,) = torch.autograd.grad(keep(x * x, lambda g: (g,), x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_what_is_made_of_weights_is_let_go_without_the_garbage_collector():
    import gc
    import weakref

    from pellucid.core._memory import Memory

    memory, weight = Memory(), normal(3)
    made = weakref.ref(memory("twice", [weight], lambda: weight * 2))
    gc.disable()
    try:
        assert made() is not None
        del memory
        assert made() is None
    finally:
        gc.enable()


class Along(nn.Module):
    """A linear operation over the last axis, and a BatchNorm over the one before it, as long as that."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)
        nn.init.uniform_(self.n.running_var, 0.5, 2)

    def forward(self, x):
        return self.b(self.n(self.a(x)).mean(1))


@pytest.mark.parametrize("rules", [Rules(), CONSERVING], ids=["plain", "conserving"])
def test_a_batch_norm_over_another_axis_is_not_one_with_the_weights(rules):
    q = ask(wrap(made(Along)), normal(3, 5, 5), [0, 1, 0])
    torch.testing.assert_close(q.with_rules(rules).grad(), q.grad())
