"""Perturbation: what is hidden by hand, one player at a time, and a peer's numbers."""

import pytest
import torch

from models import normal, subjects
from pellucid.attribution import FeatureAblation, FeatureInclusion
from pellucid.backends import wrap
from pellucid.core.question import Samples, ask
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
