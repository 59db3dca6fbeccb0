"""`pellucid explain rows.csv --model FILE`: boosters, skops and pickles as their libraries write them, and files that are none."""

import contextlib
import json
import pickle

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import pellucid as pel
from pellucid import cli
from pellucid.core.explanation import Explanation

pytest.importorskip("numba")
pandas = pytest.importorskip("pandas")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

RNG = np.random.default_rng(0)
PEOPLE = pandas.DataFrame({"age": RNG.integers(20, 70, 120).astype(float), "city": RNG.choice(["Oslo", "Rome", "Lima"], 120), "job": RNG.choice(["cook", "clerk"], 120)})
PEOPLE.loc[::9, "age"], PEOPLE.loc[::11, "city"] = np.nan, None
RICH = ((PEOPLE["city"] == "Oslo") & (PEOPLE["age"].fillna(0) > 40) | (PEOPLE["job"] == "cook")).astype(int)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tables, models of every kind, and files that are broken in every way."""
    home = tmp_path_factory.mktemp("files")
    PEOPLE.to_csv(home / "people.csv", index=False)
    typed = PEOPLE.astype({"city": "category", "job": "category"})
    boosted = xgboost.XGBClassifier(n_estimators=5, max_depth=3, enable_categorical=True).fit(typed, RICH)
    for kind in ("ubj", "json"):
        boosted.save_model(home / f"people.{kind}")
    lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, min_data_per_group=3, min_child_samples=5).fit(typed, RICH).booster_.save_model(home / "people.txt")
    forest = make_pipeline(ColumnTransformer([("words", OneHotEncoder(), ["city", "job"])], remainder="passthrough"), RandomForestClassifier(5, random_state=0)).fit(PEOPLE, RICH)
    (home / "people.pkl").write_bytes(pickle.dumps(forest))
    newer = json.loads((home / "people.json").read_text()) | {"version": [99, 0, 0]}
    (home / "newer.json").write_text(json.dumps(newer))
    (home / "cut.ubj").write_bytes((home / "people.ubj").read_bytes()[:4000])
    text = (home / "people.txt").read_text()
    (home / "newer.txt").write_text(text.replace("version=v4", "version=v9"))
    (home / "cut.txt").write_text(text[: text.index("Tree=1") - 200])
    for kind in ("ubj", "json", "txt", "pkl"):
        (home / f"noise.{kind}").write_text("nothing")
    return home


def told(capsys, home, *argv):
    """(exit code, what was said)."""
    with contextlib.chdir(home):
        code = cli.main(["explain", "people.csv", "--row", "1", "--evidence", "none", "--out", str(home / f"out{abs(hash(argv))}"), *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("file", ["people.ubj", "people.json", "people.txt", "people.pkl"])
def test_models_of_files_are_explained_in_the_tables_own_columns(capsys, home, file):
    code, out, err = told(capsys, home, "--model", file, "--trust", "--json")
    assert code == 0, err
    found = json.loads(out)["explanation"]
    assert found["method"] == "tree-shap"
    assert any("job = " in n for n in found["players"]["names"][0])
    model = pel.load(str(home / file), trust=True)
    e = pel.explain(model, PEOPLE.iloc[:30], target=1 if model.labels else None, evidence="none")
    answers = np.asarray(model.function(PEOPLE.iloc[:30]), float)
    answers = answers[:, 1] if answers.ndim > 1 and answers.shape[1] > 1 else answers.ravel()
    own = 1 / (1 + np.exp(-e.total.numpy())) if file.endswith(("ubj", "json")) else e.total.numpy()
    np.testing.assert_allclose(own, answers, atol=1e-6)


@pytest.mark.parametrize(("file", "words"), [
    ("gone.ubj", "There is no model file"), ("noise.ubj", "no model of XGBoost's"), ("noise.json", "no model of XGBoost's"), ("cut.ubj", "no model of XGBoost's"),
    ("newer.json", "written by XGBoost 99.0.0"), ("noise.txt", "no model of LightGBM's"), ("newer.txt", "text format v9"), ("cut.txt", "breaks off or is damaged"),
    ("people.pkl", "can run any code"),
])  # fmt: skip
def test_files_that_are_no_models_are_told_in_one_sentence(capsys, home, file, words):
    code, _, err = told(capsys, home, "--model", file)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0


def test_a_broken_pickle_and_a_table_without_the_models_columns(capsys, home):
    code, _, err = told(capsys, home, "--model", "noise.pkl", "--trust")
    assert code == 2
    assert "cannot be read" in err
    (home / "others.csv").write_text("a,b\n1,2\n3,4\n")
    with contextlib.chdir(home):
        code = cli.main(["explain", "others.csv", "--row", "1", "--model", "people.ubj"])
    err = capsys.readouterr().err
    assert code == 2
    assert "'age'" in err


def test_what_was_trusted_is_said(home):
    e = pel.explain(pel.load(str(home / "people.pkl"), trust=True), PEOPLE.iloc[:2], evidence="none")
    assert isinstance(e, Explanation)
    assert any("allowed to run code" in n for n in e.provenance["notes"])
