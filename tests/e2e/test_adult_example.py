"""The example on Adult runs on a file of that form: strings, gaps, groups."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
pandas = pytest.importorskip("pandas")

EXAMPLE = Path(__file__).parents[2] / "examples" / "adult.py"


def test_every_row_is_explained_and_told_by_groups(tmp_path, monkeypatch, capsys):
    rng, n = np.random.default_rng(0), 150
    columns = {
        "age": rng.integers(18, 80, n), "workclass": rng.choice(["Private", "?"], n), "weight": rng.integers(1e4, 1e5, n), "education": rng.choice(["HS-grad", "Masters"], n),
        "education-years": rng.integers(5, 16, n), "marital-status": rng.choice(["Married", "Never"], n), "occupation": rng.choice(["Sales", "Tech", "?"], n),
        "relationship": rng.choice(["Wife", "Husband"], n), "race": rng.choice(["White", "Black"], n), "sex": rng.choice(["Male", "Female"], n), "capital-gain": rng.integers(0, 2, n) * 5000,
        "capital-loss": np.zeros(n, int), "hours-per-week": rng.integers(20, 60, n), "native-country": rng.choice(["United-States", "?"], n),
    }  # fmt: skip
    frame = pandas.DataFrame(columns).assign(income=np.where((columns["age"] > 45) & (columns["sex"] == "Male"), ">50K", "<=50K"))
    frame.to_csv(tmp_path / "adult.data", index=False, header=False)
    spec = importlib.util.spec_from_file_location("adult_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr("sys.argv", ["adult.py", str(tmp_path / "adult.data"), "--out", str(tmp_path / "out")])
    monkeypatch.setattr(example, "models", lambda models=example.models: {k: v.set_params(**({"xgbclassifier__n_estimators": 5} if k == "XGBoost" else {})) for k, v in models().items()})
    example.main()
    told = capsys.readouterr().out
    assert "150 rows explained" in told
    assert "Female" in told
    assert "apart from the others by" in told
    assert (tmp_path / "out" / "histgradientboosting.png").stat().st_size > 10_000
