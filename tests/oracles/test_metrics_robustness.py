"""Metrics of robustness, randomization and complexity against closed forms, captum, and what is known to be wrong elsewhere."""

import contextlib
import dataclasses
import math

import pytest
import torch
from torch import nn

import pellucid as pel
from models import made
from pellucid import metrics as M
from pellucid.core import catalogue
from pellucid.core.procedure import Values
from pellucid.metrics._permuted import permuted
from pellucid.metrics._shuffling import histogram_entropy, stages
from pellucid.run.conformance import conform_metric

GEN = torch.Generator().manual_seed(11)
X = torch.rand(3, 6, generator=GEN, dtype=torch.float64) + 1
PICTURES = torch.rand(3, 2, 12, 12, generator=GEN, dtype=torch.float64)


class Squares(nn.Module):
    """Each output is a weighted sum of squares: the gradient at x is 2 w x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(0.5, 2, 18, dtype=torch.float64).reshape(3, 6))
        self.eval()

    def forward(self, x):
        return x.square() @ self.w.T


def deep():
    block = lambda c: (nn.Conv2d(c, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())  # noqa: E731
    layers = lambda: nn.Sequential(*block(2), *block(6), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 4))  # noqa: E731
    return made(layers)


def slopes(model=None, x=X, target=2, **more):
    return pel.explain(model or Squares(), x, target=target, method="saliency", absolute=False, evidence="none", **more)


# ---------------------------------------------------------------- robustness


def fixed(noise):
    """A function that moves each row by its own noise, one after the other."""
    turns = [iter(n) for n in noise]

    def perturb(x):
        return torch.stack([row + next(turns[i % 3]) for i, row in enumerate(x)])

    return perturb


NOISE = 0.1 * torch.randn(3, 5, 6, generator=GEN, dtype=torch.float64)


def test_sensitivities_in_closed_form():
    w = Squares().w.detach()[2]
    e = slopes()
    moved = (w * NOISE.movedim(1, 0)).norm(dim=-1) / (w * X).norm(dim=1)
    given = {"draws": 5, "perturb": fixed(NOISE), "keep": False}
    assert torch.allclose(M.MaxSensitivity(**given)(e).values, moved.amax(0))
    assert torch.allclose(M.AvgSensitivity(**{**given, "perturb": fixed(NOISE)})(e).values, moved.mean(0))
    steep = (2 * w * NOISE.movedim(1, 0)).norm(dim=-1) / NOISE.movedim(1, 0).norm(dim=-1)
    assert torch.allclose(M.LocalLipschitz(**{**given, "perturb": fixed(NOISE)})(e).values, steep.amax(0))


def test_max_sensitivity_equals_captum():
    captum = pytest.importorskip("captum.metrics")
    net = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    saliency = pytest.importorskip("captum.attr").Saliency(net)

    def noisy(x):  # captum repeats each row: copies of one input lie next to one another
        x = x[0] if isinstance(x, tuple) else x
        return x + NOISE[:, : len(x) // 3].reshape(-1, 6)

    explain = lambda x: (saliency.attribute((x[0] if isinstance(x, tuple) else x).detach().requires_grad_(), target=0, abs=False),)  # noqa: E731
    theirs = captum.sensitivity_max(explain, X, noisy, n_perturb_samples=5, max_examples_per_batch=15)
    ours = M.MaxSensitivity(draws=5, perturb=fixed(NOISE), keep=False)(slopes(net, target=0)).values
    assert torch.allclose(ours, theirs.double(), rtol=1e-9)


def test_relative_stabilities_of_squares():
    """The map 2 w x changes by as much as the input, entry by entry: the ratio is 1."""
    given = {"draws": 5, "keep": False}
    e = slopes()
    assert torch.allclose(M.RelativeInputStability(perturb=fixed(NOISE), **given)(e).values, torch.ones(3, dtype=torch.float64))
    z = X + NOISE.movedim(1, 0)
    change = (NOISE.movedim(1, 0) / X).norm(dim=-1)
    out = (z.square() @ Squares().w.detach().T - X.square() @ Squares().w.detach().T).norm(dim=-1)
    assert torch.allclose(M.RelativeOutputStability(perturb=fixed(NOISE), **given)(e).values, (change / out).amax(0))
    net = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    inside = M.RelativeRepresentationStability(layer="1", perturb=fixed(NOISE), **given)(slopes(net, target=0)).values
    h = net[1](net[0](X))
    moved = ((net[1](net[0](z)) - h) / h).norm(dim=-1)
    g = lambda v: ((1 - net[1](net[0](v)).square()) * net[2].weight[0]) @ net[0].weight  # noqa: E731
    assert torch.allclose(inside, (((g(z) - g(X)) / g(X)).norm(dim=-1) / moved).amax(0))


class Cliff(nn.Module):
    """Class 1 once the first column passes 2; the map changes there."""

    def forward(self, x):
        over = torch.sigmoid(200 * (x[:, 0] - 2))
        return torch.stack([x.sum(1) * (1 - over), 3 * x.sum(1) * over], 1)


def test_copies_that_change_the_prediction_are_left_out_and_the_others_stay():
    """Quantus 0.6.0 takes the maximum over NaN: one copy that changed its prediction makes the whole row NaN."""
    x = torch.full((3, 6), 1.0, dtype=torch.float64)
    jumps = torch.zeros(3, 5, 6, dtype=torch.float64)
    jumps[:, :, 1] = 0.05
    jumps[0, 2, 0] = 1.5
    jumps[1, :, 0] = 1.5
    e = pel.explain(Cliff().eval(), x, target=0, method="input-x-gradient", evidence="none")
    kept = M.RelativeInputStability(draws=5, perturb=fixed(jumps))(e).values
    every = M.RelativeInputStability(draws=5, perturb=fixed(jumps), keep=False)(e).values
    assert kept.isnan().tolist() == [False, True, False]
    assert float(kept[0]) == pytest.approx(float(kept[2])) == pytest.approx(1, rel=1e-6)
    assert not torch.allclose(every[:2], every[2])


def test_maps_made_elsewhere_cannot_be_run_again():
    e = pel.assess(Squares(), X, X, target=0, evidence="none")
    with pytest.raises(pel.NotApplicable, match="runs the method again"):
        M.MaxSensitivity()(e)


def test_consistency():
    x = torch.tensor([[3.0, 0, 0], [4, 0, 0], [0, 5, 0], [0, 6, 0], [0, 0, 1]], dtype=torch.float64)

    class Pick(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] + (x[:, 1] > 5.5) * 20, x[:, 1], x[:, 2]], 1)

    e = pel.assess(Pick().eval(), x, x, target=0, evidence="none")
    assert M.Consistency(top=1)(e).values.nan_to_num(-1).tolist() == [1, 1, 0, 0, -1]


# ---------------------------------------------------------------- randomization


def test_shuffled_layers_keep_their_numbers_and_the_network_stays_alive():
    """Fresh parameters in every layer, BatchNorm included, make a deep network a constant; shuffled ones do not."""
    net = deep()
    other = permuted(net, PICTURES, 0, ["3", "4", "8"])
    for (name, a), (_, b) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
        assert torch.equal(a, b) == name.startswith("0") or a.ndim == 1
    assert torch.equal(net[1].running_mean, other[1].running_mean)
    assert not torch.equal(net[4].running_mean, other[4].running_mean)
    noise = torch.randn(PICTURES.shape, generator=GEN, dtype=torch.float64)
    assert float((other(PICTURES) - other(noise)).abs().max()) > 0.05
    assert not other.training


def test_stages():
    net = deep()
    assert stages(net, "independent", 9) == [("0",), ("1",), ("3",), ("4",), ("8",)]
    assert stages(net, "top-down", 9)[1] == ("8", "4")
    assert stages(net, "bottom-up", 2)[-1] == ("0", "1", "3", "4", "8")


class Edges(type(catalogue.make("methods", "input-x-gradient"))):
    """Looks at the input alone."""

    def attribute(self, q):
        return Values(q.point)


@contextlib.contextmanager
def monkeypatched_to_edges():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "make", lambda *_, **__: Edges())
        yield


@pytest.mark.parametrize("order", ["top-down", "bottom-up", "independent"])
def test_parameter_randomization_tells_edges_from_gradients(order):
    e = pel.explain(deep(), PICTURES, target=1, method="input-x-gradient", evidence="none")
    found = M.ModelParameterRandomization(order=order, layers=3).curve(e)
    assert found.alike.shape == (3, 3)
    assert float(found.alike.mean()) < 0.8
    assert torch.allclose(M.ModelParameterRandomization(order=order, layers=3)(e).values, found.alike.mean(0))
    looks = pel.assess(deep(), PICTURES, PICTURES, target=1, evidence="none")
    looks = dataclasses.replace(looks, method="input-x-gradient", parameters={})
    with monkeypatched_to_edges():
        assert float(M.ModelParameterRandomization(order=order, layers=2)(looks).values.min()) == pytest.approx(1)


def test_maps_at_a_layer_are_tested_too():
    e = pel.explain(deep(), PICTURES, target=1, method="input-x-gradient", at="2", evidence="none")
    assert bool(M.ModelParameterRandomization(layers=2)(e).values.abs().le(1).all())
    with pytest.raises(pel.NotApplicable, match="moves the input"):
        M.MaxSensitivity()(e)


def test_smoothing_and_entropy():
    e = pel.explain(deep(), PICTURES, target=1, method="saliency", absolute=False, evidence="none")
    assert bool(M.SmoothMprt(samples=3, layers=2)(e).values.abs().le(1).all())
    assert M.EfficientMprt()(e).values.shape == (3,)
    one = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
    assert float(histogram_entropy(one, 2)) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    with pytest.raises(pel.NotApplicable, match="shuffles a torch network"):
        M.EfficientMprt()(pel.explain(lambda x: x @ torch.ones(6, 2, dtype=x.dtype), X, target=0, method="feature-ablation", evidence="none"))


def test_a_smooth_map_of_a_linear_network_is_its_map():
    net = made(lambda: nn.Sequential(nn.Linear(6, 3)))
    plain, smooth = (m(slopes(net, target=0)).values for m in (M.ModelParameterRandomization(layers=1), M.SmoothMprt(layers=1, samples=4)))
    assert torch.allclose(plain, smooth)


def test_random_logit():
    class Twins(nn.Module):
        """All outputs rest on the same columns, or each on its own."""

        def __init__(self, same):
            super().__init__()
            w = torch.tensor([[1.0, 2, 3, 4, 5, 6]], dtype=torch.float64)
            self.w = torch.cat([w, w * (3 if same else -3), w * (2 if same else -1)])
            self.eval()

        def forward(self, x):
            return x @ self.w.T

    assert torch.allclose(M.RandomLogit()(slopes(Twins(True), target=0)).values, torch.ones(3, dtype=torch.float64))
    assert torch.allclose(M.RandomLogit()(slopes(Twins(False), target=0)).values, -torch.ones(3, dtype=torch.float64))


# ---------------------------------------------------------------- complexity


def test_complexity_in_closed_form():
    values = torch.tensor([[1.0, 1, 1, 1, 1, 1], [0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    e = pel.assess(Squares(), X, values, target=0, evidence="none")
    found = M.Entropy()(e).values
    assert float(found[0]) == pytest.approx(math.log(6))
    assert float(found[1]) == pytest.approx(0)
    assert bool(found[2].isnan())
    assert M.EffectiveComplexity()(e).values.tolist() == [6, 1, 0]


@pytest.mark.slow
def test_every_metric_scores_the_same_twice_and_leaves_no_trace():
    for name in catalogue.entries("metrics"):
        assert [f.fault for f in conform_metric(catalogue.make("metrics", name))] == [""], name
