"""`shapley` chooses by what the budget allows, says what it chose, and errs no more than the better of its estimators."""

import pytest
import torch

from games import KINDS, game_of, games
from models import normal, subjects
from pellucid import explain
from pellucid.attribution import ExactShapley, OddGP, OddSHAP, Shapley
from pellucid.attribution.shapley import chosen
from pellucid.backends import wrap
from pellucid.core.errors import UsageError
from pellucid.core.question import Samples, ask


def exact(game):
    return ExactShapley().estimate(game).values


@pytest.mark.parametrize(
    ("players", "budget", "name"), [(12, 1000, "odd-gp or odd-shap"), (12, 2500, "odd-gp or odd-shap"), (30, 2501, "odd-shap: "), (30, 20_001, "leverage-shap: "), (501, 1500, "leverage-shap: ")]
)
def test_which_estimator(players, budget, name):
    assert chosen(players, budget)[0].startswith(name)


def test_exact_where_everything_fits():
    got = Shapley(budget=1024).estimate(game := games("table", 10, 3))
    assert torch.equal(got.values, exact(games("table", 10, 3)))
    assert got.error is None
    assert "exact" in got.notes[0]
    assert game.asked == 1024 or game.asked == 2 + 1022


def test_nothing_reliable_is_said_to_be_so():
    with pytest.raises(UsageError, match="needs a budget of at least 62 coalitions for 30 players; got 61, from which nothing reliable can be said"):
        Shapley(budget=61).estimate(games("network", 30, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_nearly_as_good_as_the_better(kind):
    want = exact(games(kind, 11, 8))
    off = {m.name: float((m.estimate(games(kind, 11, 8)).values - want).norm()) for m in (Shapley(budget=400, tol=0), OddGP(budget=400), OddSHAP(budget=400))}
    assert off["shapley"] <= 1.25 * min(off["odd-gp"], off["odd-shap"]) + 1e-9


def test_intervals_cover():
    inside = []
    for kind in KINDS:
        want = exact(games(kind, 11, 10))
        got = Shapley(budget=250, tol=0).estimate(games(kind, 11, 10))
        inside.append(((got.values - want).abs() <= 1.96 * got.error + 1e-9).double().flatten())
    assert 0.90 <= float(torch.cat(inside).mean()) <= 0.985


def test_by_name_with_a_background():
    """Through the front door, a table against 300 background rows: every row is used, errors and notes come back."""
    s, background = subjects()["columns"], normal(300, 5, seed=9)
    e = explain(s.net(), s.x, target=[0, 1, 2], method="shapley", baseline=Samples(background), evidence="none")
    want = ExactShapley()(ask(wrap(s.net()), s.x, [0, 1, 2], baseline=Samples(background)))
    torch.testing.assert_close(e.values, want.values)
    assert "300 background" in " ".join(e.provenance["notes"])
    torch.testing.assert_close(e.values.sum(1), e.total - e.base)


def test_stops_where_the_error_is_small():
    slope = normal(20)
    easy = lambda z: z @ slope + 0.01 * z[:, 0] * z[:, 1] * z[:, 2]  # noqa: E731
    game = game_of([easy], 20)
    got = Shapley(budget=2000).estimate(game)
    assert game.asked < 200
    assert got.error.max() <= 0.01 * abs(float(slope.sum()))
