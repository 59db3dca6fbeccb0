"""Surrogates: what is simple is recovered as it is, what is noise is called so, and the numbers are scikit-learn's own on the same rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import pellucid as pel
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.modalities.columns import described, read
from pellucid.surrogates._answers import Answers, folds_of, wilson
from pellucid.surrogates._conditions import Coding
from pellucid.surrogates.rule_surrogate import RuleSurrogate, best, holds, proposals
from pellucid.views import tree_diagram

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)).round(3)


def people(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({
        "age": rng.integers(18, 80, n), "wage": rng.gamma(2, 1000, n).round(2), "job": rng.choice(["clerk", "nurse", "farmer"], n), "sex": rng.choice(["f", "m"], n),
        "since": pd.to_datetime("2015-01-01") + pd.to_timedelta(rng.integers(0, 3000, n), unit="D"),
    })  # fmt: skip
    frame.loc[rng.random(n) < 0.15, "wage"] = np.nan
    frame.loc[rng.random(n) < 0.1, "job"] = None
    return frame


def step(x: np.ndarray) -> np.ndarray:
    return np.where(x[:, 0] > 0.5, 3.0, np.where(x[:, 1] <= -0.25, -1.0, 0.5))[:, None]


def noise(x: np.ndarray) -> np.ndarray:
    """No simple function of its columns."""
    return np.sin(1e6 * x.sum(1) ** 2)[:, None]


# -- trees ---------------------------------------------------------------------------------------------------------------


def test_a_model_that_is_a_tree_is_found_again() -> None:
    t = pel.learn(pel.wrap(step, columns=["a", "b", "c", "d"]), X, method="tree-surrogate", depth=2)
    assert t.fidelity.value > 0.97
    assert t.nodes[0].question.startswith("a ≤ 0.5") or t.nodes[0].question.startswith("a ≤ 0.49")
    assert sorted(r["answer"] for r in t.table()) == [-1.0, 0.5, 3.0]
    assert t.fidelity.fitted == 1.0
    assert dict(t.importance).keys() == {"a", "b"}


def test_a_tree_on_words_and_gaps_is_found_exactly() -> None:
    def f(d: pd.DataFrame) -> np.ndarray:
        return np.where(d["job"] == "nurse", 3.0, np.where(d["wage"].isna(), -1.0, np.where(d["sex"] == "f", 1.0, 0.0)))[:, None]

    t = pel.learn(pel.wrap(f, takes="frame"), people(), method="tree-surrogate", depth=3, leaf=0)
    assert (t.fidelity.value, t.fidelity.low, t.fidelity.high, t.fidelity.verdict) == (1.0, 1.0, 1.0, "faithful")
    found = {r["if"]: r["answer"] for r in t.table()}
    assert found["job is nurse"] == 3.0
    assert {k: v for k, v in found.items() if "sex" in k or "missing" in k} == {
        "job is not nurse and wage is missing": -1.0, "job is not nurse and wage is known and sex is f": 1.0, "job is not nurse and wage is known and sex is m": 0.0,
    }  # fmt: skip


def test_a_tree_is_scikit_learns_own() -> None:
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
    t = pel.learn(lambda x: (np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2])[:, None], X, method="tree-surrogate", depth=4, leaf=0.02, seed=3)
    own = DecisionTreeRegressor(max_depth=4, min_samples_leaf=8, random_state=3).fit(X, y)
    leaves = {(n.rows, round(n.answer[0], 9)) for n in t.nodes if n.leaf}
    assert leaves == {(int(own.tree_.n_node_samples[i]), round(float(own.tree_.value[i, 0, 0]), 9)) for i in range(own.tree_.node_count) if own.tree_.children_left[i] < 0}
    np.testing.assert_allclose(sorted(v for _, v in t.importance), sorted(own.feature_importances_[own.feature_importances_ > 0]), atol=1e-9)
    fold = folds_of(X, 10, 3)
    told = np.empty(400)
    base = np.empty(400)
    for k in range(10):
        part = DecisionTreeRegressor(max_depth=4, min_samples_leaf=int(np.ceil(0.02 * (fold != k).sum())), random_state=3).fit(X[fold != k], y[fold != k])
        told[fold == k], base[fold == k] = part.predict(X[fold == k]), y[fold != k].mean()
    assert t.fidelity.value == pytest.approx(1 - ((y - told) ** 2).sum() / ((y - base) ** 2).sum(), abs=1e-9)


def test_classes_give_the_gini_tree_and_agreement() -> None:
    def three(x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0], x[:, 1], 0.3 + 0 * x[:, 2]], 1)

    t = pel.learn(pel.wrap(three, labels=["red", "green", "blue"]), X, method="tree-surrogate", depth=3, seed=1)
    own = DecisionTreeClassifier(max_depth=3, min_samples_leaf=4, random_state=1).fit(X, three(X).argmax(1))
    assert t.labels == ("red", "green", "blue")
    got = sorted(np.round(n.answer, 9).tolist() for n in t.nodes if n.leaf)
    assert got == sorted(np.round(own.tree_.value[i, 0], 9).tolist() for i in range(own.tree_.node_count) if own.tree_.children_left[i] < 0)
    assert t.fidelity.measure == "agreement"
    assert (t.fidelity.low, t.fidelity.high) == wilson(t.fidelity.value, 400)
    assert t.fidelity.trivial == pytest.approx((three(X).argmax(1) == np.bincount(three(X).argmax(1)).argmax()).mean())


@pytest.mark.parametrize("method", ["tree-surrogate", "linear-surrogate", "rule-surrogate"])
def test_noise_is_called_unfaithful(method: str) -> None:
    t = pel.learn(noise, X, method=method)
    assert t.fidelity.value < 0.1
    assert t.fidelity.verdict == "not faithful"
    assert "Not a faithful summary" in t.notes[0]
    assert "Not a faithful summary" in json.dumps(t.to_dict(), ensure_ascii=False)


def test_dates_and_large_numbers_keep_their_digits() -> None:
    big = np.arange(200.0)[:, None] + 1.7e9  # single precision knows steps of 128 there
    t = pel.learn(lambda x: (x > 1.7e9 + 77.5).astype(float), big, method="tree-surrogate", depth=1, leaf=0, target=0, kinds={"column 0": "number"})
    assert [n.rows for n in t.nodes if n.leaf] == [78, 122]
    assert t.fidelity.value > 0.97  # but for the row at the border, where it is held out


def test_equal_rows_are_never_on_both_sides() -> None:
    rows = np.repeat(X[:50], 8, 0)
    fold = folds_of(rows, 5, 0)
    assert all(len(set(fold[i * 8 : i * 8 + 8])) == 1 for i in range(50))
    assert set(fold) == set(range(5))
    gaps = np.array([[np.nan, 1.0], [np.nan, 1.0], [1.0, np.nan]] * 10)
    with pytest.raises(UsageError, match="at least 10 rows that differ"):
        folds_of(gaps, 5, 0)


def test_what_cannot_be_summarised_is_refused() -> None:
    with pytest.raises(NotApplicable, match="same answer"):
        pel.learn(lambda x: 0 * x[:, :1] + 2, X, method="tree-surrogate")
    with pytest.raises(NotApplicable, match="there is nothing to summarise"):
        pel.learn(lambda x: np.stack([0 * x[:, 0], 0 * x[:, 0] + 1], 1), X, method="tree-surrogate")
    with pytest.raises(UsageError, match="at least 20 rows"):
        pel.learn(step, X[:5], method="tree-surrogate")


def test_a_network_on_bare_numbers() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    t = pel.learn(net, torch.from_numpy(X).float(), method="tree-surrogate", target=0, depth=4)
    assert t.cost.forward_rows == 400
    assert t.name


# -- lines ---------------------------------------------------------------------------------------------------------------


def line(d: pd.DataFrame) -> np.ndarray:
    """2 years to the unit, words against the most frequent one, and what a gap is worth."""
    job = d["job"].map({"nurse": 5.0, "clerk": -1.0, "farmer": 2.0}).fillna(0.0)
    return (10 + 2.0 * d["age"] + job + np.where(d["sex"] == "f", 0.0, 3.0) + d["wage"].fillna(people()["wage"].mean()) * 0.001 + 4.0 * d["wage"].isna()).to_numpy()[:, None]


def test_a_model_that_is_a_line_is_found_again() -> None:
    found = pel.learn(pel.wrap(line, takes="frame"), people(), method="linear-surrogate")
    assert found.fidelity.value == pytest.approx(1.0, abs=1e-9)
    slope = {t.name: t.slope for t in found.terms}
    known = {"nurse": 5.0, "clerk": -1.0, "farmer": 2.0, "missing": 0.0}
    reference = dict(found.references)["job"]
    expected = {"age": 2.0, "wage": 0.001, "wage is missing": 4.0, "since": 0.0, **{f"job is {k}": v - known[reference] for k, v in known.items() if k != reference}}
    expected |= {"sex is m": 3.0} if dict(found.references)["sex"] == "f" else {"sex is f": -3.0}
    assert slope == pytest.approx(expected, abs=1e-5)
    assert found.columns[0][0] == "age"
    assert found.columns[0][1] == pytest.approx(2 * people()["age"].std(ddof=0), rel=1e-6)


def test_a_line_is_scikit_learns_own_with_its_jackknife() -> None:
    from scipy.stats import t as student
    from sklearn.linear_model import Lasso, Ridge

    y = np.sin(X[:, 0]) + X[:, 1] ** 2
    z = (X - X.mean(0)) / X.std(0)
    for penalty, strength, own in (("ridge", 0.5, Ridge(alpha=0.5 * 400)), ("lasso", 0.1, Lasso(alpha=0.1 * y.std()))):
        found = pel.learn(lambda x: (np.sin(x[:, 0]) + x[:, 1] ** 2)[:, None], X, method="linear-surrogate", penalty=penalty, strength=strength, folds=8)
        np.testing.assert_allclose([t.effect for t in found.terms], own.fit(z, y).coef_, atol=1e-10)
        fold, parts = folds_of(X, 8, 0), []
        for k in range(8):
            kept = fold != k
            part = Ridge(alpha=0.5 * kept.sum()) if penalty == "ridge" else Lasso(alpha=0.1 * y[kept].std())
            parts.append(part.fit(z[kept], y[kept]).coef_)
        wide = student.ppf(0.975, 7) * np.sqrt(7 / 8 * ((np.array(parts) - np.mean(parts, 0)) ** 2).sum(0))
        np.testing.assert_allclose([t.high - t.effect for t in found.terms], wide, atol=1e-10)


def test_the_jackknife_covers_what_is_true() -> None:
    inside = 0
    for seed in range(30):
        x = np.random.default_rng(seed).normal(size=(200, 2))
        found = pel.learn(lambda x: (x[:, 0] + np.sin(1e6 * x[:, 1]))[:, None], x, method="linear-surrogate", target=0, seed=seed)
        inside += found.terms[0].low <= found.terms[0].effect / found.terms[0].slope <= found.terms[0].high
    assert 25 <= inside <= 30


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
def test_classes_are_scikit_learns_logistic_regression(penalty: str) -> None:
    from sklearn.linear_model import LogisticRegression

    z = (X - X.mean(0)) / X.std(0)

    def three(x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0], x[:, 1], x[:, 2] ** 2], 1)

    found = pel.learn(pel.wrap(three, labels=["r", "g", "b"]), X, method="linear-surrogate", folds=3, penalty=penalty)
    assert {t.output for t in found.terms} == {"r", "g", "b"}
    if penalty == "ridge":
        own = LogisticRegression(max_iter=1000).fit(z, three(X).argmax(1))
        np.testing.assert_allclose(np.reshape([t.effect for t in found.terms], (3, 4)), own.coef_, atol=1e-8)
    two = pel.learn(pel.wrap(lambda x: np.stack([-x[:, 0], x[:, 0] + 0.1], 1), labels=["no", "yes"]), X, method="linear-surrogate", folds=3, penalty=penalty)
    assert {t.output for t in two.terms} == {"yes"}
    assert two.terms[0].effect > 0
    assert two.fidelity.verdict == "faithful"
    rare = pel.learn(pel.wrap(lambda x: np.stack([x[:, 0], x[:, 1], np.where(np.arange(len(x)) < 0, 9.0, x[:, 2] * 0 + np.where(x[:, 2] > 2.9, 99, -99))], 1)), X, method="linear-surrogate", folds=3)
    assert np.isfinite([t.effect for t in rare.terms]).all()


# -- rules ---------------------------------------------------------------------------------------------------------------


def listing(d: pd.DataFrame) -> np.ndarray:
    return np.where((d["age"] > 40) & (d["job"] == "nurse"), 3.0, np.where(d["wage"].isna(), -1.0, np.where(d["sex"] == "f", 1.0, 0.0)))[:, None]


def test_a_model_that_is_a_list_of_rules_is_found_again() -> None:
    found = pel.learn(pel.wrap(listing, takes="frame"), people(), method="rule-surrogate")
    told = [(r.text, r.answer) for r in found.rules]
    assert told[:2] == [("job is nurse and age ≥ 41", "3"), ("wage is missing", "−1")]
    assert told[2:] in ([("sex is m", "0"), ("", "1")], [("sex is f", "1"), ("", "0")])
    assert all(r.precision == 1.0 for r in found.rules)
    assert sum(r.support for r in found.rules) == 80
    assert found.fidelity.value > 0.97


def test_the_measures_of_rules_are_counted_by_hand() -> None:
    frame = people()
    model = pel.wrap(lambda d: np.stack([(d["age"] <= 50).astype(float) * (d["sex"] == "f"), 0.5 + 0 * d["age"]], 1), takes="frame", labels=["young", "other"])
    found = pel.learn(model, frame, method="rule-surrogate")
    held = frame[folds_of(read(frame)[1], 5, 0) == 0]
    young = (held["age"] <= 50) & (held["sex"] == "f")
    assert [r.answer for r in found.rules] in (["young", "other"], ["other", "other", "young"])
    mine = next(r for r in found.rules if r.answer == "young")
    assert (mine.support, mine.precision) == (int(young.sum()), 1.0)
    assert (mine.low, mine.high) == wilson(1.0, int(young.sum()))


def test_the_best_rule_is_that_of_an_exhaustive_search() -> None:
    y = np.round(X[:, :1] * (X[:, 1:2] > 0), 1)
    s = RuleSurrogate(conditions=2)
    coding = Coding.of(described(X, list("abcd")), X)
    a = Answers(X, y, coding.columns)
    rows = np.arange(300)
    every = proposals(s, a, coding, coding.matrix(X), rows, 0, 8)
    found = best(every, a, rows, 8, 0.0)

    def score(rule) -> float:
        mask = holds(rule, X[rows])
        own = y[rows][mask]
        return mask.sum() * (own.mean() - y[rows].mean()) ** 2 - own.var() * mask.sum() if 8 <= mask.sum() < 300 else -np.inf

    assert len(every) > 50
    assert score(found) == pytest.approx(max(map(score, every)))


# -- how they are shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tree-surrogate", "linear-surrogate", "rule-surrogate"])
def test_every_summary_is_shown_with_its_fidelity_first(method: str, tmp_path) -> None:
    frame = people(200).rename(columns={"job": "<b>job</b>$"})
    f = pel.wrap(lambda d: (np.where(d["<b>job</b>$"] == "nurse", 3.0, 0.0) + d["age"] / 50).to_numpy()[:, None], takes="frame")
    found = pel.learn(f, frame, method=method)
    assert found.save(tmp_path / "x.png").stat().st_size > 10_000
    html = found._repr_html_()
    assert found.fidelity.sentence.partition(". ")[2] in html
    assert html.index("held-out") < html.index("<figure")
    assert "<b>job" not in html
    assert "&lt;b&gt;job" in html
    assert "style=" not in found.save(tmp_path / "x.html").read_text()
    data = json.loads(found.save(tmp_path / "x.json").read_text())
    assert data["fidelity"]["rows"] == 200
    assert data["rows"] == json.loads(json.dumps(found.table()))


def test_a_diagram_holds_every_node_once() -> None:
    t = pel.learn(lambda x: (np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2])[:, None], X, method="tree-surrogate", depth=4)
    d = tree_diagram.laid(t)
    assert sorted(b.number for b in d.boxes) == list(range(len(t.nodes)))
    assert len(d.ways) == len(t.nodes) - 1
    leaves = sorted(b.y for b in d.boxes if b.leaf)
    assert min(np.diff(leaves)) >= 58
    axes = Figure().subplots()
    assert tree_diagram.draw(t, axes) is axes


# -- the command line --------------------------------------------------------------------------------------------------------


MINE_OWN = """\
import numpy as np
import pellucid as pel


def f(d):
    return (d['age'] > 40).to_numpy(float)[:, None] + (d['job'] == 'nurse').to_numpy()[:, None]


model = pel.wrap(f, takes='frame', columns=['age', 'wage', 'job', 'sex'])
"""


def test_the_command_line_learns_and_keeps(tmp_path, capsys, monkeypatch) -> None:
    from pellucid.cli import main

    people(120).drop(columns="since").assign(answer=1).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "mine_own.py").write_text(MINE_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    argv = ["learn", "rows.csv", "--model", "mine_own:model", "--method", "tree-surrogate", "--set", "depth=2", "--out", "kept"]
    assert main([*argv, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["found"]["fidelity"]["verdict"] == "faithful"
    assert told["found"]["parameters"]["depth"] == 2
    assert (tmp_path / told["picture"]).stat().st_size > 5_000
    assert "pellucid learn rows.csv" in (tmp_path / told["report"]).read_text()
    names: dict[str, object] = {}
    exec(told["found"]["provenance"]["code"], names)
    assert names["found"].table() == told["found"]["rows"]
    assert main(argv) == 0
    assert "A faithful summary" in capsys.readouterr().out
    refused = [
        (["--set", "dpth=3"], "Did you mean 'depth'"), (["--method", "tree"], "There is no method to learn by"),
        (["--kind", "job"], "column=kind"), (["--drop", "agee"], "Did you mean 'age'"),
    ]  # fmt: skip
    for wrong, sentence in refused:
        assert main([*argv, *wrong]) == 2
        assert sentence in capsys.readouterr().err
