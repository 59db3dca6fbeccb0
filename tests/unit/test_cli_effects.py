"""`pellucid effects`: what it writes and prints, and what it says of bad input."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pellucid.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = ["import numpy as np", "def score(d):", "    return (d['age'] * 2.0 + (d['job'] == 'cook')).to_numpy()[:, None]", "def three(x):", "    return x[:, :3]"]
    (tmp_path / "ours.py").write_text("\n".join(lines))
    pd.DataFrame({"age": range(30), "job": ["cook", "nurse", "smith"] * 10, "sex": ["f", "m"] * 15}).to_csv("rows.csv", index=False)
    pd.DataFrame({"a": [1.0, 2, 5, 1], "b": [0.5, 1, 2, 4], "c": [3, 1, 4, 1.5]}).to_csv("numbers.csv", index=False)
    return tmp_path


def test_a_picture_a_page_and_the_numbers_are_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effects", "rows.csv", "--model", "ours:score", "--takes", "frame", "--columns", "age,job", "age:job", "--drop", "sex", "--by", "sex", "--set", "bins=4", "--out", "o"]) == 0
    told = capsys.readouterr().out
    assert "age, sex f" in told
    assert "at 29" in told
    assert {p.name for p in (place / "o").iterdir()} >= {"effects.png", "report.html", "effects.json"}
    kept = json.loads((place / "o" / "effects.json").read_text())
    assert {r["column"] for r in kept["rows"]} == {"age", "job", "age:job"}
    assert kept["parameters"]["bins"] == 4
    page = (place / "o" / "report.html").read_text()
    assert "pellucid effects rows.csv --model ours:score" in page
    assert "pel.effect(model, table, columns=[&#39;age&#39;, &#39;job&#39;, &#39;age:job&#39;]" in page


def test_json_stands_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effects", "numbers.csv", "--model", "ours:three", "--takes", "array", "--target", "1", "--method", "partial-dependence", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["numbers"] == str(Path("out") / "effects.json")
    assert {r["column"] for r in told["rows"]} == {"a", "b", "c"}


@pytest.mark.parametrize(("words", "sentence"), [
    (["--columns", "aeg"], "Did you mean 'age'"),
    (["--by", "sx"], "Did you mean 'sex'"),
    (["--method", "partial-dependance"], "Did you mean 'partial-dependence'"),
    (["--set", "bns=3"], "Did you mean 'bins'"),
    (["--kind", "age"], "column=kind"),
    (["--colums", "age"], "Did you mean '--columns'"),
])  # fmt: skip
def test_bad_input_is_one_sentence(words: list[str], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effects", "rows.csv", "--model", "ours:score", *words]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert "Traceback" not in told.err
    assert not told.out
