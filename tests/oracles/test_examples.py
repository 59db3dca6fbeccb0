"""Prototypes, criticisms and neighbours: exhaustive search on small tables, clusters, and mixed columns."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_iris

import pellucid as pel
from pellucid.backends.tabular import ask_table
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.examples._space import Kernel, space_of
from pellucid.examples.mmd_critic import critical, typical
from pellucid.examples.proto_dash import dash, weighted

RNG = np.random.default_rng(0)
SMALL = RNG.normal(size=(9, 3))
CLUSTERS = np.concatenate([RNG.normal(size=(n, 2)) * 0.15 + c for n, c in ((40, (0, 0)), (30, (5, 0)), (30, (0, 5)))])


def total(x: np.ndarray) -> np.ndarray:
    return x.sum(1, keepdims=True)


def kernel(x: np.ndarray) -> Kernel:
    return Kernel.of(space_of(ask_table(pel.wrap(total), x, 0), None), 0)


def plain(x: np.ndarray) -> tuple[np.ndarray, float]:
    """The kernel by its definition."""
    z = (x - x.mean(0)) / x.std(0)
    d = np.sqrt(((z[:, None] - z[None]) ** 2).sum(2))
    width = np.median(d[np.triu_indices(len(x), 1)])
    return np.exp(-(d**2) / (2 * width**2)), width


def test_the_kernel_is_its_definition() -> None:
    k, width = plain(SMALL)
    own = kernel(SMALL)
    assert own.width == pytest.approx(width)
    np.testing.assert_allclose(own.columns(np.arange(9)), k, atol=1e-12)
    np.testing.assert_allclose(own.mean, k.mean(0), atol=1e-12)
    w = np.array([0.2, 0.5, 0.1])
    full = np.full(9, -1 / 9)
    full[[1, 4, 7]] += w
    assert own.discrepancy(np.array([1, 4, 7]), w) == pytest.approx(full @ k @ full, abs=1e-12)


def test_proto_dash_is_the_exhaustive_greedy_and_its_weights_are_best() -> None:
    k, _ = plain(SMALL)
    mean = k.mean(0)

    def best_weights(s: list[int]) -> np.ndarray:
        part = k[np.ix_(s, s)]
        start, bounds, options = np.full(len(s), 0.1), [(0, None)] * len(s), {"ftol": 1e-15, "gtol": 1e-12}
        found = minimize(lambda w: w @ part @ w / 2 - w @ mean[s], start, jac=lambda w: part @ w - mean[s], bounds=bounds, method="L-BFGS-B", options=options)
        return found.x

    chosen: list[int] = []
    w = np.empty(0)
    for _ in range(4):
        slope = [mean[j] - k[j, chosen] @ w if j not in chosen else -np.inf for j in range(9)]
        chosen.append(int(np.argmax(slope)))
        w = best_weights(chosen)
    own, weights = dash(kernel(SMALL), 4)
    assert own.tolist() == chosen
    np.testing.assert_allclose(weights, w, atol=1e-6)
    np.testing.assert_allclose(weighted(k[np.ix_(chosen, chosen)], mean[chosen]), w, atol=1e-6)
    assert (weights >= 0).all()


def test_mmd_critic_is_the_exhaustive_greedy() -> None:
    k, _ = plain(SMALL)

    def worth(s: list[int]) -> float:
        return 2 / (9 * len(s)) * k[:, s].sum() - k[np.ix_(s, s)].sum() / len(s) ** 2

    chosen: list[int] = []
    for _ in range(3):
        chosen.append(max((j for j in range(9) if j not in chosen), key=lambda j: worth([*chosen, j])))
    own, _ = typical(kernel(SMALL), 3)
    assert own.tolist() == chosen
    witness = k.mean(0) - k[:, chosen].mean(1)
    critics: list[int] = []
    for _ in range(3):
        free = [j for j in range(9) if j not in chosen + critics]
        critics.append(max(free, key=lambda j: np.abs(witness[[*critics, j]]).sum() + np.linalg.slogdet(k[np.ix_([*critics, j], [*critics, j])])[1]))
    assert critical(kernel(SMALL), witness, own, 3).tolist() == critics
    best = max(worth(list(s)) for s in itertools.combinations(range(9), 3))
    assert worth(chosen) >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("method", ["proto-dash", "mmd-critic"])
def test_every_cluster_has_its_prototype(method: str) -> None:
    found = pel.learn(total, CLUSTERS, method=method, count=3)
    mine = [e for e in found.examples if e.kind == "prototype"]
    assert sorted(0 if e.row < 40 else 1 if e.row < 70 else 2 for e in mine) == [0, 1, 2]
    assert found.discrepancy < found.chance[0] - 2 * found.chance[1] or found.discrepancy < 0.5 * found.chance[0]
    if method == "proto-dash":
        assert mine[0].row < 40
        assert 0.9 < sum(found.weights) < 1.1
        assert mine[0].weight == pytest.approx(0.4, abs=0.05)


def test_criticisms_are_rows_apart() -> None:
    rows = np.concatenate([CLUSTERS, [[20.0, 20.0]]])
    found = pel.learn(total, rows, method="mmd-critic", count=3, criticisms=2)
    assert [e.kind for e in found.examples].count("criticism") == 2
    told = found.table()
    assert told[0]["kind"] == "prototype"
    assert any("sd)" in r["differs"] for r in told)


def mixed() -> pd.DataFrame:
    return pd.DataFrame({"age": [20.0, 21, 60, np.nan, 20, np.nan], "job": ["nurse", "nurse", "nurse", "clerk", "clerk", "clerk"], "flag": [True, True, False, True, True, True]})


def test_neighbours_in_mixed_columns() -> None:
    f = pel.wrap(lambda d: (d["job"] == "nurse").to_numpy(float)[:, None], takes="frame")
    found = pel.learn(f, mixed(), method="nearest-examples", rows=(0, 3), count=2, ids=list("abcdef"))
    assert [(e.of, e.id) for e in found.examples] == [("a", "a"), ("a", "b"), ("a", "e"), ("d", "d"), ("d", "f"), ("d", "e")]
    sd = np.nanstd(mixed()["age"])
    assert found.examples[1].distance == pytest.approx(1 / sd)
    assert found.examples[2].distance == pytest.approx(np.sqrt(2))
    assert found.examples[4].distance == 0.0
    assert found.examples[5].distance == pytest.approx(np.sqrt(1 + ((20 - np.nanmean(mixed()["age"])) / sd) ** 2))
    assert found.examples[2].differs == ("job clerk rather than nurse",)
    assert dict(found.examples[3].cells)["age"] == "missing"


def test_neighbours_by_answer_and_at_a_layer() -> None:
    x, _ = load_iris(return_X_y=True)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).eval()
    model = pel.wrap(net, labels=["a", "b", "c"])
    rows = torch.from_numpy(x).float()
    answers = net(rows).argmax(1).numpy()
    if len(set(answers)) > 1:
        other = pel.learn(model, rows, method="nearest-examples", rows=0, count=3, answer="other")
        assert all(answers[e.row] != answers[0] for e in other.examples[1:])
    found = pel.learn(model, rows, method="nearest-examples", rows=7, count=4, at="1")
    h = net[:2](rows).detach().double().numpy()
    z = (h - h.mean(0)) / np.where(h.std(0) > 1e-12, h.std(0), np.inf)
    d = np.sqrt(((z - z[7]) ** 2).sum(1))
    d[7] = np.inf
    np.testing.assert_allclose([e.distance for e in found.examples[1:]], np.sort(d)[:4], atol=1e-6)
    for method in ("proto-dash", "mmd-critic"):
        assert pel.learn(model, rows, method=method, count=2, at="1").space == "standardised activations of 1"


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(UsageError, match="from 0 to 8"):
        pel.learn(total, SMALL, method="nearest-examples", rows=9)
    with pytest.raises(UsageError, match="answers are numbers"):
        pel.learn(total, SMALL, method="nearest-examples", answer="same")
    with pytest.raises(NotApplicable, match="at= needs a model with layers"):
        pel.learn(total, SMALL, method="proto-dash", at="x")
    with pytest.raises(UsageError, match="rows that differ"):
        pel.learn(total, np.ones((5, 2)), method="proto-dash", count=2)
    with pytest.raises(UsageError, match="as many rows"):
        pel.learn(total, SMALL, method="mmd-critic", count=20)


@pytest.mark.parametrize("method", ["proto-dash", "mmd-critic", "nearest-examples"])
def test_examples_are_shown(method: str, tmp_path) -> None:
    f = pel.wrap(lambda d: (d["<job>$"] == "nurse").to_numpy(float)[:, None], takes="frame")
    found = pel.learn(f, mixed().rename(columns={"job": "<job>$"}), method=method, count=2)
    assert found.save(tmp_path / "x.png").stat().st_size > 5_000
    html = found.save(tmp_path / "x.html").read_text()
    assert "<job>" not in html
    assert "style=" not in html
    assert ("as many random rows reach" in html) == (method != "nearest-examples")
    assert found.to_dict()["rows"] == found.table()
