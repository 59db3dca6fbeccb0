"""Models that are read as they are: their coefficients, nodes and neighbours are scikit-learn's own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import pellucid as pel
from pellucid.core.errors import NotApplicable, UsageError

IRIS = load_iris(as_frame=True)
X, Y = IRIS.data, IRIS.target


def test_linear_models_are_their_coefficients() -> None:
    own = LogisticRegression(max_iter=500).fit(X, Y)
    found = pel.learn(own, X, method="interpretable-model")
    np.testing.assert_allclose(np.reshape([t.slope for t in found.terms], (3, 4)), own.coef_)
    np.testing.assert_allclose(np.reshape([t.effect for t in found.terms], (3, 4)), own.coef_ * X.std(ddof=0).to_numpy())
    np.testing.assert_allclose([v for _, v in found.intercept], own.decision_function(X.mean().to_frame().T)[0])
    assert found.fidelity is None
    assert "the model itself" in found._repr_html_()
    x, y = load_diabetes(return_X_y=True)
    line = LinearRegression().fit(x, y)
    assert [t.slope for t in pel.learn(line, x, method="interpretable-model").terms] == pytest.approx(line.coef_)


def test_trees_are_their_nodes(tmp_path) -> None:
    own = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, Y)
    found = pel.learn(own, X, method="interpretable-model")
    assert len(found.nodes) == own.tree_.node_count
    assert found.nodes[0].question.startswith(X.columns[own.tree_.feature[0]])
    some = pel.learn(own, X.iloc[:30], method="interpretable-model")  # one class alone: other leaves hold no rows
    value = own.tree_.value[:, 0] / own.tree_.value[:, 0].sum(1, keepdims=True)
    np.testing.assert_allclose(sorted(n.answer for n in some.nodes), sorted(map(tuple, value)))
    assert some.save(tmp_path / "t.png").is_file()
    x, y = load_diabetes(return_X_y=True)
    tree = DecisionTreeRegressor(max_depth=2).fit(x, y)
    assert sorted(n.answer[0] for n in pel.learn(tree, x, method="interpretable-model").nodes) == pytest.approx(sorted(tree.tree_.value[:, 0, 0]))


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_neighbours_are_the_models_own(weights: str, tmp_path) -> None:
    own = KNeighborsClassifier(4, weights=weights).fit(X.iloc[5:], Y.iloc[5:])
    found = pel.learn(own, X, method="interpretable-model", rows=(0, 100))
    d, j = own.kneighbors(X.iloc[[0, 100]])
    np.testing.assert_allclose([n.distance for n in found.neighbours], d.ravel())
    assert [n.row for n in found.neighbours] == j.ravel().tolist()
    for row, name in ((0, "0"), (100, "100")):
        votes = [sum(n.share for n in found.neighbours if n.of == name and n.label == str(c)) for c in range(3)]
        np.testing.assert_allclose(votes, own.predict_proba(X.iloc[[row]])[0])
    assert found.save(tmp_path / "x.png").is_file()
    assert "Nearest" in found._repr_html_()
    number = KNeighborsRegressor(3).fit(X, X.iloc[:, 0])
    assert len(pel.learn(number, X, method="interpretable-model", rows=2).neighbours) == 3
    with pytest.raises(UsageError, match="rows from 0 to 149"):
        pel.learn(own, X, method="interpretable-model", rows=150)


def test_behind_a_pipeline_the_names_are_those_of_its_steps() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(18, 80, 200), "job": rng.choice(["clerk", "nurse"], 200)})
    y = (frame["age"] > 40) ^ (frame["job"] == "nurse")
    steps = make_column_transformer((OneHotEncoder(), ["job"]), (StandardScaler(), ["age"]))
    own = make_pipeline(steps, LogisticRegression()).fit(frame, y)
    found = pel.learn(own, frame, method="interpretable-model")
    assert {t.name: t.slope for t in found.terms} == pytest.approx(dict(zip(["job_clerk", "job_nurse", "age"], own[-1].coef_[0], strict=True)))


def test_others_are_refused() -> None:
    with pytest.raises(NotApplicable, match="RandomForestClassifier is none of them"):
        pel.learn(RandomForestClassifier(3).fit(X, Y), X, method="interpretable-model")
    with pytest.raises(NotApplicable, match="not that sum"):
        pel.learn(PoissonRegressor().fit(X, Y + 1), X, method="interpretable-model")
    with pytest.raises(NotApplicable, match="is another thing"):
        pel.learn(lambda x: x, X.to_numpy(), method="interpretable-model", target=0)
