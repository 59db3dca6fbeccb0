"""Tree SHAP in the raw columns of tables: against enumeration of those columns, asked of the pipeline itself or walked along its trees."""

import itertools

import numpy as np
import pytest
import torch
from sklearn import ensemble as forests
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, PolynomialFeatures, SplineTransformer, StandardScaler, TargetEncoder

import pellucid as pel
from coalitions import by_paths, enumerated
from pellucid.attribution import TreeSHAP
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.question import ask

pytest.importorskip("numba")
pandas = pytest.importorskip("pandas")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

RNG = np.random.default_rng(0)
N = 240
FRAME = pandas.DataFrame({
    "age": np.where(RNG.random(N) < 0.15, np.nan, RNG.integers(18, 80, N)),
    "city": RNG.choice(["Oslo", "Rome", "Lima", None], N),
    "pay": RNG.normal(size=N).round(2),
    "job": pandas.Categorical(RNG.choice(["nurse", "cook", "clerk"], N)),
    "flag": RNG.random(N) < 0.5,
    "day": pandas.to_datetime("2020-01-01") + pandas.to_timedelta(RNG.integers(0, 900, N), "D"),
    "note": RNG.choice(["late again", "on time", "very late", "asked for more time"], N),
})  # fmt: skip
SCORE = FRAME["age"].fillna(45) / 20 + 3 * (FRAME["city"] == "Oslo") * FRAME["flag"] + FRAME["pay"] + FRAME["day"].dt.month / 6 + FRAME["note"].str.contains("late") + (FRAME["job"] == "cook")
TWO, THREE = (np.median(SCORE) < SCORE).astype(int).to_numpy(), np.digitize(SCORE, np.quantile(SCORE, [0.3, 0.7]))
FEW = {"n_estimators": 4, "random_state": 0}
MINI = {"n_estimators": 4, "max_depth": 4}


def dates(table):
    day = table.iloc[:, 0].dt
    return pandas.DataFrame({"month": day.month, "year": day.year, "weekday": day.day_of_week})


def dense(**more):
    """A preprocessing of every kind of column, families of several columns among them."""
    return ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age", "pay"]),
        ("words", make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(handle_unknown="ignore")), ["city", "job"]),
        ("dates", FunctionTransformer(dates), ["day"]),
        ("text", TfidfVectorizer(), "note"),
    ], remainder="passthrough", **more)  # fmt: skip


def others():
    """Encoders that the first lacks, sets of columns as slices and masks, a selection after it, a union in it."""
    return make_pipeline(
        ColumnTransformer([
            ("target", TargetEncoder(cv=KFold(3)), ["city", "note"]),
            ("order", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [3]),
            ("bins", make_pipeline(SimpleImputer(), FeatureUnion([("a", KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf")), ("b", SplineTransformer(3, degree=2))])), ["age", "pay"]),
            ("flag", "passthrough", slice(4, 5)),
        ]),
        SelectKBest(f_classif, k=9),
    )  # fmt: skip


def categories(table):
    """Strings and categories as categories, dates as numbers: what libraries with categories of their own take."""
    words = {c: table[c].astype("category") for c in ("city", "note")}
    return table.assign(day=table["day"].dt.day_of_year.astype(float), **words)


NATIVE = categories(FRAME)
SMALL = {"verbose": -1, "min_child_samples": 3, "min_data_per_group": 3, "cat_smooth": 1, "num_leaves": 8, "n_estimators": 4}
MODELS = {
    "forest": lambda: (make_pipeline(dense(), forests.RandomForestClassifier(**FEW, max_depth=6)).fit(FRAME, THREE), FRAME, "predict_proba"),
    "histogram boosting": lambda: (make_pipeline(dense(sparse_threshold=0), forests.HistGradientBoostingClassifier(max_iter=4)).fit(FRAME, TWO), FRAME, "decision_function"),
    "xgboost on sparse rows": lambda: (make_pipeline(dense(sparse_threshold=1.0), xgboost.XGBClassifier(**MINI)).fit(FRAME, TWO), FRAME, "margin"),
    "lightgbm on sparse rows": lambda: (make_pipeline(dense(sparse_threshold=1.0), lightgbm.LGBMClassifier(**SMALL)).fit(FRAME, TWO), FRAME, "raw"),
    "other encoders": lambda: (make_pipeline(others(), forests.GradientBoostingClassifier(**FEW)).fit(FRAME, TWO), FRAME, "decision_function"),
    "target encoder of three classes": lambda: (make_pipeline(others(), forests.ExtraTreesClassifier(**FEW, max_depth=5)).fit(FRAME, THREE), FRAME, "predict_proba"),
    "searched": lambda: (GridSearchCV(make_pipeline(dense(), forests.RandomForestClassifier(**FEW)), {"randomforestclassifier__max_depth": [3, 4]}, cv=2).fit(FRAME, TWO), FRAME, "predict_proba"),
    "frames throughout": lambda: (make_pipeline(FunctionTransformer(categories), xgboost.XGBClassifier(**MINI, enable_categorical=True)).fit(FRAME, TWO), FRAME, "margin"),
    "histogram boosting's categories": lambda: (forests.HistGradientBoostingClassifier(max_iter=4, categorical_features="from_dtype").fit(NATIVE, TWO), NATIVE, "decision_function"),
    "xgboost's categories": lambda: (xgboost.XGBClassifier(**MINI, enable_categorical=True, max_cat_to_onehot=2).fit(NATIVE, TWO), NATIVE, "margin"),
    "lightgbm's categories": lambda: (lightgbm.LGBMClassifier(**SMALL).fit(NATIVE, TWO), NATIVE, "raw"),
}


def scores(net, how, table):
    """(rows, outputs) by the library itself, in the scale in which its trees add up."""
    out = net.predict_proba(table) if how == "predict_proba" else net.decision_function(table) if how == "decision_function" else \
        net.predict(table, output_margin=True) if how == "margin" else net.predict(table, raw_score=True)
    return np.asarray(out, float).reshape(len(table), -1)


def mixed(row, background, present):
    """The background's rows with the present columns of one row."""
    out = background.copy()
    for j in np.flatnonzero(present):
        out.isetitem(j, row.iloc[:, j].array.take([0] * len(background)))
    return out


def worths(net, how, own, background):
    """What a coalition is worth, for every row; all coalitions are asked in one call."""
    coalitions = list(itertools.product([False, True], repeat=own.shape[1]))
    table = pandas.concat([mixed(own.iloc[[i]], background, s) for s in coalitions for i in range(len(own))], ignore_index=True)
    found = scores(net, how, table).reshape(len(coalitions), len(own), len(background), -1).mean(2)
    return lambda present: found[coalitions.index(tuple(present.tolist()))]


@pytest.mark.parametrize("name", MODELS)
def test_raw_columns_equal_enumeration_of_raw_columns(name):
    net, table, how = MODELS[name]()
    own, background = table.iloc[[3, 70]], table.iloc[100:112]
    near = 2e-5 if "xgboost" in name or name == "frames throughout" else 1e-10
    features = type("Players", (), {"players": table.shape[1], "outputs": scores(net, how, own).shape[1]})
    phi, _ = enumerated(features, own, worths(net, how, own, background))
    target = 1
    got = TreeSHAP()(ask(wrap(net), own, target, baseline=background))
    of = target if features.outputs > 1 else 0
    assert np.abs(phi[..., of]).max() > 1e-3
    np.testing.assert_allclose(got.values, phi[..., of], atol=near)
    np.testing.assert_allclose(got.total, scores(net, how, own)[:, of], atol=near)
    paths = TreeSHAP(interactions=True)(ask(wrap(net), own, target))
    model, x, _ = wrap(net).posed(own, 0)
    found = model.trees(x)
    trees, player = found.grouped(False, list(table.columns), "it")
    assert player.tolist() == list(range(table.shape[1]))
    phi, pairs = enumerated(trees, z := found.read(x), by_paths(trees, z))
    np.testing.assert_allclose(paths.values, phi[..., of], atol=1e-10)
    np.testing.assert_allclose(paths.players.interactions, 2 * pairs[..., of] * (1 - np.eye(table.shape[1])), atol=1e-10)
    assert paths.players.names[0][1].startswith("city = ")


def test_what_mixes_columns_is_refused_by_name_or_joined():
    table = FRAME[["age", "pay", "flag"]].fillna(30.0)
    net = make_pipeline(ColumnTransformer([("mix", PCA(2), ["age", "pay"])], remainder="passthrough"), forests.RandomForestRegressor(**FEW)).fit(table, SCORE)
    with pytest.raises(NotApplicable, match=r"PCA mixes age, pay. .*mixed='join'"):
        TreeSHAP()(ask(wrap(net), table.iloc[:2]))
    background = table.iloc[50:60]
    e = TreeSHAP(mixed="join")(ask(wrap(net), table.iloc[:2], baseline=background))
    assert [n.count(" + ") for n in e.players.names[0]] == [1, 0]
    features = type("Players", (), {"players": 2, "outputs": 1})
    worth = lambda s: np.stack([net.predict(mixed(table.iloc[[i]], background, np.array([s[0], s[0], s[1]]))).mean(0, keepdims=True) for i in range(2)])  # noqa: E731
    phi, _ = enumerated(features, table.iloc[:2], worth)
    np.testing.assert_allclose(e.players.values, phi[..., 0], atol=1e-10)
    torch.testing.assert_close(e.values[:, 0] + e.values[:, 1], e.players.values[:, 0])
    for step, word in ((PolynomialFeatures(2), "PolynomialFeatures"), (KNNImputer(), "KNNImputer"), (FunctionTransformer(lambda t: t.assign(age=t["age"] * t["pay"])), "FunctionTransformer")):
        net = make_pipeline(step, forests.RandomForestRegressor(**FEW)).fit(table, SCORE)
        with pytest.raises(NotApplicable, match=word):
            TreeSHAP()(ask(wrap(net), table.iloc[:2]))


def test_functions_that_keep_columns_apart_are_tried_and_said():
    table = FRAME[["age", "pay"]].fillna(30.0).abs()
    net = make_pipeline(FunctionTransformer(np.log1p), forests.RandomForestRegressor(**FEW)).fit(table, SCORE)
    e = TreeSHAP()(ask(wrap(net), table.iloc[:40]))
    np.testing.assert_allclose(e.total, net.predict(table.iloc[:40]), atol=1e-9)
    assert any("log1p" in n and "tried column by column" in n for n in e.provenance["notes"])


def test_pipelines_of_numbers_take_arrays():
    table = FRAME[["age", "pay"]].to_numpy()
    net = make_pipeline(SimpleImputer(), StandardScaler(), forests.RandomForestRegressor(**FEW)).fit(table, SCORE)
    e = TreeSHAP()(ask(wrap(net), table[:5]))
    np.testing.assert_allclose(e.total, net.predict(table[:5]), atol=1e-9)
    b = TreeSHAP()(ask(wrap(net), table[:5], baseline=pel.Samples(table[20:80])))
    np.testing.assert_allclose(b.base, net.predict(table[20:80]).mean(), atol=1e-9)


def test_bad_tables_are_told_in_one_sentence():
    net = MODELS["forest"]()[0]
    with pytest.raises(UsageError, match="no column in the rows 'pay'"):
        pel.explain(net, FRAME.drop(columns="pay").iloc[:2], evidence="none")
    with pytest.raises(UsageError, match="at least one row; this one is a table without rows"):
        pel.explain(net, FRAME.iloc[:2], baseline=FRAME.iloc[:0], evidence="none")
    with pytest.raises(UsageError, match="at least one row"):
        pel.explain(net, FRAME.iloc[:0], evidence="none")
    e = pel.explain(net, FRAME.assign(extra=1, more=2).iloc[:2], evidence="none")
    assert any("2 columns that the model does not take were left out: extra, more" in n for n in e.provenance["notes"])
    strict = make_pipeline(ColumnTransformer([("words", OneHotEncoder(), ["city"])]), forests.RandomForestRegressor(**FEW)).fit(FRAME, SCORE)
    with pytest.raises(pel.PellucidError, match=r"unknown categories \['Bern'\]"):
        pel.explain(strict, FRAME.assign(city="Bern").iloc[:2], evidence="none")
    one = forests.RandomForestClassifier(**FEW).fit(FRAME[["pay"]], np.zeros(N))
    with pytest.raises(NotApplicable, match="one class"):
        pel.explain(one, FRAME[["pay"]].iloc[:2], method="tree-shap", evidence="none")
    rows = FRAME[["pay", "flag"]].to_numpy(float)
    plain = forests.RandomForestRegressor(**FEW).fit(rows, SCORE)
    with pytest.raises(UsageError, match="at least one row"):
        pel.explain(plain, rows[:2], method="tree-shap", baseline=pel.Samples(rows[:0]), evidence="none")


def test_tables_of_polars_and_arrow():
    """By their own `to_pandas`; this stands in for them, as neither is needed otherwise."""

    class Other:
        def __init__(self, frame):
            self.frame = frame

        def to_pandas(self):
            return self.frame

    net = MODELS["forest"]()[0]
    e = TreeSHAP()(ask(wrap(net), Other(FRAME.iloc[:3]), 1, baseline=Other(FRAME.iloc[10:20])))
    torch.testing.assert_close(e.values, TreeSHAP()(ask(wrap(net), FRAME.iloc[:3], 1, baseline=FRAME.iloc[10:20])).values)

    class Poor(Other):
        def to_pandas(self):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    with pytest.raises(UsageError, match="pyarrow"):
        ask(wrap(net), Poor(FRAME), 1)


def test_unseen_categories_are_missing_where_the_library_takes_them_so():
    for name in ("histogram boosting's categories", "lightgbm's categories", "xgboost's categories"):
        net, table, how = MODELS[name]()
        strange = table.iloc[:4].assign(city=pandas.Categorical(["Bern", "Oslo", None, "Bern"]))
        try:
            want = scores(net, how, strange)[:, 0]
        except ValueError:
            continue
        np.testing.assert_allclose(TreeSHAP()(ask(wrap(net), strange, 1)).total, want, atol=2e-5)
