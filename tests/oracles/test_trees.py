"""Tree SHAP against plain enumeration of all coalitions, on ensembles of every family, with numeric, categorical and missing splits."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from sklearn import ensemble as forests
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import pellucid as pel
from coalitions import by_paths, by_rows, enumerated
from pellucid.attribution import TreeSHAP, _tree_values as trees_of
from pellucid.attribution._tree_values import Weighing, against, along_paths, interactions
from pellucid.backends import wrap
from pellucid.backends._boosted_trees import read as read_booster
from pellucid.backends._sklearn_trees import read as read_sklearn
from pellucid.core.ensemble import MISSING, READS_ZERO, ZERO_MISSING, Ensemble, OneTree, bits
from pellucid.core.errors import ModelError, NotApplicable, UsageError
from pellucid.core.explanation import Explanation
from pellucid.core.question import Samples, ask
from pellucid.core.target import Contrast, Label

pytest.importorskip("numba")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

SEMI = {"shapley": Weighing(), "banzhaf": Weighing(half=True), "beta": Weighing(4, 1)}


def check(trees, z, background):
    """All forms of all values against enumeration."""
    phi, pairs = enumerated(trees, z, by_paths(trees, z))
    np.testing.assert_allclose(along_paths(trees, z), phi, atol=1e-10)
    np.testing.assert_allclose(interactions(trees, z), pairs, atol=1e-10)
    np.testing.assert_allclose(trees_of._leaf_by_leaf(trees, z, Weighing(), np.zeros_like(phi)), phi, atol=1e-10)
    np.testing.assert_allclose(trees.expected() + phi.sum(1), trees.sums(z), atol=1e-10)
    phi, _ = enumerated(trees, z, by_rows(trees, z, background))
    for form in ("tables", "direct", "auto"):
        np.testing.assert_allclose(against(trees, z, background, form=form), phi, atol=1e-10)


@st.composite
def one_tree(draw, features, outputs):
    """A random tree: splits by threshold or by set, missing values of every kind, covers of which some are zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = {k: [] for k in ("left", "right", "feature", "threshold", "cover", "missing_left", "missing")}
    sets, known = {}, {}

    def grow(depth, cover):
        i = len(columns["left"])
        leaf = depth == 0 or rng.random() < 0.15
        f = -1 if leaf else int(rng.integers(features))
        for name, v in zip(columns, (-1, -1, f, float(rng.integers(-2, 3)), cover, int(rng.integers(2)), int(rng.choice([READS_ZERO, MISSING, ZERO_MISSING]))), strict=True):
            columns[name].append(v)
        if leaf:
            return i
        if rng.random() < 0.3:
            sets[i] = bits(rng.choice(5, int(rng.integers(1, 4)), replace=False).tolist())
            columns["missing"][i] = MISSING
            if rng.random() < 0.5:
                known[i] = bits(list(range(4)))
        part = rng.choice([0.0, 0.3, 0.5, 1.0])
        columns["left"][i] = grow(depth - 1, cover * part)
        columns["right"][i] = grow(depth - 1, cover * (1 - part))
        return i

    grow(draw(st.integers(0, 5)), 100.0)
    n = len(columns["left"])
    single = outputs == 1 or draw(st.booleans())
    return OneTree(**columns, value=rng.normal(size=(n,) if single else (n, outputs)), output=int(rng.integers(outputs)) if single else 0, sets=sets, known=known), single


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_trees_equal_enumeration(data):
    features, outputs = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 2))
    drawn = [data.draw(one_tree(features, outputs)) for _ in range(3)]
    same = [t for t, single in drawn if single == drawn[0][1]]
    trees = Ensemble(same, features, outputs, 0.5)
    rng = np.random.default_rng(0)
    rows = rng.integers(-2, 5, (14, features)).astype(float)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[0] = 0.0
    check(trees, rows[:4], rows[4:])
    players = data.draw(st.integers(1, 4))
    owner = rng.integers(0, players, features)
    check(trees.played(owner, players), rows[:4], rows[4:])
    narrow, used = trees.narrowed()
    np.testing.assert_allclose(along_paths(narrow.played(owner[used], players), rows[:4][:, used]), along_paths(trees.played(owner, players), rows[:4]), atol=1e-12)


RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 5)).round(1)
ROWS[:, 3], ROWS[:, 4] = RNG.integers(0, 7, 300), RNG.integers(0, 40, 300)
Y = ROWS[:, 0] * ROWS[:, 1] + np.abs(ROWS[:, 2]) + np.isin(ROWS[:, 3], [1, 4]) * 2 + (ROWS[:, 4] % 3)
CLASSES, TWO = np.digitize(Y, np.quantile(Y, [0.33, 0.66])), (np.median(Y) < Y).astype(int)
HOLES = np.where(RNG.random(ROWS.shape) < 0.12, np.nan, ROWS)
ZEROS = np.where(RNG.random(ROWS.shape) < 0.1, 0.0, HOLES)
FEW = {"n_estimators": 4, "random_state": 0}
SMALL = {"verbose": -1, "num_leaves": 8, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1}
TYPES = ["q"] * 3 + ["c"] * 2


def boosted(parameters, x, y, rounds=4, **kwargs):
    return xgboost.train(parameters, xgboost.DMatrix(x, y, **kwargs), rounds)


def lit(parameters, x, y, rounds=4, **kwargs):
    return lightgbm.train(SMALL | parameters, lightgbm.Dataset(x, y, **kwargs), rounds)


FAMILIES = {
    "tree": lambda: (DecisionTreeRegressor(max_depth=5).fit(HOLES, Y), HOLES),
    "tree with classes": lambda: (DecisionTreeClassifier(max_depth=5).fit(HOLES, CLASSES), HOLES),
    "forest": lambda: (forests.RandomForestRegressor(**FEW, max_depth=6).fit(HOLES, Y), HOLES),
    "forest of two outputs": lambda: (forests.RandomForestRegressor(**FEW, max_depth=4).fit(ROWS, np.c_[Y, TWO]), ROWS),
    "forest, unlimited, weighed": lambda: (forests.RandomForestClassifier(**FEW).fit(ROWS, CLASSES, sample_weight=RNG.random(300)), ROWS),
    "extra trees": lambda: (forests.ExtraTreesClassifier(**FEW, max_leaf_nodes=12).fit(ROWS, TWO), ROWS),
    "boosting": lambda: (forests.GradientBoostingRegressor(**FEW).fit(ROWS, Y), ROWS),
    "boosting, two classes": lambda: (forests.GradientBoostingClassifier(**FEW).fit(ROWS, TWO), ROWS),
    "boosting, three classes": lambda: (forests.GradientBoostingClassifier(**FEW).fit(ROWS, CLASSES), ROWS),
    "histogram boosting with categories": lambda: (forests.HistGradientBoostingRegressor(max_iter=5, categorical_features=[3, 4], min_samples_leaf=3).fit(HOLES, Y), HOLES),
    "histogram boosting, classes": lambda: (forests.HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]).fit(HOLES, CLASSES), HOLES),
    "histogram boosting, counts": lambda: (forests.HistGradientBoostingRegressor(max_iter=4, loss="poisson").fit(HOLES, TWO), HOLES),
    "adaboost": lambda: (forests.AdaBoostClassifier(**FEW).fit(ROWS, CLASSES), ROWS),
    "adaboost, two classes": lambda: (forests.AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), **FEW).fit(ROWS, TWO), ROWS),
    "bagging on some columns": lambda: (forests.BaggingClassifier(**FEW, max_features=0.6).fit(ROWS, CLASSES), ROWS),
    "voting": lambda: (forests.VotingClassifier([("a", forests.RandomForestClassifier(**FEW)), ("b", DecisionTreeClassifier())], voting="soft", weights=[2, 1]).fit(ROWS, CLASSES), ROWS),
    "isolation": lambda: (forests.IsolationForest(**FEW, max_features=0.8, max_samples=60).fit(ROWS), ROWS),
    "xgboost with categories": lambda: (boosted({"max_depth": 5, "max_cat_to_onehot": 4}, HOLES, Y, feature_types=TYPES, enable_categorical=True), HOLES),
    "xgboost dart, three classes": lambda: (boosted({"max_depth": 4, "objective": "multi:softprob", "num_class": 3, "booster": "dart", "rate_drop": 0.3}, HOLES, CLASSES), HOLES),
    "xgboost, two classes": lambda: (xgboost.XGBClassifier(n_estimators=4, max_depth=4).fit(HOLES, TWO), HOLES),
    "xgboost, counts": lambda: (boosted({"max_depth": 4, "objective": "count:poisson"}, HOLES, TWO), HOLES),
    "lightgbm with categories": lambda: (lit({}, HOLES, Y, categorical_feature=[3, 4]), np.where(np.arange(5) == 4, 39.0, HOLES)),
    "lightgbm, zero is missing": lambda: (lit({"zero_as_missing": True, "objective": "multiclass", "num_class": 3}, ZEROS, CLASSES), ZEROS),
    "lightgbm forest, missing is zero": lambda: (lit({"use_missing": False, "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}, ROWS, Y), HOLES),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_and_equals_enumeration(name):
    net, rows = FAMILIES[name]()
    trees, scores, _ = read_sklearn(net) or read_booster(net)
    trees.verify(rows, scores(rows), 2e-5 if "xgboost" in name else 1e-10, name)
    z = trees.rows(rows)
    check(trees, z[:2], z[50:70])


@pytest.mark.parametrize("index", SEMI)
def test_other_weighings(index):
    trees = read_sklearn(forests.RandomForestRegressor(**FEW, max_depth=6).fit(HOLES, Y))[0]
    z, background = trees.rows(HOLES[:3]), trees.rows(HOLES[50:70])
    want, _ = enumerated(trees, z, by_paths(trees, z), index)
    np.testing.assert_allclose(along_paths(trees, z, SEMI[index]), want, atol=1e-10)
    np.testing.assert_allclose(trees_of._leaf_by_leaf(trees, z, SEMI[index], np.zeros_like(want)), want, atol=1e-10)
    want, _ = enumerated(trees, z, by_rows(trees, z, background), index)
    for form in ("tables", "direct"):
        np.testing.assert_allclose(against(trees, z, background, SEMI[index], form), want, atol=1e-10)


def test_deep_paths_and_many_rows():
    """Rows beyond one chunk, tables beyond what is held at once, paths deeper than tables go: the two forms agree, the sum rule holds."""
    x = RNG.normal(size=(700, 24))
    net = forests.RandomForestRegressor(n_estimators=6, random_state=0).fit(x, x @ RNG.normal(size=24) + x[:, 0] * x[:, 1])
    trees = read_sklearn(net)[0]
    assert trees.widest.max() > 12
    z = trees.rows(x)
    np.testing.assert_allclose(along_paths(trees, z).sum((1, 2)) + trees.expected(), net.predict(x), atol=1e-9)
    direct = against(trees, z[:20], z[20:80], form="direct")
    np.testing.assert_allclose(direct.sum((1, 2)), net.predict(x[:20]) - net.predict(x[20:80]).mean(), atol=1e-9)
    np.testing.assert_allclose(against(trees, z[:20], z[20:80]), direct, atol=1e-9)


def test_the_method_says_scale_base_and_pairs():
    net = forests.GradientBoostingClassifier(**FEW).fit(ROWS, TWO)
    model = wrap(net)
    e = TreeSHAP(interactions=True)(ask(model, ROWS[:3], 1))
    margin = net.decision_function(ROWS[:3])
    np.testing.assert_allclose(e.total, margin, atol=1e-9)
    assert e.gap.abs().max() < 1e-9
    assert any("log-odds" in n for n in e.provenance["notes"])
    torch.testing.assert_close(TreeSHAP()(ask(model, ROWS[:3], 0)).values, -e.values)
    pairs = e.players.interactions
    torch.testing.assert_close(pairs, pairs.transpose(1, 2))
    background = torch.tensor(ROWS[:200])
    b = TreeSHAP()(ask(model, ROWS[:3], 1, baseline=Samples(background)))
    np.testing.assert_allclose(b.base, net.decision_function(ROWS[:200]).mean(), atol=1e-9)
    np.testing.assert_allclose(b.values.sum(1), margin - net.decision_function(ROWS[:200]).mean(), atol=1e-9)


def test_forests_explain_the_probability_of_each_rows_class():
    net = forests.RandomForestClassifier(**FEW).fit(ROWS, CLASSES)
    e = TreeSHAP()(ask(wrap(net), ROWS[:6]))
    np.testing.assert_allclose(e.total, net.predict_proba(ROWS[:6]).max(1), atol=1e-12)


def test_a_model_fitted_again_is_read_again():
    net = forests.RandomForestRegressor(**FEW).fit(ROWS, Y)
    model = wrap(net)
    TreeSHAP()(ask(model, ROWS[:2]))
    net.fit(ROWS, -Y)
    np.testing.assert_allclose(TreeSHAP()(ask(model, ROWS[:2])).total, net.predict(ROWS[:2]), atol=1e-9)


def test_missing_values_come_in_where_the_model_takes_them():
    net = xgboost.XGBRegressor(n_estimators=4).fit(HOLES, Y)
    e = TreeSHAP()(ask(wrap(net), HOLES[:4]))
    np.testing.assert_allclose(e.total, net.predict(HOLES[:4]), atol=1e-4)
    with pytest.raises(UsageError, match="finite"):
        ask(wrap(forests.GradientBoostingRegressor(**FEW).fit(ROWS, Y)), HOLES[:4])


@pytest.mark.parametrize(("net", "word"), [
    (lambda: forests.AdaBoostRegressor(**FEW).fit(ROWS, Y), "median"),
    (lambda: forests.VotingClassifier([("a", DecisionTreeClassifier())], voting="hard").fit(ROWS, TWO), "hard"),
    (lambda: forests.BaggingRegressor(LinearRegression(), **FEW).fit(ROWS, Y), "LinearRegression"),
    (lambda: boosted({"booster": "gblinear"}, ROWS, Y), "gblinear"),
    (lambda: lit({"linear_tree": True}, ROWS, Y), "linear_tree"),
    (lambda: LinearRegression().fit(ROWS, Y), "trees"),
])  # fmt: skip
def test_what_is_no_sum_over_trees_is_refused_by_name(net, word):
    with pytest.raises(NotApplicable, match=word):
        TreeSHAP()(ask(wrap(net()), ROWS[:2]))


def test_other_targets_and_places_are_refused():
    model = wrap(forests.RandomForestClassifier(**FEW).fit(ROWS, CLASSES))
    with pytest.raises(NotApplicable, match="one output"):
        TreeSHAP()(ask(model, ROWS[:2], Contrast(0, 1)))
    with pytest.raises(UsageError, match="needs its rows"):
        TreeSHAP(absent="background")(ask(model, ROWS[:2], Label(0)))
    with pytest.raises(NotApplicable, match="paths only"):
        TreeSHAP(interactions=True)(ask(model, ROWS[:2], 0, baseline=Samples(torch.tensor(ROWS[:9]))))


def test_trees_that_answer_otherwise_than_their_library_are_refused():
    trees = read_sklearn(DecisionTreeRegressor(max_depth=3).fit(ROWS, Y))[0]
    with pytest.raises(ModelError, match=r"differ from its own predict by"):
        trees.verify(ROWS, trees.predict(ROWS) + 1e-3, 1e-9, "this tree")
    with pytest.raises(ModelError, match="outputs a row"):
        trees.verify(ROWS, np.zeros((300, 2)), 1e-9, "this tree")
    with pytest.raises(UsageError, match="5 columns"):
        trees.predict(ROWS[:, :3])


@pytest.mark.parametrize("name", ["forest, unlimited, weighed", "voting", "bagging on some columns"])
def test_shares_of_classes_need_one_output_less(name):
    net, rows = FAMILIES[name]()
    trees = read_sklearn(net)[0]
    fewer = trees.opened()
    assert fewer.outputs == trees.outputs - 1
    z = trees.rows(rows[:40])
    np.testing.assert_allclose(trees_of.answers(trees, z), trees.sums(z), atol=1e-12)
    np.testing.assert_allclose(along_paths(trees, z).sum(-1), 0, atol=1e-12)
    other = read_sklearn(forests.RandomForestRegressor(**FEW, max_depth=4).fit(ROWS, np.c_[Y, TWO]))[0]
    assert other.opened() is None


@pytest.mark.parametrize(("data", "word"), [(b"", "too soon"), (b"{L" + bytes(8) + b"Q", "unknown kind"), (b"SL" + b"\x7f" * 8, "impossible"), (b"[$d#L" + b"\0" * 7 + b"\5", "buffer")])
def test_broken_binary_json_is_refused(data, word):
    from pellucid.backends._ubjson import ubjson

    assert ubjson(b"{L\0\0\0\0\0\0\0\1a[#L\0\0\0\0\0\0\0\3ZTi\xff}") == {"a": [None, True, -1]}
    with pytest.raises(ValueError, match=word):
        ubjson(data)


def test_a_split_between_what_is_missing_and_what_is_not():
    """scikit-learn writes it as a threshold beyond all numbers."""
    x = np.where(RNG.random((300, 2)) < 0.4, np.nan, ROWS[:, :2])
    net = forests.RandomForestClassifier(**FEW).fit(x, np.isnan(x[:, 0]))
    assert any(np.isinf(e.tree_.threshold).any() for e in net.estimators_)
    np.testing.assert_allclose(TreeSHAP()(ask(wrap(net), x[:9], 1)).total, net.predict_proba(x[:9])[:, 1], atol=1e-9)


def test_rows_are_shared_out_among_threads(monkeypatch):
    """Every row once, and the numbers of one thread."""
    import numba

    trees = read_sklearn(forests.RandomForestRegressor(**FEW, max_depth=6).fit(ROWS, Y))[0]
    z = trees.rows(np.tile(ROWS, (3, 1)))
    asks = (lambda: along_paths(trees, z), lambda: interactions(trees, z[:70]), lambda: against(trees, z, z[:40], form="tables"), lambda: against(trees, z, z[:40], form="direct"))
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    alone = [ask_() for ask_ in asks]
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    for ask_, want in zip(asks, alone, strict=True):
        assert np.array_equal(ask_(), want)


def test_without_numba_the_same_is_told_more_slowly(monkeypatch):
    model = wrap(forests.RandomForestRegressor(**FEW).fit(ROWS, Y))
    fast = TreeSHAP()(ask(model, ROWS[:3]))
    monkeypatch.setattr(trees_of, "compiled", lambda: False)
    monkeypatch.setattr("pellucid.attribution.tree_shap.compiled", lambda: False)
    slow = TreeSHAP()(ask(model, ROWS[:3]))
    torch.testing.assert_close(slow.values, fast.values, rtol=1e-9, atol=1e-9)
    assert any("numba" in n for n in slow.provenance["notes"])
    with pytest.raises(NotApplicable, match="numba"):
        TreeSHAP(interactions=True)(ask(model, ROWS[:3]))


def test_what_every_method_is_put_through(tmp_path):
    """Rows by themselves, in another order and many at once get the same values; a value object; kept and read again; the model is left as it was."""
    net = forests.RandomForestClassifier(**FEW).fit(ROWS, CLASSES)
    model, before = wrap(net), net.predict_proba(ROWS)
    e = TreeSHAP()(ask(model, ROWS[:40], 1))
    torch.testing.assert_close(TreeSHAP()(ask(model, ROWS[:40][::-1].copy(), 1)).values.flip(0), e.values, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([TreeSHAP()(ask(model, ROWS[i : i + 1], 1)).values for i in range(5)]), e.values[:5], rtol=0, atol=0)
    again = Explanation.load(e.save(tmp_path / "e.safetensors"))
    assert torch.equal(again.values, e.values)
    assert again.players.names == e.players.names
    method = TreeSHAP(index="beta", alpha=4.0)
    assert pickle.loads(pickle.dumps(method)) == method
    assert repr(method).startswith("TreeSHAP(")
    assert np.array_equal(net.predict_proba(ROWS), before)
    with pytest.raises(UsageError, match="one of shapley, banzhaf, beta"):
        TreeSHAP(index="owen")
    ignored = forests.RandomForestRegressor(**FEW).fit(np.c_[ROWS[:, :2], np.zeros(300)], Y)
    assert not TreeSHAP()(ask(wrap(ignored), np.c_[ROWS[:4, :2], np.zeros(4)])).values[:, 2].any()


def test_tables_of_numbers_are_rows():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=list("abcde"))
    net = forests.RandomForestRegressor(**FEW).fit(frame, Y)
    e = pel.explain(net, frame.iloc[:3], evidence="none")
    assert e.method == "tree-shap"
    assert e.players.names[0] == tuple("abcde")
    np.testing.assert_allclose(e.total, net.predict(frame.iloc[:3]), atol=1e-9)
    b = pel.explain(net, frame.iloc[:3], method="tree-shap", baseline=frame.iloc[5:80], evidence="none")
    np.testing.assert_allclose(b.base, net.predict(frame.iloc[5:80]).mean(), atol=1e-9)
