"""Black boxes: any callable and any estimator, whatever it takes and however it answers."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

import pellucid as pel
from pellucid.attribution import Occlusion
from pellucid.backends import wrap
from pellucid.core.errors import CannotComplete, ModelError, NotApplicable, UsageError
from pellucid.core.question import Samples, ask

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5))
W = RNG.normal(size=(5, 3))
WANT = X @ W


def answers(f, x=X, target=1, **settings):
    """What a question about the wrapped function reads."""
    return ask(wrap(f, **settings), x, target).target_values()


class Tired(Exception):
    """An error of a library's own."""


def tired():
    raise Tired("I have had enough")


@pytest.mark.parametrize(
    "out",
    [
        lambda y: y,
        lambda y: y.tolist(),
        lambda y: list(y),
        lambda y: torch.from_numpy(y),
        lambda y: list(torch.from_numpy(y)),
        lambda y: [dict(zip("abc", row, strict=True)) for row in y],
        lambda y: [dict(reversed(list(zip("abc", row, strict=True)))) if i else dict(zip("abc", row, strict=True)) for i, row in enumerate(y)],
        lambda y: {k: y[:, i] for i, k in enumerate("abc")},
        lambda y: {k: y[:, i].tolist() for i, k in enumerate("abc")},
        lambda y: {k: torch.from_numpy(y[:, i]) for i, k in enumerate("abc")},
        lambda y: [sorted(({"label": k, "score": v} for k, v in zip("abc", row, strict=True)), key=lambda s: s["score"]) for row in y],
        lambda y: {"logits": torch.from_numpy(y), "loss": torch.zeros(1)},
        lambda y: (y, np.array([["w"]] * len(y)) == "w") and (y,),
        lambda y: np.asfortranarray(y.astype(">f8"))[::1],
    ],
    ids=["array", "lists", "arrays", "tensor", "tensors", "labelled", "labels in any order", "by label", "lists by label", "tensors by label", "scored", "logits", "tuple", "byte order"],
)
@pytest.mark.parametrize("rows", [1, 4])
def test_answers_of_every_kind(out, rows):
    model = wrap(lambda x: out(x @ W))
    got = ask(model, X[:rows], 1).target_values()
    if model.labels:
        assert model.labels == ["a", "b", "c"]
        got = ask(model, X[:rows], "b").target_values()
    np.testing.assert_allclose(got, WANT[:rows, 1], rtol=1e-12)
    assert abs(WANT[:, 1]).min() > 0.01


def test_labels_come_from_answers_and_yours_come_first():
    f = lambda x: {k: (x @ W)[:, i] for i, k in enumerate(("cat", "dog", "cup"))}  # noqa: E731
    np.testing.assert_allclose(answers(f, target="dog"), WANT[:, 1])
    turned = ("cup", "dog", "cat")
    model = wrap(f, labels=turned)
    np.testing.assert_allclose(ask(model, X, 0).target_values(), WANT[:, 2])
    with pytest.raises(ModelError, match="its labels, cup, dog, newt"):
        answers(f, labels=("cup", "dog", "newt"))


def test_a_function_is_given_what_you_give():
    seen = []

    def f(x):
        seen.append(type(x))
        return x[:, :2]

    answers(f, X)
    answers(f, torch.from_numpy(X))
    answers(f, X.tolist())
    answers(f, X, takes="tensor")
    answers(f, torch.from_numpy(X), takes="array")
    assert seen == [np.ndarray, torch.Tensor, np.ndarray, torch.Tensor, np.ndarray]


def test_whole_numbers_are_mixed_with_what_is_absent():
    e = Occlusion()(ask(wrap(lambda x: x @ W, takes="array"), np.arange(20).reshape(4, 5), 1, baseline=0.5))
    np.testing.assert_allclose(e.values, (np.arange(20).reshape(4, 5) - 0.5) * W[:, 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("f", "sentence"),
    [
        (lambda x: (x @ W)[:-1], r"one row of numbers for each of 4 rows; it gave shape \(3, 3\)"),
        (lambda x: (x @ W)[0], "one row of numbers for each of 4 rows"),
        (lambda x: float((x @ W).sum()), "one row of numbers for each of 4 rows"),
        (lambda x: [[1.0], [2.0, 3.0], [1.0], [1.0]], "lists of different lengths"),
        (lambda x: ["cat"] * len(x), r"it gave words \('cat'\)"),
        (lambda x: "cat", "it gave a str"),
        (lambda x: None, r"it gave nothing \(None\)"),
        (lambda x: torch.nn.Linear(1, 1), "it gave a Linear. A function that makes the model takes no arguments"),
        (lambda x: [{"a": 1.0}, {"b": 2.0}, {"a": 1.0}, {"a": 1.0}], "row 1 adds 'b'|row 1 lacks 'a'"),
        (lambda x: {"a": np.ones(4), "b": np.ones((4, 2))}, "one number a row under every label"),
        (lambda x: (x @ W, x), "gave a tuple with 2"),
        (lambda x: np.array([object()] * 4), "needs to give numbers"),
        (lambda x: 1 / 0, "raised ZeroDivisionError"),
        (lambda x: Path("no such file").read_text(), "raised FileNotFoundError"),
        (lambda x: tired(), "raised Tired on inputs of shape .*: I have had enough"),
        (lambda x: [{"label": "cat", "score": 0.9}] * 4, "likeliest label alone"),
    ],
)
def test_answers_that_cannot_be_read_get_one_sentence(f, sentence):
    with pytest.raises(ModelError, match=sentence) as told:
        answers(f)
    assert "\n" not in str(told.value)


def test_a_changing_number_of_outputs():
    sizes = iter([3, 3, 2, 2, 2, 2])
    model = wrap(lambda x: (x @ W)[:, : next(sizes)])
    with pytest.raises(ModelError, match="it gave 3 numbers a row at first and 2 numbers a row now"):
        Occlusion()(ask(model, X, 1, batch_size=2))


def test_nan_is_named_with_its_row():
    with pytest.raises(CannotComplete, match=r"gave nan for row 2"):
        answers(lambda x: np.where(np.arange(len(x))[:, None] == 2, np.nan, x @ W))


def test_pictures_of_other_sizes_may_have_other_outputs():
    model = wrap(lambda x: x.sum(3), takes="images")
    for side in (4, 6):
        ask(model, [np.zeros((side, side, 3), np.uint8)], (1, 1)).target_values()


# ---------------------------------------------------------------- pictures


def test_bytes_go_to_a_function_on_images_as_they_are():
    pictures = RNG.integers(0, 256, (3, 6, 7, 3), dtype=np.uint8)
    seen = []

    def f(x):
        seen.append(x.copy())
        return np.stack([x[:, 2, 3, 0], x[:, 0, 0, 1]], 1) / 255

    for given in (pictures, list(pictures), [torch.from_numpy(p).numpy() for p in pictures]):
        e = Occlusion(window=1)(ask(wrap(f), given, 0, baseline=0.0))
        assert seen[0].dtype == np.uint8
        assert (seen[0] == pictures[: len(seen[0])]).all()
        np.testing.assert_allclose(e.heat()[:, 2, 3], pictures[:, 2, 3, 0] / 255 * e.values.shape[1], atol=1e-6)
        assert e.values[:, :, 0].abs().max() == 0
        assert (e.picture.numpy() == pictures).all()
        seen.clear()


def test_pictures_in_one_question_need_one_size():
    with pytest.raises(UsageError, match="one size"):
        ask(wrap(lambda x: x.mean((1, 2)), takes="images"), [np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)])


def test_preprocessing_that_comes_with_a_function_says_what_it_takes():
    from pellucid.modalities.image import ImagePreprocess

    seen = []
    f = lambda x: seen.append(x.shape) or x.mean((2, 3)) if isinstance(x, torch.Tensor) else seen.append(x.shape) or x.mean((1, 2))  # noqa: E731
    ask(wrap(f, preprocess=ImagePreprocess(8, 0.5, 0.5)), np.zeros((20, 30, 3), np.uint8)).target_values()
    ask(wrap(f, preprocess=ImagePreprocess(8, 0.5, 0.5), takes="images"), np.zeros((20, 30, 3), np.uint8)).target_values()
    assert seen == [(1, 3, 8, 8), (1, 8, 8, 3)]


# ---------------------------------------------------------------- estimators


def test_the_verb_of_an_estimator_is_found():
    wine = load_wine()
    forest = RandomForestClassifier(5, random_state=0).fit(wine.data, wine.target_names[wine.target])
    model = wrap(forest)
    assert (model.name, model.labels) == ("RandomForestClassifier", ["class_0", "class_1", "class_2"])
    rows = wine.data[[0, 70, 140]]
    q = ask(model, rows, "class_1")
    np.testing.assert_allclose(q.target_values(), forest.predict_proba(rows)[:, 1])
    e = Occlusion()(ask(model, rows, None, baseline=Samples(wine.data[:7])))
    assert [p[0] for p in e.predictions] == [(c, pytest.approx(p.max())) for c, p in zip(forest.predict(rows), forest.predict_proba(rows), strict=True)]


def test_margins_and_plain_predictions(monkeypatch):
    wine = load_wine()
    two = wine.target < 2
    names = wine.target_names[wine.target]
    svc = make_pipeline(StandardScaler(), LinearSVC(random_state=0)).fit(wine.data[two], names[two])
    q = ask(wrap(svc), wine.data[:3], "class_1")
    np.testing.assert_allclose(q.target_values(), svc.decision_function(wine.data[:3]))
    e = Occlusion()(ask(wrap(svc), wine.data[:3]))
    assert e.target == ("class_0 (0)",) * 3
    assert e.predictions == ()
    assert any("margins" in n for n in e.provenance["notes"])
    regression = LinearRegression().fit(*load_diabetes(return_X_y=True))
    x = load_diabetes().data[:3]
    e = Occlusion()(ask(wrap(regression), x))
    np.testing.assert_allclose(e.values, x * regression.coef_, rtol=1e-9)

    plain = KNeighborsClassifier(3).fit(wine.data, names)
    monkeypatch.delattr(KNeighborsClassifier, "predict_proba")
    np.testing.assert_array_equal(ask(wrap(plain), wine.data[:20], "class_2").target_values(), plain.predict(wine.data[:20]) == "class_2")


def test_estimators_that_cannot_be_asked():
    with pytest.raises(ModelError, match="not fitted"):
        ask(wrap(LogisticRegression()), X).target_values()
    many = RandomForestClassifier(2).fit(X, (X[:, :2] > 0).astype(int))
    with pytest.raises(UsageError, match="answers 2 questions at once"):
        wrap(many)
    with pytest.raises(UsageError, match="hold words"):
        ask(wrap(LogisticRegression().fit(X, [0, 1, 0, 1])), [["a", "b", "c", "d", "e"]])
    with pytest.raises(ModelError, match="expecting 5 features"):
        ask(wrap(LogisticRegression().fit(X, [0, 1, 0, 1])), X[:, :3]).target_values()
    with pytest.raises(NotApplicable, match="needs a model that offers gradient"):
        pel.explain(LinearRegression().fit(X, X[:, 0]), X, method="saliency", evidence="none")


# ---------------------------------------------------------------- tables of any columns


pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def people():
    """A table with numbers, gaps, words and categories, and a pipeline that was fitted on it."""
    n = 60
    rng = np.random.default_rng(1)
    age = rng.integers(18, 80, n)
    table = pandas.DataFrame(
        {
            "age": age,
            "city": rng.choice(["Rome", "Oslo", "Lima"], n),
            "income": np.where(rng.random(n) < 0.1, np.nan, rng.normal(50, 10, n)),
            "member": rng.random(n) < 0.5,
            "size": pandas.Categorical(rng.choice(["S", "M", "L"], n), categories=["S", "M", "L"], ordered=True),
        }
    )
    y = np.where((age > 45) ^ (table.city == "Oslo"), "yes", "no")
    columns = ColumnTransformer([("words", OneHotEncoder(), ["city", "size"]), ("numbers", StandardScaler(), ["age", "member"])])
    return make_pipeline(columns, LogisticRegression()).fit(table, y), table


def test_rows_of_a_table_are_mixed_cell_by_cell(people):
    """Twin: every row of every mixture made by hand."""
    pipeline, table = people
    rows, background = table.iloc[[3, 10]], table.iloc[20:26]
    e = Occlusion()(ask(wrap(pipeline), rows, "yes", baseline=background))
    want = np.zeros((2, 5))
    whole = pipeline.predict_proba(rows)[:, 1]
    for i in range(2):
        for j in range(5):
            mixed = pandas.concat([rows.iloc[[i]]] * 6, ignore_index=True)
            mixed[table.columns[j]] = background.iloc[:, j].to_numpy()
            want[i, j] = whole[i] - pipeline.predict_proba(mixed.astype(table.dtypes))[:, 1].mean()
    np.testing.assert_allclose(e.values, want, rtol=1e-9, atol=1e-12)
    assert abs(want[:, 0]).min() > 1e-3
    assert e.values[:, 2].abs().max() == 0  # income is in no step
    assert e.cost.forward_rows == 2 * (1 + 6 * 5)
    assert any("no cell is invented" in n for n in e.provenance["notes"])


def test_cells_are_named_by_column_and_content(people):
    pipeline, table = people
    e = Occlusion()(ask(wrap(pipeline), table.iloc[[3]], baseline=table.iloc[:1]))
    assert e.names["column"][:2] == [f"age = {table.age[3]}", f"city = {table.city[3]}"]


def test_other_cells_are_other_inputs(people):
    """The record tells two rows apart, though both are asked about as rows of ones."""
    pipeline, table = people
    hashes = {Occlusion()(ask(wrap(pipeline), table.iloc[[i]], baseline=table.iloc[:1])).provenance["input_hash"] for i in (3, 4, 3)}
    assert len(hashes) == 2
    e = pel.explain(wrap(pipeline), table.iloc[[3]], baseline=table.iloc[:1], method="feature-ablation", evidence="none")
    assert any("replaced by the background row's cells" in n for n in e.provenance["notes"])


def test_types_of_columns_are_kept(people):
    _, table = people
    seen = []
    f = lambda d: seen.append((list(d.columns), list(d.dtypes))) or d.age.to_numpy(float)  # noqa: E731
    Occlusion()(ask(wrap(f), table.iloc[[1]], baseline=table))
    assert all(s == (list(table.columns), list(table.dtypes)) for s in seen)
    gap = table.iloc[[1]].assign(age=[np.nan])
    seen.clear()
    with pytest.raises(CannotComplete, match="nan"):
        ask(wrap(f), gap, baseline=table).target_values()


def test_extra_columns_are_left_out_and_their_order_is_the_models(people):
    pipeline, table = people
    rows, background = table.iloc[[3]], table.iloc[20:24]
    want = Occlusion()(ask(wrap(pipeline), rows, "yes", baseline=background))
    turned = rows[list(reversed(table.columns))].assign(answer="yes")
    got = Occlusion()(ask(wrap(pipeline), turned, "yes", baseline=background))
    assert torch.equal(got.values, want.values)


@pytest.mark.parametrize(
    ("rows", "background", "sentence"),
    [
        (lambda t: t.iloc[[1]], None, "needs rows that absent cells are taken from"),
        (lambda t: t.iloc[[1]], lambda t: t.iloc[:0], "needs at least one row"),
        (lambda t: t.iloc[[1]].drop(columns="age"), lambda t: t, "no column in the rows 'age'"),
        (lambda t: t.iloc[[1]], lambda t: t.rename(columns={"age": "ages"}), "Did you mean 'ages'"),
        (lambda t: t.iloc[[1]].assign(age="old"), lambda t: t, "Column 'age' needs cells of type int64"),
        (lambda t: t.iloc[[1]].assign(size="XXL"), lambda t: t, "'XXL' is none of them"),
        (lambda t: t.iloc[1], lambda t: t, "two pairs of brackets"),
        (lambda t: pandas.concat([t, t[["age"]]], axis=1).iloc[[1]], lambda t: t, "hold 'age' twice"),
    ],
)
def test_tables_that_do_not_fit_get_one_sentence(people, rows, background, sentence):
    pipeline, table = people
    with pytest.raises(UsageError, match=sentence):
        ask(wrap(pipeline, takes="frame"), rows(table), baseline=background and background(table))


def test_arrays_go_to_an_estimator_under_its_columns_names():
    wine = load_wine(as_frame=True)
    model = wrap(make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data, wine.target))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = Occlusion()(ask(model, wine.data.to_numpy()[:2], 1))
    assert e.names["column"] == list(wine.data.columns)


def test_a_vectorizer_is_seen_however_deep():
    from sklearn.pipeline import FeatureUnion

    union = FeatureUnion([("words", TfidfVectorizer()), ("letters", TfidfVectorizer(analyzer="char"))])
    for first in (TfidfVectorizer(), union, make_pipeline(union)):
        assert wrap(make_pipeline(first, LogisticRegression())).takes == "texts"
