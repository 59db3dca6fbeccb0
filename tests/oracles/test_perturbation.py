"""Perturbation: what is hidden by hand, one player at a time, and a peer's numbers."""

import itertools

import pytest
import torch

from models import normal, subjects
from pellucid.attribution import RISE, FeatureAblation, FeatureInclusion
from pellucid.attribution._grid_masks import GridMasks, Lattice
from pellucid.attribution._masks import Sheet
from pellucid.backends import wrap
from pellucid.core.question import Samples, ask
from pellucid.core.target import Output
from pellucid.modalities.features import FeatureMasker


@pytest.mark.parametrize("baseline", [0.3, Samples(normal(20, 5, seed=9))])
def test_ablation_and_inclusion_of_columns_by_hand(baseline):
    """Every column in turn replaced, or the only one left, against every background row."""
    s = subjects()["columns"]
    net = s.net()
    background = torch.full((1, 5), 0.3, dtype=torch.float64) if isinstance(baseline, float) else baseline.parts[0]
    q = ask(wrap(net), s.x, [0, 1, 2], baseline=baseline)
    out, in_ = FeatureAblation()(q), FeatureInclusion()(q)
    with torch.no_grad():
        for i in range(3):
            for j in range(5):
                without, alone = s.x[i].repeat(len(background), 1), background.clone()
                without[:, j], alone[:, j] = background[:, j], s.x[i, j]
                torch.testing.assert_close(out.values[i, j], net(s.x[i : i + 1])[0, i] - net(without)[:, i].mean(), rtol=1e-10, atol=1e-12)
                torch.testing.assert_close(in_.values[i, j], (net(alone) - net(background))[:, i].mean(), rtol=1e-10, atol=1e-12)
    assert (out.values - in_.values).abs().max() > 1e-3, "an additive network proves nothing"


def test_ablation_is_captums():
    """captum 0.9.0, FeatureAblation with a feature mask: each element holds its group's whole number there, its share here."""
    captum = pytest.importorskip("captum.attr")
    s = subjects()["pictures"]
    net = s.net()
    labels = torch.arange(36).reshape(6, 6) // 6
    e = FeatureAblation(masker=FeatureMasker(groups=labels.expand(2, 6, 6)))(ask(wrap(net), s.x, [0, 1, 2], baseline=0.3))
    want = captum.FeatureAblation(net).attribute(s.x, baselines=0.3, target=torch.tensor([0, 1, 2]), feature_mask=labels[None, None])
    torch.testing.assert_close(e.values * 12, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(e.players.values, want[:, 0, :, 0], rtol=1e-9, atol=1e-12)
    assert want.abs().max() > 1e-3


# -- RISE -----------------------------------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """Any function of six columns of zeros and ones: noise over a random additive part."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.noise, self.slope = torch.randn(64, generator=g, dtype=torch.float64), torch.randn(6, generator=g, dtype=torch.float64)

    def forward(self, x):
        return (0.7 * self.noise[(x.round().long() * 2 ** torch.arange(6)).sum(1)] + x @ self.slope)[:, None]


@pytest.mark.parametrize("chance", [0.5, 0.3])
def test_rise_of_columns_is_the_covariance_over_all_masks(chance):
    """60 rows of ones, each with masks of its own: unbiased, and 95 % intervals that hold."""
    z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    w = (chance ** z.sum(1)) * ((1 - chance) ** (6 - z.sum(1)))
    f = Table()(z)[:, 0]
    want = (w * f) @ z / chance - w @ f
    e = RISE(budget=200, tol=0, chance=chance)(ask(wrap(Table().eval()), torch.ones(60, 6, dtype=torch.float64), Output()))
    inside = ((e.values - want).abs() < 1.96 * e.error).double().mean()
    assert 0.91 <= inside <= 0.98
    assert ((e.values.mean(0) - want).abs() < 4 * e.error.mean(0) / 60**0.5).all()
    assert want.abs().max() > 0.2


def test_rise_of_a_picture_by_a_plain_loop():
    """Masks as they come, one forward each, the formula of the paper less the mean of the others' answers."""
    s = subjects()["pictures"]
    net, q = s.net(), ask(wrap(s.net()), s.x, [0, 1, 2], baseline=0.2)
    e = RISE(budget=40, tol=0, cells=3)(q)
    masks = GridMasks(q, 3, 0.5)
    for i in range(3):
        m = torch.cat([masks.masks(0, torch.tensor([k]), torch.tensor([i])) for k in range(40)])
        assert m.shape == (40, 6, 6)
        assert m.min() >= 0
        assert m.max() <= 1
        assert ((m > 0) & (m < 1)).any()
        torch.testing.assert_close(m[0::2] + m[1::2], torch.ones(20, 6, 6, dtype=torch.float64))
        with torch.no_grad():
            f = net(m[:, None] * s.x[i] + (1 - m[:, None]) * 0.2)[:, i]
        want = (f[:, None, None] * (m - 0.5) / 0.5).mean(0)  # of complements, any constant taken from the answers cancels
        torch.testing.assert_close(e.heat()[i], want, rtol=1e-8, atol=1e-10)
        each = (f[0::2, None, None] - f[1::2, None, None]) * (m[0::2] - 0.5)
        torch.testing.assert_close(each.std(0) / 20**0.5 * (torch.special.ndtri(torch.tensor(0.975)) / 2.093) ** -1, e.error.sum(1)[i], rtol=1e-3, atol=1e-8)


def test_rise_takes_the_mean_of_all_other_pairs_away():
    """Masks that are no complements: each pair's answers less the mean of the others', which is what leaves no bias."""
    s = subjects()["pictures"]
    net, q = s.net(), ask(wrap(s.net()), s.x, [0, 1, 2])
    e = RISE(budget=20, tol=0, cells=3, chance=0.3)(q)
    k = torch.arange(20)
    m = GridMasks(q, 3, 0.3).masks(0, k, torch.zeros_like(k))
    with torch.no_grad():
        f = net(m[:, None] * s.x[0])[:, 0]
    others = torch.stack([f[k // 2 != j // 2].mean() for j in range(20)])
    want = ((f - others)[:, None, None] * (m - 0.3) / 0.3).mean(0)
    torch.testing.assert_close(e.heat()[0], want, rtol=1e-8, atol=1e-10)


def test_grids_are_moved_evenly_and_keep_their_chance():
    """At every pixel masks average to the chance; a shift of a whole cell is the next number of the grid."""
    masks = GridMasks(ask(wrap(Blob().eval()), normal(1, 1, 21, 14), Output()), 7, 0.3)
    s = torch.arange(3000)
    m = masks.masks(0, s, torch.zeros_like(s))
    torch.testing.assert_close(m.mean(0), torch.full((21, 14), 0.3, dtype=torch.float64), rtol=0, atol=0.04)
    lattice = Lattice(Sheet((1, 14, 14)), 7)
    small = torch.rand(1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    still, moved = (lattice.grown(small, torch.tensor([[t, t]], dtype=torch.float64)) for t in (0.0, 1.0))
    torch.testing.assert_close(moved[0, :-2, :-2][1:, 1:], still[0, 2:, 2:][1:, 1:])


class Blob(torch.nn.Module):
    """Answers to the mean brightness of one square, and falls when another one is bright."""

    def forward(self, x):
        return (x[:, :, 3:9, 3:9].mean((1, 2, 3)) - 0.5 * x[:, :, 12:18, 9:14].mean((1, 2, 3)))[:, None]


def test_rise_finds_the_square():
    e = RISE(budget=800)(ask(wrap(Blob().eval()), torch.ones(1, 1, 21, 14, dtype=torch.float64), Output()))
    assert e.heat()[0].argmax() in [14 * i + j for i in range(3, 9) for j in range(3, 9)]
    assert e.heat()[0, 12:18, 9:14].max() < 0
    assert e.heat()[0, 4:8, 4:8].min() > 4 * e.error.max()


def test_rise_stops_row_by_row_and_says_so():
    s = subjects()["pictures"]
    e = RISE(budget=4000, tol=0.05)(ask(wrap(s.net()), s.x, [0, 1, 2]))
    assert "of 3 rows" in e.provenance["notes"][0]
    goal = 0.05 * (e.total - s.net()(0 * s.x).gather(1, torch.arange(3)[:, None])[:, 0]).abs()
    assert (e.error.sum(1).flatten(1).amax(1) <= goal + 1e-12).any()
    assert e.cost.forward_rows < 3 * 4000
