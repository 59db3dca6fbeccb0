"""Anchors of models that are rules, the bound against the truth, and what other libraries stumble over."""

import numpy as np
import pandas as pd
import pytest

import pellucid as pel
from pellucid.core.errors import UsageError
from pellucid.surrogates.anchors import bound


def people(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    debt = np.where(rng.random(n) < 0.2, np.nan, rng.normal(5, 2, n))
    return pd.DataFrame({"age": rng.integers(18, 80, n), "debt": debt, "job": rng.choice(["clerk", "nurse", "smith"], n), "noise": rng.normal(size=n)})


def two(yes):
    yes = np.asarray(yes, float)
    return np.stack([1 - yes, yes], 1)


def anchors(f, frame, **settings):
    return pel.learn(pel.wrap(f, takes="frame", labels=["no", "yes"]), frame, method="anchors", **settings)


def test_a_model_that_is_a_rule_is_that_rule() -> None:
    frame = people()
    rule = (frame["age"] > 50) & (frame["job"] == "nurse")
    rows = tuple(int(i) for i in np.flatnonzero(rule)[:3])
    found = anchors(lambda f: two((f["age"] > 50) & (f["job"] == "nurse")), frame, rows=rows)
    for a in found.anchors:
        assert a.conditions == ("age > 50", "job is nurse")
        assert a.answer == "yes"
        assert a.reached
        assert a.precision == 1.0
        assert a.coverage == pytest.approx(rule.mean())
        assert a.coverage_low < rule.mean() < a.coverage_high
        assert a.asked <= 15000


def test_missing_is_a_fact_of_its_own() -> None:
    frame = people()
    gone = frame["debt"].isna()
    found = anchors(lambda f: two(f["debt"].isna()), frame, rows=(int(np.flatnonzero(gone)[0]), int(np.flatnonzero(~gone)[0])))
    assert found.anchors[0].conditions == ("debt is missing",)
    assert found.anchors[1].conditions == ("debt is known",)


def test_where_nothing_needs_to_hold_it_says_so() -> None:
    frame = people()
    found = anchors(lambda f: two(np.zeros(len(f))), frame)
    assert found.anchors[0].conditions == ()
    assert "nothing needs to hold" in found.anchors[0].text()
    assert found.anchors[0].precision == 1.0
    assert found.anchors[0].coverage == 1.0


def test_where_no_rule_holds_it_says_so() -> None:
    frame = people(200)
    found = anchors(lambda f: two((np.abs(f["noise"]) * 1e4 % 1) > 0.5), frame, rows=(3,), longest=2)
    assert not found.anchors[0].reached
    assert "no rule" in found.notes[0]


def test_answers_that_are_numbers() -> None:
    frame = people(300)
    found = pel.learn(pel.wrap(lambda f: f["job"].map({"clerk": 0.0, "nurse": 5.0, "smith": 9.0}).to_numpy(), takes="frame"), frame, method="anchors", rows=(0,))
    assert found.anchors[0].conditions == (f"job is {frame['job'][0]}",)
    assert "standard deviations" in found.within


def test_the_bound_is_exact() -> None:
    rng = np.random.default_rng(0)
    for p in (0.8, 0.95):
        low = np.array([bound(int(k), 200, 0.1) for k in rng.binomial(200, p, 2000)])
        assert 0.03 < (low > p).mean() <= 0.115  # of a discrete number the level is kept, not met


def test_precision_is_what_many_more_draws_say() -> None:
    """Over random models, the truth lies below the bound no more often than `delta`."""
    wrong, kinds = 0, {f"column {j}": "category" for j in range(4)}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        data, w = rng.integers(0, 3, (150, 4)).astype(float), rng.normal(size=(4, 3))
        found = pel.learn(pel.wrap(lambda z, w=w: np.sin(z @ w), takes="array"), data, method="anchors", rows=(0,), kinds=kinds, threshold=0.7, draws=100, seed=seed)
        a = found.anchors[0]
        keep = {int(c.split()[1]): float(c.split()[3]) for c in a.conditions}
        z = data[rng.integers(150, size=20000)]
        for j, v in keep.items():
            z[:, j] = v
        truth = (np.sin(z @ w).argmax(1) == np.sin(data[:1] @ w).argmax()).mean()
        wrong += a.low > truth
    assert wrong <= 3


@pytest.mark.parametrize(("settings", "words"), [({"rows": (999,)}, "0 to 99"), ({"threshold": 2.0}, "threshold"), ({"rows": ("a",)}, "by their numbers")])
def test_bad_wishes_are_refused(settings, words) -> None:
    with pytest.raises(UsageError, match=words):
        anchors(lambda f: two(f["age"] > 50), people(100), **settings)


def test_it_is_shown_as_sentences(tmp_path) -> None:
    frame = people(200)
    found = anchors(lambda f: two(f["age"] > 50), frame, rows=(0, 1))
    assert "keeps the answer" in found._repr_html_()
    assert found.save(tmp_path / "x.svg").stat().st_size > 1000
