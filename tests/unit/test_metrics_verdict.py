"""The rule for one row and for many, number by number."""

import math

import pytest

from pellucid.metrics._verdict import Cuts, Facts, interval, judge, judge_rows, open_to_doubt

CUTS = Cuts()
GOOD = {"target": "P", "gini": 0.4, "r": 0.5, "z": 2.3, "add": 0.3, "ceiling": 0.7, "blind": 0.15, "converged": 0.95}


def verdict(**changes):
    return judge(Facts(**{**GOOD, **changes}), CUTS)


def test_good_numbers_support_and_say_why():
    got = verdict()
    assert got.verdict == "supported"
    assert got.reasons == (
        "Hiding what this map marks lowers P more than the same map elsewhere (z 2.3), and more than edges or the centre explain (add 0.30). Changes with the class (0.15).",
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"finite": False}, "NaN"),
        ({"gini": 0.0}, "empty or constant"),
        ({"gini": 0.0, "empty": "Nothing raises P here."}, "Nothing raises P here."),
        ({"blind": 0.95}, "same map for every class"),
        ({"blind": None, "network": 0.6}, "permuted weights"),
        ({"r": 0.01}, "does not lower P"),
        ({"r": -0.4}, "raises P"),
    ],
)
def test_what_contradicts(changes, word):
    got = verdict(**changes)
    assert got.verdict == "contradicted"
    assert word in got.reasons[0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"z": 1.2}, "from chance"),
        ({"add": 0.05}, "No better than edges or the centre"),
        ({"r": 0.15}, "Explains little"),
        ({"blind": 0.92}, "Hardly changes with the class"),
        ({"blind": None, "network": 0.4}, "permuted"),
        ({"converged": 0.8}, "Not converged"),
        ({"noise": 0.2}, "standard error"),
        ({"ceiling": 0.2}, "barely moves"),
        ({"ceiling": 0.2, "r": -0.4}, "barely moves"),
        ({"kind": "sequence", "add": None}, "photographs, tables and texts only"),
        ({"kind": "table", "z": 1.5}, "from chance"),
        ({"kind": "text", "r": 0.3}, "Explains little"),
        ({"r": None, "untested": "No grid."}, "No grid."),
    ],
)
def test_what_makes_doubtful(changes, word):
    got = verdict(**changes)
    assert got.verdict == "doubtful"
    assert len(got.reasons) == 1
    assert word in got.reasons[0]


def test_numbers_at_the_cut_pass():
    assert verdict(z=1.3, add=0.1, r=0.21 + 1e-9, blind=0.9, converged=0.9).verdict == "supported"


def test_more_masks_only_where_they_could_change_the_verdict():
    def ask(**changes):
        return open_to_doubt(Facts(**{**GOOD, **changes}), CUTS)

    assert not ask()
    assert ask(z=1.1)
    assert ask(z=1.5)
    assert not ask(z=0.9)
    assert ask(r=0.25)
    assert ask(r=0.05)
    assert not ask(r=0.3)
    assert not ask(r=-0.4)
    assert not ask(z=1.1, blind=0.99)
    assert not ask(r=None)


def rows(zs, adds=None, **changes):
    facts = [Facts(**{**GOOD, "z": z, "add": a, **changes}) for z, a in zip(zs, adds or [0.3] * len(zs), strict=True)]
    return judge_rows(facts, [judge(f, CUTS) for f in facts], range(len(facts)), CUTS)


def test_one_row_is_judged_by_itself():
    assert rows([2.0]).verdict == "supported"
    assert rows([0.2]).verdict == "doubtful"


def test_rows_are_judged_by_means_not_by_the_share_supported():
    assert rows([0.8, 2.0, 1.9, 1.2, 2.2]).verdict == "supported"  # two of five rows doubtful
    assert rows([1.31, 1.4, -3.0, 1.5, 1.6]).verdict == "doubtful"  # four of five supported
    assert rows([6.0, 5.0, -2.5, -2.0, 4.0]).verdict == "doubtful"  # a high mean with an interval that reaches below zero
    assert rows([0.2, 0.3, 0.1, -0.2, 0.3]).verdict == "contradicted"
    assert rows([0.8, 2.0, 1.9, 1.2, 2.2], [0.3, -0.4, 0.2, -0.3, 0.1]).verdict == "doubtful"
    assert rows([2.0, 2.1, 2.2, 1.9], blind=0.92).verdict == "doubtful"


def test_few_rows_need_all_supported():
    assert rows([2.0, 2.1]).verdict == "supported"
    assert rows([2.0, 2.1, 0.9]).verdict == "doubtful"
    assert rows([2.0, 2.1], r=-0.4).verdict == "contradicted"


def test_interval_equals_students_t_and_weighs_groups_once():
    got = interval([1.0, 2.0, 3.0, 4.0], "abcd")
    assert (got.mean, got.high - got.mean) == (2.5, pytest.approx(3.182446 * 1.2909944 / 2, rel=1e-5))
    assert interval([1.0, 3.0, 10.0], "aab").mean == 6.0
    assert interval([1.0], "a").high == math.inf
    boot = interval([float(i % 5) for i in range(40)], list(range(40)))
    assert 1 < boot.low < 2 < boot.high < 3
    assert boot == interval([float(i % 5) for i in range(40)], list(range(40)))


def test_columns_and_words_have_thresholds_of_their_own():
    assert verdict(kind="table", z=1.7, r=0.4, beside="the size of the cells").verdict == "supported"
    assert "the size of the cells" in verdict(kind="table", z=1.7, r=0.4, beside="the size of the cells").reasons[0]
    assert verdict(kind="picture", z=1.4, r=0.25).verdict == "supported"
    assert verdict(kind="text", z=1.4, r=0.25).verdict == "doubtful"
    facts = [Facts(**{**GOOD, "kind": "text", "z": z}) for z in (1.5, 1.4, 1.5, 1.6)]
    assert judge_rows(facts, [judge(f, CUTS) for f in facts], range(4), CUTS).verdict == "doubtful"  # a mean of 1.5 is enough for pictures alone
    facts = [Facts(**{**GOOD, "z": z}) for z in (1.5, 1.4, 1.5, 1.6)]
    assert judge_rows(facts, [judge(f, CUTS) for f in facts], range(4), CUTS).verdict == "supported"
