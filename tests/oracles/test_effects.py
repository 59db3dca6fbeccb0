"""Effects of columns against closed forms, loops that are obviously right, and scikit-learn."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.inspection import partial_dependence  # 1.9.1

import pellucid as pel
from pellucid.core.errors import CannotComplete, UnknownName, UsageError
from pellucid.modalities.association import strong_ties, ties
from pellucid.modalities.columns import Column

CHANCE = np.random.default_rng(5)


@dataclass
class Asked:
    """A function on arrays that counts the rows it is asked about."""

    function: object
    rows: int = field(default=0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.rows += len(x)
        return np.asarray(self.function(x), float)[:, None]


def model(function: object, columns: tuple[str, ...] = ("a", "b", "c")) -> pel.Model:
    return pel.wrap(Asked(function), takes="array", columns=columns)


def table(n: int = 60, p: int = 3) -> np.ndarray:
    return CHANCE.normal(size=(n, p))


# -- partial dependence --------------------------------------------------------------------------------------------------


def test_partial_dependence_of_a_sum_is_its_own_part() -> None:
    x = table()
    f = pel.learn(model(lambda x: np.sin(x[:, 0]) + x[:, 1] ** 2 - x[:, 2]), x, method="partial-dependence", columns=["a"])
    c = f.curve("a")
    np.testing.assert_allclose(c.value, np.sin(c.at) + (x[:, 1] ** 2 - x[:, 2]).mean(), atol=1e-12)
    np.testing.assert_allclose(c.error, (x[:, 1] ** 2 - x[:, 2]).std(ddof=1) / np.sqrt(60), atol=1e-12)
    moved = c.centred()
    np.testing.assert_allclose(moved.value, np.sin(c.at) - np.sin(c.at[0]), atol=1e-12)
    assert moved.error.max() < 1e-12  # every row moves alike
    assert c.error.min() > 0.1
    assert (len(c.at), c.count.sum(), c.rows) == (20, 60, 60)
    assert set(c.at) <= set(x[:, 0])


def test_partial_dependence_agrees_with_scikit_learn() -> None:
    x, y = load_diabetes(return_X_y=True, as_frame=True)
    x = x.round(2)
    net = HistGradientBoostingRegressor(max_iter=20).fit(x, y)
    f = pel.learn(net, x, method="partial-dependence", columns=["bmi", "sex", "sex:s5"], grid=100)
    for name in ("bmi", "sex"):
        peer = partial_dependence(net, x, [name], method="brute", percentiles=(0, 1), kind="both")
        np.testing.assert_allclose(f.curve(name).value, peer["average"][0], rtol=1e-12)
        np.testing.assert_allclose(f.curve(name).single, peer["individual"][0], rtol=1e-12)
        assert np.ptp(f.curve(name).value) > 1
    peer = partial_dependence(net, x, ["sex", "s5"], method="brute", percentiles=(0, 1))
    np.testing.assert_allclose(f.surfaces[0].value, peer["average"][0], rtol=1e-12)
    assert f.surfaces[0].count.sum() == len(x)
    assert (f.surfaces[0].count == 0).any()


def test_partial_dependence_by_groups_is_that_of_their_rows() -> None:
    x = table()
    x[:, 2] = CHANCE.integers(0, 3, 60)
    net = model(lambda x: x[:, 0] * x[:, 1] + x[:, 2])
    f = pel.learn(net, x, method="partial-dependence", columns=["a"], by="c")
    assert [c.cohort for c in f.curves] == ["c 0", "c 1", "c 2"]
    for k, c in enumerate(f.curves):
        mine = x[x[:, 2] == k]
        np.testing.assert_allclose(c.value, c.at * mine[:, 1].mean() + k, atol=1e-12)
        assert (c.rows, c.count.sum()) == (len(mine), len(mine))
    same = pel.learn(net, x, method="partial-dependence", columns=["a"], by=[f"c {int(k)}" for k in x[:, 2]])
    np.testing.assert_array_equal([c.value for c in same.curves], [c.value for c in f.curves])
    quarters = pel.learn(net, x, method="partial-dependence", columns=["a"], by="b")
    assert [c.rows for c in quarters.curves] == [15, 15, 15, 15]


def test_partial_dependence_costs_what_its_card_says() -> None:
    asked = Asked(lambda x: x[:, 0] * x[:, 1])
    f = pel.learn(pel.wrap(asked, takes="array", columns=("a", "b", "c")), table(50), method="partial-dependence", columns=["a", "b"], grid=7)
    assert asked.rows == f.cost.forward_rows
    assert 2 * 7 * 50 <= f.cost.forward_rows + 2 * 50 <= 2 * 7 * 50 + 4 * 50  # cells that stay as they are are remembered; the rows themselves are asked once


WORDS = pd.DataFrame({
    "job": ["nurse", "cook", None, "cook", "nurse", "smith"] * 5, "day": pd.to_datetime(["2020-01-01", "2021-06-01", "2020-01-01", None, "2022-01-01", "2021-06-01"] * 5),
    "wage": np.arange(30.0), "fixed": 3.0, "empty": np.nan,
})  # fmt: skip


def wages(frame: pd.DataFrame) -> np.ndarray:
    pay = frame["job"].map({"nurse": 1.0, "cook": 2.0, "smith": 5.0}).astype(float).fillna(-1.0).to_numpy()
    return (pay + frame["wage"].to_numpy(float) / 10 + frame["day"].dt.year.fillna(2000).to_numpy(float))[:, None]


def test_words_dates_and_gaps_are_points_of_their_own() -> None:
    f = pel.learn(pel.wrap(wages, takes="frame"), WORDS, method="partial-dependence", columns=["job", "day"])
    job, day = f.curves
    assert job.words == ("cook", "nurse", "smith", "missing")
    np.testing.assert_allclose(job.value - job.value[0], [0, -1, 3, -3], atol=1e-9)
    assert job.count.tolist() == [10, 10, 5, 5]
    assert day.words == ("2020-01-01", "2021-06-01", "2022-01-01", "missing")
    np.testing.assert_allclose(day.value - day.value[0], [0, 1, 2, -20], atol=1e-9)
    assert [r["rows"] for r in f.table() if r["column"] == "day"] == [10, 10, 5, 5]


def test_a_table_that_shows_nothing_is_refused_in_a_sentence() -> None:
    net = pel.wrap(wages, takes="frame")

    def refused(sentence: str, data: pd.DataFrame = WORDS, **asked: object) -> None:
        with pytest.raises((UsageError, CannotComplete), match=sentence):
            pel.learn(net, data, method="partial-dependence", **asked)

    refused("no column 'jab'. Did you mean 'job'", columns=["jab"])
    refused("'fixed' has no effect to show: it holds 3 in every row", columns=["fixed"])
    refused("'empty' has no effect to show: every one of its 30 cells is missing", columns=["empty"])
    refused("at least 2 rows; the table has 1", data=WORDS.iloc[:1])
    refused("two different ones", columns=[("job", "job")])
    refused("an empty list", columns=[])
    refused("label for each of 30 rows; got 2", columns=["job"], by=["x", "y"])
    refused("no group of at least 2 rows", columns=["job"], by=[str(i) for i in range(30)])
    with pytest.raises(UsageError, match=r"here each row has its own\. Name one: target=0"):
        pel.learn(lambda x: x, table(), method="partial-dependence", target=None)
    with pytest.raises(CannotComplete, match="needs finite outputs; Asked gave nan"):
        pel.learn(model(lambda x: np.where(x[:, 0] * x[:, 1] == 1, np.nan, 1.0)), np.eye(60, 3), method="partial-dependence", columns=["a"])
    with pytest.raises(UnknownName, match="group of rows 'x'"):
        pel.learn(net, WORDS, method="partial-dependence", columns=["job"]).curve("job", "x")


def test_the_strongest_columns_are_chosen_where_none_is_named() -> None:
    x = table(200, 9)
    f = pel.learn(model(lambda x: x @ np.arange(9.0), tuple("abcdefghi")), x, method="partial-dependence", rows=20)
    assert [c.column.name for c in f.curves] == list("ihgfed")
    assert f.notes[0] == "columns: the 6 of 9 whose shuffled cells move the answer most (over 200 rows)"


# -- columns that go together --------------------------------------------------------------------------------------------


def test_columns_that_go_together_are_named() -> None:
    a = CHANCE.normal(size=500)
    word = (a > 0).astype(float)
    cells = np.stack([a, -(a**3), word, 1 - word, CHANCE.normal(size=500), CHANCE.integers(0, 5, 500)], 1)
    kinds = ["number", "number", "category", "category", "number", "category"]
    columns = [Column(f"c{i}", k, ("x", "y", "z", "u", "v") if k == "category" else ()) for i, k in enumerate(kinds)]
    found = {t.other: t for t in ties(cells, columns, 0)}
    assert (round(found["c1"].strength, 12), found["c1"].measure) == (1.0, "|r|")
    assert (found["c2"].measure, 0.85 < found["c2"].strength < 0.88) == ("eta", True)  # ranks in two halves: the root of 3/4
    assert found["c4"].strength < 0.15
    assert found["c5"].strength < 0.15
    assert {t.other: (round(t.strength, 2), t.measure) for t in ties(cells, columns, 2)}["c3"] == (1.0, "V")
    assert [str(t) for t in strong_ties(cells, columns, [0, 1, 4, 5])] == ["c0 goes with c1 (|r| 1.00)"]


def test_the_notes_name_columns_that_go_together() -> None:
    x = table()
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    f = pel.learn(model(lambda x: x[:, 0]), torch.tensor(x), method="partial-dependence", columns=["a"])
    assert "a goes with b (|r| 0.99)" in f.notes[0]
