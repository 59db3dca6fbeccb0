"""Metrics of localization, of axioms, and of how maps move and agree: closed forms on planted truth."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import pellucid as pel
from models import made
from pellucid import metrics as M
from pellucid.metrics._told import interval

GEN = torch.Generator().manual_seed(5)
X = torch.rand(4, 6, generator=GEN, dtype=torch.float64) + 0.5
PICTURES = torch.rand(4, 3, 8, 8, generator=GEN, dtype=torch.float64)
MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[1:4, 2:6] = True


class Channels(nn.Module):
    """Class c is the mean of channel c, over any size of picture."""

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, x):
        return x.mean((2, 3))


class Weights(nn.Module):
    """Column 4 is ignored; columns 0 and 1 play the same part."""

    def __init__(self, square=False):
        super().__init__()
        self.w, self.square = nn.Parameter(torch.tensor([[2.0, 2, 1, -1, 0, 3], [1, 1, 0, 2, 0, 1]], dtype=torch.float64)), square
        self.eval()

    def forward(self, x):
        return (x.square() if self.square else x) @ self.w.T


def seen(values, x=PICTURES):
    return pel.assess(Channels(), x, values, target=0, evidence="none")


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@functools.cache
def chance_maps():
    return seen(noise((240, 1, 8, 8)), PICTURES.repeat(60, 1, 1, 1))


LOCAL = [M.PointingGame(mask=MASK, tolerance=0), M.EnergyPointingGame(mask=MASK), M.RelevanceMass(mask=MASK), M.RelevanceRank(mask=MASK), M.TopKIou(mask=MASK), M.LocalizationAuc(mask=MASK)]


# ---------------------------------------------------------------- localization


@pytest.mark.parametrize("metric", LOCAL, ids=lambda m: m.name)
def test_the_mask_itself_is_perfect_and_its_complement_is_not(metric):
    inside = MASK.double().expand(4, 1, 8, 8)
    assert metric(seen(inside)).values.tolist() == [1, 1, 1, 1]
    assert metric(seen(1 - inside)).values.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("metric", LOCAL, ids=lambda m: m.name)
def test_random_maps_score_by_the_area(metric):
    found = interval(metric(chance_maps()).values)
    area = float(MASK.double().mean())
    chance = {"localization-auc": 0.5, "top-k-iou": area * area / (2 * area - area * area)}.get(metric.name, area)
    assert found.low - 0.02 < chance < found.high + 0.02


@pytest.mark.parametrize("metric", LOCAL[3:], ids=lambda m: m.name)
def test_ties_do_not_depend_on_where_they_lie(metric):
    """A map that is zero almost everywhere has thousands of ties: sorted by place they would favour a corner."""
    flat = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    area = float(MASK.double().mean())
    expected = {"localization-auc": 0.5, "top-k-iou": area / (2 - area)}.get(metric.name, area)
    assert torch.allclose(metric(seen(flat)).values, torch.full((4,), expected, dtype=torch.float64))


def test_auc_equals_scikit_learn_and_masks_may_be_a_row_each():
    values, masks = noise((4, 1, 8, 8)).round(decimals=1), noise((4, 8, 8), 3) > 0.5
    found = M.LocalizationAuc(mask=masks.numpy())(seen(values)).values
    for i in range(4):
        assert float(found[i]) == pytest.approx(roc_auc_score(masks[i].flatten(), values[i].flatten()))


def test_masses_and_tolerance():
    v = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    v[:, :, 2, 3], v[:, :, 7, 7], v[:, :, 0, 0] = 2, 1, -3
    assert float(M.RelevanceMass(mask=MASK)(seen(v)).values[0]) == pytest.approx(2 / 6)
    assert float(M.RelevanceMass(mask=MASK, pooling="squared")(seen(v)).values[0]) == pytest.approx(4 / 14)
    assert float(M.RelevanceMass(mask=MASK, pooling="positive")(seen(v)).values[0]) == pytest.approx(2 / 3)
    far = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    far[:, :, 6, 5] = 1  # three rows below the region
    assert M.PointingGame(mask=MASK, tolerance=2)(seen(far)).values.tolist() == [0] * 4
    assert M.PointingGame(mask=MASK, tolerance=3)(seen(far)).values.tolist() == [1] * 4


def test_a_mask_is_asked_for_in_a_sentence():
    with pytest.raises(pel.NotApplicable, match="needs a mask of what is known to matter"):
        M.RelevanceRank()(seen(noise((4, 1, 8, 8))))
    with pytest.raises(pel.UsageError, match="one for each of 4 rows"):
        M.RelevanceRank(mask=torch.ones(3, 8, 8))(seen(noise((4, 1, 8, 8))))


@pytest.mark.parametrize("whole", [False, True])
def test_mosaics_without_labels(whole):
    """Each picture has a channel of its own: the map of its class lies in its cell alone."""
    x = torch.zeros(4, 4, 8, 8, dtype=torch.float64)
    x[range(4), range(4)] = PICTURES[:, 0] + 0.1
    e = pel.explain(Channels(), x, target=[0, 1, 2, 3], method="input-x-gradient", evidence="none")
    assert torch.allclose(M.GridPointingGame(whole=whole)(e).values, torch.ones(4, dtype=torch.float64))
    mixed = pel.explain(Channels(), torch.ones_like(x), target=[0, 1, 2, 3], method="input-x-gradient", evidence="none")
    assert torch.allclose(M.GridPointingGame(whole=whole)(mixed).values, torch.full((4,), 0.25, dtype=torch.float64))
    with pytest.raises(pel.NotApplicable, match="4 rows of different classes"):
        M.GridPointingGame()(pel.explain(Channels(), x, target=[0, 1, 1, 0], method="input-x-gradient", evidence="none"))


# ---------------------------------------------------------------- axioms


def explained(method="input-x-gradient", net=None, x=X, **more):
    return pel.explain(net or Weights(), x, target=0, method=method, evidence="none", **more)


def test_what_is_ignored_gets_zero():
    assert M.SensitivityZero()(explained()).values.tolist() == [0] * 4
    values = torch.ones_like(X)
    assert torch.allclose(M.SensitivityZero()(pel.assess(Weights(), X, values, target=0, evidence="none")).values, torch.full((4,), 1 / 6, dtype=torch.float64))


def test_columns_of_the_same_part():
    assert float(M.Symmetry()(explained()).values.max()) < 1e-9
    x = X.clone()
    lopsided = explained(baseline=torch.tensor([[0.3, 0, 0, 0, 0, 0]], dtype=torch.float64).expand(4, 6), method="integrated-gradients", x=x)
    mean = (x[:, 0] + x[:, 1]) / 2
    values = torch.stack([2 * (mean - 0.3), 2 * mean, x[:, 2], -x[:, 3], 0 * mean, 3 * x[:, 5]], 1)
    assert torch.allclose(M.Symmetry()(lopsided).values, 0.6 / values.abs().amax(1))
    with pytest.raises(pel.NotApplicable, match="no two columns"):
        M.Symmetry(pairs=((0, 2),))(explained())


def test_maps_of_sums():
    net = Weights(square=True)
    assert float(M.Linearity()(explained(net=net)).values.max()) < 1e-9
    assert float(M.Linearity()(explained("saliency", net, absolute=True)).values.min()) > 0.05


def test_twins_that_compute_the_same():
    class Doubled(Weights):
        def forward(self, x):
            return super().forward(x * 4) / 4

    e = explained()
    assert float(M.ImplementationInvariance(twin=Doubled())(e).values.max()) < 1e-12
    with pytest.raises(pel.UsageError, match="differ by"):
        M.ImplementationInvariance(twin=Weights(square=True))(e)
    with pytest.raises(pel.NotApplicable, match="twin="):
        M.ImplementationInvariance()(e)


def test_a_shift_that_the_model_undoes():
    """Gradients do not see it; input x gradient does, by shift times gradient (Kindermans et al., figure 2)."""
    assert float(M.InputInvariance()(explained("saliency", absolute=False)).values.max()) < 1e-12
    w = Weights().w.detach()[0]
    assert torch.allclose(M.InputInvariance(shift=0.5)(explained()).values, 0.5 * w.norm() / (w * X).norm(dim=1))


# ---------------------------------------------------------------- moving and agreeing


@pytest.mark.parametrize("move", ["shift", "flip", "rotation"])
def test_a_map_moves_with_the_picture_where_the_model_does(move):
    net = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    e = pel.explain(net, PICTURES, target=0, method="input-x-gradient", evidence="none")
    found = M.Equivariance(move=move, by=2, layer="1")(e)
    assert torch.allclose(found.values, torch.ones(4, dtype=torch.float64))
    assert "moves with it to 1.00" in found.sentence
    fixed = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    assert float(M.Equivariance(move=move, by=2)(pel.explain(fixed, PICTURES, target=0, method="saliency", absolute=False, evidence="none")).values.mean()) < 0.5


def test_agreement_of_two_maps():
    a, b = explained(), explained(net=Weights(), method="integrated-gradients")
    assert M.Agreement(other=b)(a).values.tolist() == pytest.approx([1] * 4)
    assert M.Agreement(other="integrated-gradients")(a).values.tolist() == pytest.approx([1] * 4)
    assert M.Agreement(other=-a.values, kind="sign")(a).values.tolist() == [0] * 4
    assert M.Agreement(other=-a.values, kind="top", top=0.5)(a).values.tolist() == [1] * 4
    assert M.Agreement(other=-a.values, kind="signed-top", top=0.5)(a).values.tolist() == [0] * 4
    half = a.values * torch.tensor([1, 1, 1, -1, 1, -1], dtype=torch.float64)
    assert torch.allclose(M.Agreement(other=half, kind="sign")(a).values, torch.full((4,), 3 / 5, dtype=torch.float64))  # one value is zero
    many = X.repeat(30, 1)
    chance = interval(M.Agreement(other=noise(many.shape, 1))(pel.assess(Weights(), many, noise(many.shape), target=0, evidence="none")).values)
    assert chance.low < 0 < chance.high
    with pytest.raises(pel.NotApplicable, match="another explanation"):
        M.Agreement()(a)
    assert not math.isnan(float(np.mean(M.Agreement(other=np.ones((4, 6)), kind="top")(a).values.numpy())))
