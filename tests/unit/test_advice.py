"""Advice: the walk, what fits which model, what it costs, and parameters tuned on a few rows."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pel
from pellucid.core import catalogue
from pellucid.run.advice import COSTS, settings

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PICTURES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def box(z):
    z = torch.as_tensor(z)
    return torch.stack([z[:, 0] * 2, z[:, 1] - z[:, 2], z[:, 3]], 1)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 5)).eval()


def test_a_black_box_is_asked_and_a_picture_network_may_be_differentiated():
    black = pel.advise(box, X)
    assert black.best == "shapley"
    assert all("gradient" not in m.place for m in black.methods)
    white = pel.advise(net(), PICTURES)
    assert [m.method for m in white.methods][:2] == ["integrated-gradients", "grad-cam"]
    assert all(m.cannot and m.reason and m.cost for m in white.methods)
    assert len(white.steps) == 4


def test_trees_are_read():
    from sklearn.ensemble import RandomForestRegressor

    rows = np.random.default_rng(0).normal(size=(30, 4))
    assert pel.advise(RandomForestRegressor(5, random_state=0).fit(rows, rows[:, 0]), rows[:3]).best == "tree-shap"


def test_cost_is_a_limit_and_the_cheapest_is_told_where_none_fits():
    fast = pel.advise(net(), PICTURES, cost="fast")
    assert fast.best == "grad-cam"
    assert all(m.rows <= COSTS["fast"] for m in fast.methods)
    assert pel.advise(box, X, cost="fast").best == "feature-ablation"


def test_representations_need_layers():
    assert pel.advise(net(), PICTURES, question="representation").best == "deep-feature-factorization"
    with pytest.raises(pel.UsageError, match="looks inside a network"):
        pel.advise(box, X, question="representation")
    assert pel.advise(box, X, question="model").best == "permutation-importance"


def test_auto_takes_the_first_of_the_walk():
    e = pel.explain(net(), PICTURES, evidence="none")
    assert e.method == pel.advise(net(), PICTURES).best
    assert e.provenance["notes"][0].startswith("auto: integrated gradients, complete")


def test_every_advised_method_exists_and_answers():
    for advice, model, x in ((pel.advise(net(), PICTURES, cost="moderate"), net(), PICTURES[:1]), (pel.advise(box, X), box, X[:1])):
        for m in advice.methods:
            assert m.method in catalogue.entries("methods")
            pel.explain(model, x, method=m.method, target=0, evidence="none")


def test_settings_lie_beside_the_default():
    got = settings("smooth-grad")
    assert got[0] == {}
    assert all(len(s) <= 1 for s in got)
    assert len(got) > 2


def test_tuning_takes_the_best_setting_and_says_that_it_was_chosen_there():
    advice = pel.advise(box, X, target=0, tune="mask-fidelity", samples=3)
    assert advice.tuned.metric == "mask-fidelity"
    assert advice.tuned.rows == 3
    best = max(t["score"] for t in advice.tuned.tried)
    chosen = ", ".join(f"{k}={v}" for k, v in advice.tuned.parameters.items()) or "defaults"
    assert next(t["score"] for t in advice.tuned.tried if t["setting"] == chosen) >= best - 0.2
    assert "test it on others" in str(advice)
    json.dumps(advice.to_dict())
    with pytest.raises(pel.UsageError, match="better and a worse"):
        pel.advise(box, X, tune="sparseness")


@pytest.mark.parametrize(("changes", "word"), [({"question": "decison"}, "Did you mean 'decision'"), ({"cost": "cheap"}, "It takes fast"), ({"tune": "fidelty"}, "no metric")])
def test_wrong_words(changes, word):
    with pytest.raises(pel.UsageError, match=word):
        pel.advise(box, X, **changes)


def test_the_command_advises_and_refuses(tmp_path, capsys, monkeypatch):
    from pellucid.cli import main

    (tmp_path / "boxmod.py").write_text("import numpy as np\ndef predict(x):\n    x = np.asarray(x)\n    return np.stack([x[:, 0] + x[:, 1], x[:, 2] - x[:, 3], x[:, 4]], 1)\n")
    (tmp_path / "data.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n5,4,3,2,1\n0,1,0,1,0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["advise", "data.csv", "--row", "0", "--model", "boxmod:predict"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["method"] == "shapley"
    assert main(words) == 0
    assert "Cannot show:" in capsys.readouterr().out
    assert main([*words, "--cost", "cheap"]) == 2
    assert "It takes fast" in capsys.readouterr().err
    assert main([*words, "--method", "lime"]) == 2
