"""Effects of columns against closed forms, loops that are obviously right, and scikit-learn."""

import itertools
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
    f = pel.learn(net, x, method="partial-dependence", columns=["bmi", "sex", "sex:s5"], grid=100, pair_grid=100)
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


# -- accumulated local effects -------------------------------------------------------------------------------------------


def accumulated(function: object, x: object, columns: object, **asked: object) -> object:
    return pel.learn(model(function) if isinstance(x, np.ndarray) else pel.wrap(function, takes="frame"), x, method="accumulated-local-effects", columns=columns, **asked)


def test_accumulated_effects_of_a_line_are_exact() -> None:
    x = table(200)
    x[:, 1] += 3 * x[:, 0]
    c = accumulated(lambda x: 2.5 * x[:, 0] + np.sin(x[:, 1]), x, ["a"]).curve("a")
    np.testing.assert_allclose(c.value, 2.5 * (c.at - x[:, 0].mean()), atol=1e-12)
    assert c.error.max() < 1e-12
    assert c.count.sum() == 200
    assert c.count[0] == 1
    assert set(c.count[1:]) <= {9, 10, 11}


def heights(f: object, x: np.ndarray, j: int, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve bin by bin and row by row, and what each row's difference adds to it."""
    worth: list[list[float]] = [[] for _ in ends[1:]]
    for row in x:
        k = next(k for k in range(len(ends) - 1) if row[j] <= ends[k + 1])
        low, high = row.copy(), row.copy()
        low[j], high[j] = ends[k], ends[k + 1]
        worth[k].append(f(high[None])[0] - f(low[None])[0])
    g = np.append(0.0, np.cumsum([np.mean(w) for w in worth]))
    g = g - np.interp(x[:, j], ends, g).mean()
    variance = []
    for k in range(len(ends)):
        total = 0.0
        for i, w in enumerate(worth):
            beyond = np.clip((x[:, j] - ends[i]) / (ends[i + 1] - ends[i]), 0, 1).mean()
            total += ((i < k) - beyond) ** 2 * np.var(w, ddof=1) / len(w)
        variance.append(total)
    return g, np.sqrt(variance)


def test_accumulated_effects_of_a_product_are_those_of_the_loop() -> None:
    x = table(150)
    x[:, 1] = x[:, 0] + 0.5 * x[:, 1]
    f = lambda x: x[:, 0] * x[:, 1]  # noqa: E731
    c = accumulated(f, x, ["a"], bins=6).curve("a")
    value, error = heights(f, x, 0, c.at)
    np.testing.assert_allclose(c.value, value, atol=1e-12)
    np.testing.assert_allclose(c.error, error, atol=1e-12)
    assert c.error.min() > 0.01
    x[:, 0] = x[:, 1] = np.linspace(-2, 2, 150)  # the derivative at z is then z: the curve is z^2 / 2, where partial dependence is the line z mean
    fine = accumulated(f, x, ["a"], bins=149).curve("a")
    np.testing.assert_allclose(fine.value - fine.value[0], (fine.at**2 - fine.at[0] ** 2) / 2, atol=2 * 4 / 149)
    assert np.ptp(fine.value) > 2


def loop_of_pairs(f: object, x: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Second-order effects cell by cell (Apley and Zhu, section 3.1)."""
    k, m = len(ends[0]) - 1, len(ends[1]) - 1
    cells: dict[tuple[int, int], list[float]] = {}
    for row in x:
        i = next(i for i in range(k) if row[0] <= ends[0][i + 1])
        j = next(j for j in range(m) if row[1] <= ends[1][j + 1])
        f_of = lambda u, v, row=row: f(np.array([[u, v, row[2]]]))[0]  # noqa: E731
        a, b, c, d = ends[0][i], ends[0][i + 1], ends[1][j], ends[1][j + 1]
        cells.setdefault((i, j), []).append(f_of(b, d) - f_of(a, d) - f_of(b, c) + f_of(a, c))
    g = np.zeros((k + 1, m + 1))
    for i in range(k):
        for j in range(m):
            near = min(sorted(cells), key=lambda c: (c[0] - i) ** 2 + (c[1] - j) ** 2)
            g[i + 1, j + 1] = g[i, j + 1] + g[i + 1, j] - g[i, j] + np.mean(cells.get((i, j), cells[near]))
    n = np.array([[len(cells.get((i, j), [])) for j in range(m)] for i in range(k)])
    first, second = np.zeros(k + 1), np.zeros(m + 1)
    for i in range(k):
        first[i + 1] = first[i] + sum(n[i, j] * ((g[i + 1, j] - g[i, j]) + (g[i + 1, j + 1] - g[i, j + 1])) / 2 for j in range(m)) / n[i].sum()
    for j in range(m):
        second[j + 1] = second[j] + sum(n[i, j] * ((g[i, j + 1] - g[i, j]) + (g[i + 1, j + 1] - g[i + 1, j])) / 2 for i in range(k)) / n[:, j].sum()
    h = g - first[:, None] - second[None]
    return h - sum(n[i, j] * (h[i, j] + h[i + 1, j] + h[i, j + 1] + h[i + 1, j + 1]) / 4 for i in range(k) for j in range(m)) / n.sum()


def test_accumulated_effects_of_pairs_are_those_of_the_loop() -> None:
    x = table(150)
    x[:, 1] = x[:, 0] + 0.7 * x[:, 1]
    f = lambda x: np.sin(x[:, 0] * x[:, 1]) * (1 + x[:, 2]) + x[:, 0] ** 3 + x[:, 2] * x[:, 1]  # noqa: E731
    s = accumulated(f, x, ["a:b"], pair_bins=4).surfaces[0]
    np.testing.assert_allclose(s.value, loop_of_pairs(f, x, s.at), atol=1e-12)
    assert np.ptp(s.value) > 0.5
    assert s.error[0, 0] > 0.001
    assert s.count.sum() == 150
    none = accumulated(lambda x: np.sin(x[:, 0]) + x[:, 1] ** 2 + x[:, 2], x, [("a", "b")]).surfaces[0]
    assert abs(none.value).max() < 1e-12
    flat = accumulated(lambda x: x[:, 0] * x[:, 1], x, [("a", "b")]).surfaces[0]
    twist = np.diff(np.diff(flat.value, axis=0), axis=1)
    filled = flat.count[1:, 1:] > 4
    np.testing.assert_allclose(twist[filled], np.outer(np.diff(flat.at[0]), np.diff(flat.at[1]))[filled], atol=1e-12)
    assert filled.sum() > 3


def test_errors_of_pairs_shrink_with_the_rows_as_draws_do() -> None:
    f = lambda x: x[:, 0] * x[:, 1] * (1 + x[:, 2])  # noqa: E731
    net, found = model(f), []
    edge = np.array([[-1.0, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]])
    for _ in range(60):
        x = np.concatenate([edge, CHANCE.uniform(-1, 1, (60, 3))])
        found.append(pel.learn(net, x, method="accumulated-local-effects", columns=["a:b"], pair_bins=1).surfaces[0])
    drawn = np.std([s.value[1, 1] for s in found])
    assert 0.7 < drawn / np.mean([s.error[1, 1] for s in found]) < 1.4
    assert drawn > 0.01


def test_words_stand_beside_the_words_they_are_like() -> None:
    level = CHANCE.integers(0, 4, 400)
    order = np.array([2, 0, 3, 1])  # the word at place k of the alphabet lies at order[k] in the other columns
    frame = pd.DataFrame({"word": np.array(list("pqrs"))[level], "x": order[level] + 0.6 * CHANCE.normal(size=400), "y": CHANCE.normal(size=400)})

    def f(d: pd.DataFrame) -> np.ndarray:
        return (d["word"].map({"p": 2.0, "q": 5.0, "r": 0.0, "s": -1.0}).to_numpy(float) + d["x"].to_numpy() * (d["word"] == "q").to_numpy())[:, None]

    c = accumulated(f, frame, ["word"]).curve("word")
    assert "".join(c.words) in ("qspr", "rpsq")
    g, share, cells = [0.0], [], list(c.words)
    for a, b in itertools.pairwise(cells):
        rows = frame[frame["word"].isin([a, b])]
        g.append(g[-1] + float((f(rows.assign(word=b)) - f(rows.assign(word=a))).mean()))
    share = [(frame["word"] == w).mean() for w in cells]
    np.testing.assert_allclose(c.value, np.array(g) - np.dot(share, g), atol=1e-12)
    assert c.count.tolist() == [int((frame["word"] == w).sum()) for w in cells]
    ranked = frame.assign(word=pd.Categorical(frame["word"], list("prsq"), ordered=True))
    known = accumulated(f, ranked, ["word"]).curve("word")
    assert known.words == tuple("prsq")
    draws = [accumulated(f, ranked.sample(400, replace=True, random_state=i), ["word"]).curve("word").value for i in range(60)]
    spread = np.std([v[3] - v[0] for v in draws])
    assert 0.7 < spread / (known.error[3] + known.error[0]) < 1.4  # only the step to q is not known exactly: it moves q one way and all others the other


def test_a_gap_is_a_point_of_its_own() -> None:
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4, np.nan, np.nan, 2.0, 3.0] * 4, "b": np.arange(32.0)})
    c = accumulated(lambda d: (d["a"].fillna(10).to_numpy() + d["b"].to_numpy())[:, None], frame, ["a"]).curve("a")
    assert c.words == ("1", "2", "3", "4", "missing")
    np.testing.assert_allclose(c.value, [-1.5, -0.5, 0.5, 1.5, 7.5], atol=1e-12)
    assert c.count.tolist() == [4, 8, 8, 4, 8]
    by = accumulated(lambda d: (d["a"].fillna(10).to_numpy() * d["b"].to_numpy())[:, None], frame, ["a"], by=["u" if i < 16 else "v" for i in range(32)])
    low, high = by.curves
    assert (low.rows, high.rows) == (16, 16)
    assert (high.value[-1] - low.value[-1]) == pytest.approx(7.5 * 16, rel=0.01)
    np.testing.assert_allclose(high.value[3] - high.value[2], frame["b"][16:][frame["a"] == 4].mean(), atol=1e-9)  # the step below 4 is told by rows that hold 4


def test_accumulated_effects_cost_what_the_card_says() -> None:
    asked = Asked(lambda x: x[:, 0] * x[:, 1])
    x = table(50)
    f = pel.learn(pel.wrap(asked, takes="array", columns=("a", "b", "c")), x, method="accumulated-local-effects", columns=["a", "b"], bins=5)
    assert asked.rows == f.cost.forward_rows
    assert 2 * 2 * 50 - 2 * 50 <= f.cost.forward_rows <= 2 * 2 * 50 + 50
    pair = pel.learn(pel.wrap(asked, takes="array", columns=("a", "b", "c")), x, method="accumulated-local-effects", columns=["a:b"], pair_bins=5)
    assert 4 * 50 <= pair.cost.forward_rows + 50 <= 4 * 50 + 2 * 50


# -- interactions --------------------------------------------------------------------------------------------------------

CORNERS = np.array(list(itertools.product([-1.0, 1], repeat=3)))


def h_of(function: object, x: np.ndarray, **asked: object) -> object:
    return pel.learn(model(function), x, method="h-statistic", columns=["a", "b", "c"], **asked)


def test_h_is_none_of_a_sum_one_of_a_product_and_a_third_of_both() -> None:
    x = np.repeat(CORNERS, 2, 0)
    added = h_of(lambda x: x[:, 0] + 2 * x[:, 1] - x[:, 2], x)
    assert max(t.value for t in (*added.pairs, *added.totals)) < 1e-12
    product = h_of(lambda x: x[:, 0] * x[:, 1] + 0 * x[:, 2], x)
    pair = product.pairs[0]
    assert (pair.column, pair.other, pair.value, pair.strength) == ("a", "b", pytest.approx(1), pytest.approx(1))
    assert {t.column: round(t.value, 9) for t in product.totals} == {"a": 1.0, "b": 1.0, "c": 0.0}
    mixed = h_of(lambda x: x[:, 0] + x[:, 1] + x[:, 0] * x[:, 1] + 1e-3 * x[:, 2], x)
    assert mixed.pairs[0].value == pytest.approx(np.sqrt(1 / 3))
    assert {t.column: round(t.value, 4) for t in mixed.totals}["a"] == round(np.sqrt(1 / 3), 4)
    assert [t.faint for t in product.pairs] == [False, True, True]
    assert "a and c; b and c: look at the strength" in product.notes[-1]


def test_h_is_that_of_the_loop_and_its_error_that_of_other_draws() -> None:
    f = lambda x: x[:, 0] * x[:, 1] + x[:, 0] + np.sin(x[:, 2])  # noqa: E731
    x = table(20)

    def mean(i: int, places: list[int]) -> float:
        z = x.copy()
        z[:, places] = x[i, places]
        return f(z).mean()

    def part(places: list[int]) -> np.ndarray:
        v = np.array([mean(i, places) for i in range(len(x))])
        return v - v.mean()

    both, only = part([0, 1]), part([0, 1]) - part([0]) - part([1])
    found = h_of(f, x)
    assert found.pairs[0].value == pytest.approx(np.sqrt((only**2).sum() / (both**2).sum()))
    whole = f(x) - f(x).mean()
    total = next(t for t in found.totals if t.column == "b")
    assert total.value == pytest.approx(np.sqrt(((whole - part([1]) - part([0, 2])) ** 2).sum() / (whole**2).sum()))
    draws = [h_of(f, table(40)).pairs[0] for _ in range(40)]
    assert 0.6 < np.std([d.value for d in draws]) / np.mean([d.error for d in draws]) < 1.6
    assert h_of(f, table(500), rows=30).cost.forward_rows <= 30 * 30 * 9 + 300 * 7 + 500
    with pytest.raises(UsageError, match="at least 2 columns; got 'a' alone"):
        pel.learn(model(f), x, method="h-statistic", columns=["a"])


# -- single rows ---------------------------------------------------------------------------------------------------------


def test_profiles_of_a_row_move_one_cell() -> None:
    x = table()
    f = pel.learn(model(lambda x: x[:, 0] * x[:, 1] + x[:, 2]), x, method="ceteris-paribus", row=[3, 7], columns=["a"], grid=5)
    assert [c.cohort for c in f.curves] == ["row 3", "row 7"]
    for r, c in zip((3, 7), f.curves, strict=True):
        np.testing.assert_allclose(c.value, c.at * x[r, 1] + x[r, 2], atol=1e-12)
        assert c.own == ((x[r, 0], pytest.approx(x[r, 0] * x[r, 1] + x[r, 2])),)
        assert len(c.at) in (5, 6, 7)  # the rows' own cells are among the points
    with pytest.raises(UsageError, match="from 0 to 59, as the table has 60 rows; got 60"):
        pel.learn(model(lambda x: x[:, 0]), x, method="ceteris-paribus", row=60)


def test_break_down_of_a_sum_is_each_part_less_its_mean() -> None:
    x = table()
    (way,) = pel.learn(model(lambda x: 3 * x[:, 0] + np.exp(x[:, 1]) - x[:, 2]), x, method="break-down", row=5).ways
    parts = {"a": 3 * x[:, 0], "b": np.exp(x[:, 1]), "c": -x[:, 2]}
    assert {s.columns[0]: pytest.approx(s.value) for s in way.steps} == {k: v[5] - v.mean() for k, v in parts.items()}
    assert {s.columns[0]: pytest.approx(s.error) for s in way.steps} == {k: v.std(ddof=1) / np.sqrt(60) for k, v in parts.items()}
    sizes = [abs(s.value) for s in way.steps]
    assert sizes == sorted(sizes, reverse=True)
    assert way.base + sum(s.value for s in way.steps) == pytest.approx(way.total)


def test_break_down_of_a_product_is_the_loops_and_pairs_may_go_together() -> None:
    f = lambda x: x[:, 0] * x[:, 1] + 0.3 * x[:, 2]  # noqa: E731
    x = table()
    (way,) = pel.learn(model(f), x, method="break-down", row=2).ways
    z, at = x.copy(), f(x).mean()
    for s in way.steps:
        j = "abc".index(s.columns[0])
        z[:, j] = x[2, j]
        assert s.value == pytest.approx(f(z).mean() - at)
        at = f(z).mean()
    assert at == pytest.approx(way.total)
    square = np.concatenate([CORNERS, CORNERS])
    (both,) = pel.learn(model(f), square, method="break-down", row=0, interactions=True).ways
    assert [(s.columns, round(s.value, 9)) for s in both.steps] == [(("a", "b"), 1.0), (("c",), -0.3)]
    assert [r["column"] for r in pel.learn(model(f), square, method="break-down", interactions=True).table()] == ["the mean answer", "a:b", "c"]


# -- the front door ------------------------------------------------------------------------------------------------------


def chances(x: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-x[:, 0] * x[:, 1]))
    return np.stack([1 - p, p], 1)


def test_the_front_door_takes_the_second_of_two_classes_and_says_so() -> None:
    x = table()
    net = pel.wrap(chances, takes="array", columns=("a", "b", "c"), labels=["no", "yes"])
    f = pel.effect(net, x, ["a"])
    assert (f.estimator, f.target) == ("accumulated-local-effects", ("yes (1)",))
    assert f.notes[0] == "target: the second of two classes, 'yes'"
    no = pel.effect(net, x, ["a"], target="no", bins=7)
    assert len(no.curve("a").at) == 8
    assert no.curve("a").value[-1] == pytest.approx(-pel.effect(net, x, "a", target=1, bins=7).curve("a").value[-1])
    with pytest.raises(UsageError, match=r"has 3 and each row its own\. Name one with target=: 0, 1, 2"):
        pel.effect(pel.wrap(lambda x: x, takes="array"), x)
    with pytest.raises(UnknownName, match="Did you mean 'partial-dependence'"):
        pel.effect(net, x, method="partial-dependance")
    with pytest.raises(UnknownName, match="parameter of partial-dependence 'bins'"):
        pel.effect(net, x, method="partial-dependence", bins=3)


def test_groups_may_be_a_column_that_the_model_does_not_take() -> None:
    frame = pd.DataFrame(table(), columns=list("abc")).assign(age=np.arange(60), sex=["f", "m"] * 30)
    net = pel.wrap(lambda d: (d["a"] * d["b"]).to_numpy()[:, None], takes="frame", columns=("a", "b", "c"))
    f = pel.effect(net, frame, ["a"], by="sex")
    assert [c.cohort for c in f.curves] == ["sex f", "sex m"]
    assert f.parameters["by"].__repr__() == "sex (2 groups)"
    assert [c.cohort for c in pel.effect(net, frame, ["a"], by="age").curves] == ["age up to 14", "age above 14 up to 29", "age above 29 up to 44", "age above 44"]
    assert [c.cohort for c in pel.effect(net, frame, ["a"], by=frame["sex"]).curves] == ["sex f", "sex m"]
    assert {c.column.name for c in pel.effect(net, frame, by="c").curves} == {"a", "b"}
    with pytest.raises(UnknownName, match="Did you mean 'sex'"):
        pel.effect(net, frame, ["a"], by="sax")


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
