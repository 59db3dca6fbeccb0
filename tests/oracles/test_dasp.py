"""Deep approximate Shapley propagation: exact in linear networks and in the first layer's moments, near elsewhere, and refusals by name."""

import itertools

import pytest
import torch
from torch import nn

from models import Residual, made, normal
from pellucid.attribution import DASP, ExactShapley
from pellucid.attribution._moments import Moments, rectified, through
from pellucid.attribution.dasp import _sizes
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask
from pellucid.core.target import Probability


def test_linear_networks_are_exact():
    net = made(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
    q = ask(wrap(net), normal(2, 6), [0, 2], baseline=0.4)
    dasp, exact = DASP()(q).values, ExactShapley()(q).values
    torch.testing.assert_close(dasp, exact, rtol=1e-9, atol=1e-10)
    assert exact.std() > 0.05


def test_moments_of_the_first_layer_are_those_over_all_coalitions():
    parts, nobody = normal(6, 4), normal(1, 4, seed=7)
    k = torch.arange(6, dtype=torch.float64)
    m = _sizes(nobody, parts.sum(0), parts.square().sum(0), parts, k, 5)
    mean, variance = (t.reshape(2, 6, 6, 4) for t in (m.mean, m.variance))
    for i, size in itertools.product(range(6), range(6)):
        others = [j for j in range(6) if j != i]
        sums = torch.stack([nobody[0] + parts[list(c)].sum(0) for c in itertools.combinations(others, size)])
        torch.testing.assert_close(mean[0, i, size], sums.mean(0), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(variance[0, i, size], sums.var(0, correction=0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(mean[1, i, size], sums.mean(0) + parts[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.MaxPool2d((1, 2)), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 3, padding=1).double(), nn.Flatten()])
def test_moments_by_drawing(layer):
    """A hundred thousand normal draws have those means and variances behind every layer (of more than two, the largest's are only near)."""
    mean, sd = normal(1, 2, 4, 4), normal(1, 2, 4, 4, seed=3).abs()
    with torch.no_grad():
        drawn = layer(mean + sd * normal(100_000, 2, 4, 4, seed=5))
        got = through([layer], Moments(mean, sd.square()))
    torch.testing.assert_close(got.mean[0], drawn.mean(0), rtol=0.03, atol=0.02)
    torch.testing.assert_close(got.variance[0], drawn.var(0), rtol=0.08, atol=0.03)


def test_a_unit_that_does_not_vary_is_just_rectified():
    m = rectified(Moments(torch.tensor([-1.0, 2.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)))
    assert m.mean.tolist() == [0, 2]
    assert m.variance.tolist() == [0, 0]


@pytest.mark.parametrize("sizes", [12, 5])
def test_near_the_exact_values(sizes):
    net = made(lambda: nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)))
    q = ask(wrap(net), 2 * normal(3, 12), [0, 1, 2])
    e, exact = DASP(sizes=sizes)(q), ExactShapley()(q).values
    assert (e.values - exact).norm() < 0.15 * exact.norm()
    assert (e.values.sum(1) - exact.sum(1)).abs().max() < 0.15 * exact.abs().sum(1).max()


def test_pictures_in_parts_and_at_a_layer():
    net = made(lambda: nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)))
    x = 2 * normal(2, 2, 6, 6)
    q = ask(wrap(net), x, [0, 1])
    e, exact = DASP(masker="grid:3")(q), ExactShapley(masker="grid:3")(q)
    assert (e.players.values - exact.players.values).norm() < 0.35 * exact.players.values.norm()
    inside = ask(wrap(net), x, [0, 1], at="4")
    torch.testing.assert_close(DASP(masker="grid:3")(inside).players.values, ExactShapley(masker="grid:3")(inside).players.values, rtol=1e-8, atol=1e-9)


def test_refusals_name_the_layer():
    with pytest.raises(NotApplicable, match=r"Tanh\(\) \(1\)"):
        DASP()(ask(wrap(made(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))), normal(1, 4), 0))
    with pytest.raises(NotApplicable, match="chain"):
        DASP()(ask(wrap(made(Residual)), normal(1, 2, 6, 6), 0))
    with pytest.raises(NotApplicable, match="linear in the outputs"):
        DASP()(ask(wrap(made(lambda: nn.Linear(4, 2))), normal(1, 4), Probability(0)))
