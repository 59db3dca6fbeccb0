"""Counterfactuals against closed forms and enumerations; what is not allowed is never done; every search ends within its budget."""


import numpy as np
import pandas as pd
import pytest
import torch

import pellucid as pel
from pellucid.backends.tabular import ask_table
from pellucid.core.errors import UsageError
from pellucid.counterfactuals import CounterfactualSearch
from pellucid.counterfactuals._goals import NamedClass, OtherClass, Within
from pellucid.modalities.actions import actions, as_cells
from pellucid.modalities.columns import columns_of


def table(rng: np.random.Generator, n: int = 200, p: int = 5) -> np.ndarray:
    return rng.normal(size=(n, p)) * np.geomspace(1, 100, p)


def searched(f, x, data, goal, sparsity=0.0, n=1, budget=3000, kinds=None, **rules):
    model = pel.wrap(f, takes="frame" if hasattr(data, "iloc") else "array")
    seen = ask_table(model, data, kinds=kinds)
    q = ask_table(model, x, known=columns_of(seen))
    within = actions(columns_of(seen), as_cells(seen.x), **rules)
    return CounterfactualSearch(n=n, sparsity=sparsity, budget=budget)(q, within, goal), within


def cheapest(need: float, weights: np.ndarray, room: np.ndarray) -> float:
    """The least L1 way that raises a linear answer by `need`: columns in the order of their weight, each as far as its room."""
    way = 0.0
    for j in np.argsort(-np.abs(weights)):
        step = min(need / abs(weights[j]), room[j])
        way, need = way + step, need - step * abs(weights[j])
        if need <= 0:
            return way
    return np.inf


@pytest.mark.parametrize("tight", [3.0, 0.4])
def test_of_a_linear_model_the_cheapest_way_is_found(tight) -> None:
    rng = np.random.default_rng(1)
    data, x = table(rng), table(rng, 4)
    w = rng.normal(size=5) / np.geomspace(1, 100, 5)
    room = np.median(np.abs(data - np.median(data, 0)), 0) * tight
    for b in range(len(x)):
        ranges = {f"column {j}": (x[b, j] - room[j], x[b, j] + room[j]) for j in range(5)}
        goal = Within(low=float(x[b] @ w) + 1.0)
        found, within = searched(lambda z: (z @ w)[:, None], x[b : b + 1], data, goal, ranges=ranges)
        best = cheapest(1.0, w * within.scale, np.full(5, tight))
        if not np.isfinite(best):
            assert not found.success.any()
            assert float(found.best[0]) > 0
            continue
        assert found.success.all()
        assert best * (1 - 1e-9) <= float(found.distance[0, 0]) <= best * 1.002
        assert int(found.changed[0, 0]) == int(np.ceil(round(best / tight, 9)))


def leaves_of(tree):
    """Every leaf of a tree as a box (low, high) and its class."""
    t, out = tree.tree_, []

    def walk(node, low, high):
        if t.children_left[node] < 0:
            out.append((low, high, int(t.value[node][0].argmax())))
            return
        j, cut = t.feature[node], t.threshold[node]
        walk(t.children_left[node], low, _set(high, j, min(high[j], cut)))
        walk(t.children_right[node], _set(low, j, max(low[j], cut)), high)

    walk(0, np.full(t.n_features, -np.inf), np.full(t.n_features, np.inf))
    return out


def _set(v, j, to):
    out = v.copy()
    out[j] = to
    return out


def test_of_a_tree_the_nearest_leaf_is_found() -> None:
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    near, same = [], []
    for seed in range(2):
        data = table(rng, 300).astype(np.float32).astype(float)
        y = ((data / data.std(0)) ** 2).sum(1) + data[:, 0] > 5
        tree = DecisionTreeClassifier(max_depth=6, random_state=seed).fit(data, y)
        x = table(rng, 6)
        found, within = searched(tree.predict_proba, x, data, OtherClass(), sparsity=0.5)
        for b in range(len(x)):
            own = int(tree.predict(x[b : b + 1])[0])
            boxes = [(lo, hi) for lo, hi, k in leaves_of(tree) if k != own]
            gaps = [np.maximum(np.maximum(lo - x[b], 0), np.maximum(x[b] - hi, 0)) / within.scale for lo, hi in boxes]
            price = [g.sum() + 0.5 * (g > 0).sum() for g in gaps]
            best = int(np.argmin(price))
            near.append((float(found.distance[0, b]) + 0.5 * int(found.changed[0, b])) / price[best])
            same.append(int(found.changed[0, b]) == int((gaps[best] > 0).sum()))
    assert min(near) > 1 - 1e-6  # thresholds are compared in single precision
    assert max(near) < 1.05
    assert np.mean(same) > 0.8


@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_allowed_is_never_done(seed) -> None:
    """Random models, rows and rules: checked by hand, not by the search's own word."""
    rng = np.random.default_rng(seed)
    data = np.column_stack([rng.normal(size=80), rng.integers(0, 9, 80), rng.integers(0, 2, 80), np.eye(3)[rng.integers(0, 3, 80)], rng.normal(size=(80, 2)), rng.integers(0, 5, 80)])
    data[rng.random(80) < 0.1, 6] = np.nan
    frame = pd.DataFrame(data, columns=[f"column {j}" for j in range(9)])
    chosen = rng.permutation(80)[:4]
    x = data[chosen]
    a, b = rng.normal(size=(9, 6)), rng.normal(size=(6, 3))
    kinds = {"column 8": "category"}
    rules = {
        "fixed": [f"column {j}" for j in np.flatnonzero(rng.random(9) < 0.2) if j not in (3, 4, 5)], "increase": ["column 0"] if seed % 2 else [], "decrease": ["column 1"] if seed % 3 else [],
        "ranges": {"column 6": (-0.5, 0.5), "column 8": [0, 1, 2]} if seed % 4 else {}, "one_hot": [["column 3", "column 4", "column 5"]], "costs": {"column 1": 3.0},
    }  # fmt: skip
    asked = []

    def f(z):
        asked.append(len(z))
        return np.tanh(np.nan_to_num(np.asarray(z, float)) @ a) @ b

    wanted = int(rng.integers(3))
    found, _ = searched(f, frame.iloc[chosen], frame, NamedClass(wanted) if seed % 2 else OtherClass(), n=3, budget=800, kinds=kinds, **rules)
    z = found.points.numpy()
    moved = ~((z == x) | (np.isnan(z) & np.isnan(x)))
    assert found.success.any() or float(found.best.min()) > 0
    for n in rules["fixed"]:
        assert not moved[..., int(n[-1])].any()
    assert not rules["increase"] or (z[..., 0] >= x[:, 0]).all()
    assert not rules["decrease"] or (z[..., 1] <= x[:, 1]).all()
    assert (z[..., 1] == np.round(z[..., 1])).all()
    assert np.isin(z[..., 2:6], (0, 1)).all()
    assert (z[..., 3:6].sum(-1) == 1).all()
    assert not np.isnan(z[moved]).any()
    low, high = (-0.5, 0.5) if rules["ranges"] else (np.nanmin(data[:, 6]), np.nanmax(data[:, 6]))
    assert ((z[..., 6] >= low) & (z[..., 6] <= high))[moved[..., 6]].all()
    assert np.isin(z[..., 8], (0, 1, 2) if rules["ranges"] else range(5))[moved[..., 8]].all()
    assert found.cost.forward_rows <= 4 * 800 + len(data)
    wins = found.success.numpy()
    after, before = f(z[wins]).argmax(1), f(np.broadcast_to(x, z.shape)[wins]).argmax(1)
    assert (after == wanted).all() if seed % 2 else (after != before).all()


def people(rng: np.random.Generator, n: int = 150):
    frame = pd.DataFrame({"age": rng.integers(18, 80, n), "debt": rng.normal(5, 2, n).round(1), "job": rng.choice(["clerk", "nurse", "smith"], n), "sex": rng.choice(["f", "m"], n)})

    def bank(f: pd.DataFrame) -> np.ndarray:
        yes = 1 / (1 + np.exp(f["debt"].to_numpy(float) - 4 - 0.02 * f["age"].to_numpy(float) - (f["job"] == "smith").to_numpy(float)))
        return np.stack([1 - yes, yes], 1)

    refused = [int(i) for i in np.flatnonzero(bank(frame)[:, 1] < 0.4)[:3]]
    return frame, pel.wrap(bank, takes="frame", labels=["no", "yes"]), refused


def test_of_people_in_words() -> None:
    frame, bank, refused = people(np.random.default_rng(0))
    found = pel.counterfactual(bank, refused, data=frame, target="yes", fixed=["sex"], n=2, budget=600)
    assert found.success[0].all()
    assert found.wanted == "yes"
    assert all(r["column"] in ("age", "debt", "job") and r["answer"].startswith("yes") for r in found.table())
    assert all(round(r["debt"], 1) == r["debt"] and r["job"] in ("clerk", "nurse", "smith") for r in found.records())
    sure = pel.counterfactual(bank, refused, data=frame, target="yes", at_least=0.8, n=1, budget=600)
    assert (sure.after[0, :, 1] >= 0.8).all()
    price = pel.counterfactual(pel.wrap(lambda x: x.sum(1), takes="array"), np.ones((1, 3)), data=np.random.default_rng(0).normal(size=(50, 3)) + 2, between=(5, 6), n=1, budget=300)
    assert 5 <= float(price.after[0, 0]) <= 6


def test_where_there_is_none_it_says_so_and_why() -> None:
    frame, bank, refused = people(np.random.default_rng(0))
    found = pel.counterfactual(bank, refused, data=frame, target="yes", vary=["sex"], budget=600)
    assert not found.success.any()
    assert "none found" in found.said(0)
    assert {"debt stays", "job stays"} & {told for told, _ in found.relaxations[0]}
    assert not any("sex" in told for told, _ in found.relaxations[0])
    one = pel.wrap(lambda f: np.tile([1.0, 0.0], (len(f), 1)), takes="frame")
    assert float(pel.counterfactual(one, 0, data=frame, budget=600).best[0]) == 1.0


def test_the_same_whoever_else_is_asked_about() -> None:
    frame, bank, refused = people(np.random.default_rng(0))
    together, alone = (pel.counterfactual(bank, rows, data=frame, n=2, budget=400) for rows in (refused, refused[1:2]))
    k = min(len(together.points), len(alone.points))
    torch.testing.assert_close(together.points[:k, 1], alone.points[:k, 0], equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize(("rules", "words"), [
    ({"fixed": ["sexx"]}, "no column 'sexx'. Did you mean 'sex'"), ({"fixed": "sex"}, "needs a list"), ({"ranges": {"age": (70, 20)}}, "lower end first"),
    ({"ranges": {"age": (20.2, 20.4)}}, "no whole number"),
    ({"ranges": {"job": "clerk"}}, "list of what may be taken"), ({"ranges": {"job": ["baker"]}}, "no value of column 'job'"), ({"increase": ["job"]}, "Only columns with an order"),
    ({"increase": ["age"], "decrease": ["age"]}, "only increase and only decrease"), ({"vary": []}, "at least one column"),
    ({"one_hot": [["age", "debt"]]}, "columns of 0 and 1"), ({"costs": {"age": 0}}, "above 0"),
    ({"target": "no"}, "already, no"), ({"target": "nope"}, "no class 'nope'"), ({"at_least": 0.5}, "target="),
    ({"at_least": 0.5, "at_most": 0.1, "target": 1}, "holds nothing"), ({"data": None}, "got none"),
    ({"budget": 3}, "at least 60"), ({"rows": 9999}, "rows 0 to 149"),
])  # fmt: skip
def test_bad_wishes_are_refused_in_a_sentence(rules, words) -> None:
    frame, bank, refused = people(np.random.default_rng(0))
    given = {"rows": refused[0], "data": frame, "budget": 200} | rules
    with pytest.raises(UsageError, match=words):
        pel.counterfactual(bank, given.pop("rows"), **given)


def test_it_is_shown_as_a_table_of_differences(tmp_path) -> None:
    frame, bank, refused = people(np.random.default_rng(0))
    found = pel.counterfactual(bank, [*refused[:1], 0], data=frame.assign(job=frame["job"].replace("smith", "<b>smith")), target="yes", fixed=["sex"], n=2, budget=300)
    page = found._repr_html_()
    assert "<b>smith" not in page
    assert "counterfactual" in found.save(tmp_path / "x.svg").read_text()
    assert found.save(tmp_path / "x.html").stat().st_size > 1000
