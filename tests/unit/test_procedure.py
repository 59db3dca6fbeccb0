"""What the base class of methods does around the mathematics: many baselines, and rows taken of them."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models import Reused, made, normal
from pellucid.attribution import InputXGradient, IntegratedGradients, SmoothGrad
from pellucid.backends import wrap
from pellucid.core.card import Card
from pellucid.core.procedure import Method, Values
from pellucid.core.question import Samples, ask
from pellucid.core.tree import each

X = normal(5, 5)
POOL = normal(4, 5, seed=8)


@pytest.fixture
def model():
    return wrap(made(Reused))


@dataclass(frozen=True, kw_only=True)
class Drawn(Method):
    """The distance to the baseline, with an error, a place and notes of its own."""

    card = Card(title="Drawn", paper="", baseline=True)

    def attribute(self, q):
        span = q.point - q.start
        return Values(span, error=torch.full_like(span, 0.5), notes=("always", f"start {float(q.start.flatten()[0]):.3f}"), at="somewhere", signed=False)


@dataclass(frozen=True, kw_only=True)
class Whole(Drawn):
    """Takes all baselines in one go."""

    card = Card(title="Whole", paper="", baseline=True, samples=True)

    def attribute(self, q):
        return Values(q.point - q.baseline.parts[0].mean(0), notes=(f"{q.baseline.n} at once",))


def test_many_baselines_keep_what_the_method_says_of_its_values(model):
    e = Drawn()(ask(model, X, 1, baseline=Samples(POOL)))
    torch.testing.assert_close(e.values, X - POOL.mean(0))
    assert e.at == "somewhere"
    assert e.signed is False
    assert e.provenance["notes"] == ["always", "averaged over 4 baselines"], "a note that not every run gave is no note on the mean"


def test_the_error_of_the_draws_inside_is_not_averaged_away(model):
    """Each baseline sees the same draws, so that their error stays as large as in one run."""
    e = Drawn()(ask(model, X, 1, baseline=Samples(POOL)))
    torch.testing.assert_close(e.error, (POOL.var(0) / 4 + 0.25).sqrt().expand(5, -1))
    alone = Drawn()(ask(model, X, 1, baseline=Samples(POOL[:1])))
    torch.testing.assert_close(alone.error, torch.full_like(X, 0.5))


def test_smooth_grad_over_many_baselines(model):
    method = SmoothGrad(samples=5, method=InputXGradient(against_baseline=True))
    e = method(ask(model, X, 1, baseline=Samples(POOL)))
    own = [method(ask(model, X, 1, baseline=b)) for b in POOL]
    torch.testing.assert_close(e.values, torch.stack([o.values for o in own]).mean(0))
    between = torch.stack([o.values for o in own]).var(0) / 4
    torch.testing.assert_close(e.error, (between + torch.stack([o.error**2 for o in own]).mean(0)).sqrt())


def test_a_method_that_deals_with_many_baselines_is_asked_once(model):
    e = Whole()(ask(model, X, 1, baseline=Samples(POOL)))
    assert e.provenance["notes"] == ["4 at once"]
    torch.testing.assert_close(e.values, X - POOL.mean(0))


def test_the_question_of_the_explanation_still_has_all_baselines(model):
    e = IntegratedGradients(steps=3)(ask(model, X, 1, baseline=Samples(POOL)))
    assert e.question.baseline.n == 4
    assert e.convergence is None, "the first run's says nothing of the mean"


@pytest.mark.parametrize("baseline", [normal(5, seed=3), normal(5, 5, seed=3), normal(1, 5, seed=3), normal(5, 5, seed=3).numpy(), 0.5], ids=["one row", "a row each", "one", "numpy", "number"])
def test_rows_of_a_square_table_take_their_own_baseline(model, baseline):
    """A baseline of one row is as long as there are rows here, and is still one row."""
    q = ask(model, X, 1, baseline=baseline)
    rows = torch.tensor([3, 0, 3, 1, 1, 2, 4])
    want = torch.as_tensor(np.asarray(baseline), dtype=torch.float64).expand_as(X) if not isinstance(baseline, float) else torch.full_like(X, baseline)
    torch.testing.assert_close(q.take(rows).start, want[rows])
    still = SmoothGrad(samples=3, noise=0, method=InputXGradient(against_baseline=True))
    torch.testing.assert_close(still(q).values, still.inner()(dataclasses.replace(q)).values)


def test_several_inputs_over_many_baselines():
    from models import TwoInputs

    a, b = normal(3, 4), normal(3, 3, seed=2)
    pools = (normal(6, 4, seed=3), normal(6, 3, seed=4))
    method = InputXGradient(against_baseline=True)
    model = wrap(made(TwoInputs))
    e = method(ask(model, (a, b), 1, baseline=Samples(pools)))
    own = [method(ask(model, (a, b), 1, baseline=(p, q))).values for p, q in zip(*pools, strict=True)]
    each(torch.testing.assert_close, e.values, tuple(torch.stack(part).mean(0) for part in zip(*own, strict=True)))
