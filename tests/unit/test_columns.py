"""Cells become numbers and turn back into the very same cells; what was learnt is stamped; what was found is tried again."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import pellucid as pel
from pellucid.backends.tabular import ask_table
from pellucid.core.card import Card, param
from pellucid.core.errors import CannotComplete, UnknownName, UsageError
from pellucid.core.estimator import Estimator, Fitted
from pellucid.core.question import Question
from pellucid.core.search import Found, Search
from pellucid.modalities.columns import Column, coded, columns_of, framed, read

EVERYTHING = pd.DataFrame({
    "age": [20, 30, 41, 55], "wage": [1.5, np.nan, 3, 4], "sex": ["f", "m", None, "f"], "class": pd.Categorical(["a", "b", "a", "c"], ["c", "a", "b"], ordered=True),
    "flag": [True, False, True, True], "day": pd.to_datetime(["2020-01-01", "2021-01-01 10:00:00.123456", None, "2022-05-05"], format="mixed"), "whole": pd.array([1, None, 3, 4], dtype="Int64"),
    "maybe": pd.array([True, None, False, True], dtype="boolean"), "zoned": pd.to_datetime(["2020-07-01", "2020-01-01"] * 2).tz_localize("Europe/Berlin"),
    "text": pd.array(["x", "y", None, "x"], dtype="string"), "small": np.array([1, 2, 3, 4], np.int8), "single": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
})  # fmt: skip


def test_cells_come_back_as_they_were() -> None:
    columns, codes = read(EVERYTHING)
    pd.testing.assert_frame_equal(framed(columns, codes, EVERYTHING.iloc[:0]), EVERYTHING)
    assert codes.dtype == np.float64
    assert [c.kind for c in columns] == ["whole", "number", "category", "category", "flag", "date", "whole", "flag", "date", "category", "whole", "number"]


def test_another_table_is_read_by_the_same_codes() -> None:
    columns, codes = read(EVERYTHING)
    order = [2, 0, 3]
    np.testing.assert_array_equal(coded(columns, EVERYTHING.iloc[order, ::-1]), codes[order])
    with pytest.raises(UnknownName, match="column 'sex'"):
        coded(columns, EVERYTHING.iloc[:1].assign(sex="x"))
    with pytest.raises(UnknownName, match="column"):
        coded(columns, EVERYTHING.drop(columns="age"))


def test_words_and_codes() -> None:
    columns = {c.name: c for c in read(EVERYTHING)[0]}
    assert [columns["class"].word(k) for k in (0, 1, float("nan"))] == ["c", "a", "missing"]
    assert columns["class"].code("b") == 2
    assert columns["day"].word(columns["day"].code(pd.Timestamp("2021-03-04"))) == "2021-03-04"
    assert columns["zoned"].code(pd.Timestamp("2020-07-01", tz="Europe/Berlin")) == pd.Timestamp("2020-06-30 22:00").timestamp()
    assert columns["age"].word(20.0) == "20"
    assert columns["age"].fitted(20.4) == 20
    with pytest.raises(UsageError, match="wholes; got 'old'"):
        columns["age"].code("old")
    with pytest.raises(UsageError, match="one of the kinds"):
        Column("a", "colour")


def test_the_model_sees_the_table_itself() -> None:
    seen = []

    def ask(frame: pd.DataFrame) -> np.ndarray:
        seen.append(frame)
        return frame["age"].to_numpy(float)[:, None]

    q = ask_table(pel.wrap(ask, takes="frame"), EVERYTHING, 0)
    torch.testing.assert_close(q.value(q.x), torch.tensor([20.0, 30, 41, 55], dtype=torch.float64))
    pd.testing.assert_frame_equal(pd.concat(seen).drop_duplicates("age").sort_values("age").reset_index(drop=True), EVERYTHING, check_dtype=False, check_index_type=False)
    assert columns_of(q)[2].values == ("f", "m")


def test_rows_of_numbers_are_their_own_codes() -> None:
    net = torch.nn.Linear(3, 2).eval()
    x = torch.tensor([[0.0, 1.5, 3], [1, 2, 5]])
    q = ask_table(pel.wrap(net, columns=["a", "b", "c"]), x, 1, kinds={"c": "category"})
    assert [(c.name, c.kind) for c in columns_of(q)] == [("a", "flag"), ("b", "number"), ("c", "category")]
    torch.testing.assert_close(q.value(q.x), net(x)[:, 1].detach())
    with pytest.raises(UsageError, match="rows of numbers"):
        ask_table(pel.wrap(torch.nn.Conv2d(3, 2, 1).eval()), torch.rand(1, 3, 4, 4), 0)


@dataclass(frozen=True, kw_only=True)
class Mean(Estimator):
    card = Card(title="Mean", paper="")
    times: int = param(1, "how often", ge=1)

    def fit(self, q: Question) -> "Averaged":
        return Averaged(mean=float(q.target_values().mean()) * self.times, notes=("a note",))


@dataclass(frozen=True, kw_only=True, eq=False)
class Averaged(Fitted):
    mean: float = 0.0

    def table(self) -> list[dict[str, float]]:
        return [{"mean": self.mean}]


def test_what_was_learnt_says_how_it_came_about(tmp_path) -> None:
    found = pel.learn(lambda x: x * 2.0, np.array([[1.0, 0], [3, 0]]), method=Mean(times=2), target=0)
    assert (found.mean, found.estimator, found.parameters) == (8.0, "test-columns", {"times": 2})
    assert found.cost.forward_rows == 2
    assert "a note" in found.provenance["notes"]
    assert '"mean": 8.0' in found.save(tmp_path / "x.json").read_text()
    with pytest.raises(UsageError, match="there is no"):
        found.save(tmp_path / "none" / "x.json")


@dataclass(frozen=True, kw_only=True)
class Liar(Search):
    card = Card(title="Liar", paper="")

    def find(self, q: Question, within, goal) -> Found:
        z = q.x[None] + 1
        return Found(points=z, success=torch.ones(1, q.size, dtype=torch.bool), shortfall=torch.zeros(1, q.size), distance=torch.ones(1, q.size))


class Anything:
    def excess(self, z: Tensor, q: Question) -> Tensor:
        return torch.zeros(z.shape[:2])


class Above:
    def __init__(self, level: float) -> None:
        self.level = level

    def shortfall(self, outputs: Tensor, value: Tensor, q: Question) -> Tensor:
        return self.level - value


def test_a_success_that_is_none_is_never_given() -> None:
    q = ask_table(pel.wrap(lambda x: x), np.array([[1.0], [3.0]]), 0)
    assert Liar()(q, Anything(), Above(2.0)).success.all()
    with pytest.raises(CannotComplete, match="2 points as found that miss"):
        Liar()(q, Anything(), Above(5.0))
