"""Shapley values against every coalition, every order, and a peer's numbers; errors that cover what they say."""

import itertools

import numpy as np
import pytest
import torch

from games import KINDS, game_of, games, network, table
from models import made, normal, smooth, subjects
from pellucid.attribution import ExactShapley, KernelSHAP, LeverageSHAP, OddGP, OddSHAP, PermutationShapley
from pellucid.attribution._coalitions import all_worths, paired
from pellucid.backends import wrap
from pellucid.core.errors import CannotComplete, UsageError
from pellucid.core.question import Samples, ask
from pellucid.modalities.features import FeatureMasker

REGRESSIONS = {"kernel-shap": KernelSHAP, "leverage-shap": LeverageSHAP, "odd-gp": OddGP, "odd-shap": OddSHAP}
SAMPLED = REGRESSIONS | {"permutation-shapley": PermutationShapley}
sampled = pytest.mark.parametrize("name", SAMPLED)


def exact(game):
    return ExactShapley().estimate(game).values


def covered(cls, budget, kinds=KINDS, players=(8, 10, 12, 14), count=10):
    """(share of 95 % intervals that hold the exact value, mean z): over games of every kind and size."""
    inside, z = [], []
    for kind, n in itertools.product(kinds, players):
        want = exact(games(kind, n, count))
        got = cls(budget=min(budget, 2**n - 2)).estimate(games(kind, n, count))
        off = got.values - want
        inside.append((off.abs() <= 1.96 * got.error + 1e-9).double().flatten())
        z.append((off / got.error.clamp(min=1e-9)).flatten().clamp(-10, 10))
    return float(torch.cat(inside).mean()), float(torch.cat(z).mean())


def by_orders(worth, n):
    """The mean over all n! orders, one by one."""
    total = np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        z = torch.zeros(1, n, dtype=torch.float64)
        before = float(worth(z))
        for i in order:
            z[0, i] = 1
            after = float(worth(z))
            total[i] += after - before
            before = after
    return total / len(orders)


def test_exact_is_the_mean_over_every_order():
    worths = [table(5, 1), network(5, 2), table(5, 3)]
    got = exact(game_of(worths, 5))
    for row, worth in zip(got, worths, strict=True):
        torch.testing.assert_close(row, torch.from_numpy(by_orders(worth, 5)), rtol=1e-12, atol=1e-12)
    assert got.std() > 0.1


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("name", REGRESSIONS)
def test_all_coalitions_leave_nothing_to_chance(name, n):
    worths = [table(n, 1), table(n, 2)]
    got = REGRESSIONS[name](budget=2**n).estimate(game := game_of(worths, n))
    torch.testing.assert_close(got.values, exact(game_of(worths, n)), rtol=1e-10, atol=1e-10)
    assert got.error.abs().max() == 0
    assert game.asked == 2**n


@sampled
def test_additive_games_need_no_luck(name):
    slope = normal(3, 12)
    got = SAMPLED[name](budget=60).estimate(game_of([lambda z, s=s: z @ s + 4 for s in slope], 12))
    torch.testing.assert_close(got.values, slope, rtol=1e-9, atol=1e-9)
    assert got.error.max() < 1e-9


@sampled
def test_intervals_cover(name):
    share, z = covered(SAMPLED[name], 200, ("table", "sparse", "network", "largest"), (8, 11), 15)
    assert 0.90 <= share <= 0.985
    assert abs(z) < 0.15


@pytest.mark.slow
@sampled
@pytest.mark.parametrize("budget", [150, 600])
def test_intervals_cover_over_240_games(name, budget):
    share, z = covered(SAMPLED[name], budget)
    assert 0.90 <= share <= 0.98
    assert abs(z) < 0.1


@sampled
def test_unbiased(name):
    """The mean over 60 seeds is within a part of a single draw's error of the exact value."""
    want = exact(games("sparse", 9, 4))
    runs = [SAMPLED[name](budget=80).estimate(game_of(games("sparse", 9, 4).board.question.worths, 9, seed)) for seed in range(60)]
    draws, said = torch.stack([r.values for r in runs]), torch.stack([r.error for r in runs]).mean(0)
    off = (draws.mean(0) - want).abs()
    assert (off < (1 if name == "odd-gp" else 0.7) * said + 1e-9).all(), "a prior may pull, but not beyond the error that is said"
    assert off.square().mean() < (0.3 if name == "odd-gp" else 0.1) * said.square().mean()


def test_sums_are_kept():
    for cls in SAMPLED.values():
        game = games("network", 10, 5)
        nobody, everybody = game.ends()
        torch.testing.assert_close(cls(budget=100).estimate(game).values.sum(1), everybody - nobody, rtol=1e-10, atol=1e-10)


@sampled
def test_a_tolerance_stops_each_row_by_itself(name):
    """Easy rows stop early, no row asks more than its budget, and every row is as it would be alone."""
    slope = normal(12, seed=5)
    easy = lambda z: z @ slope + 0.05 * z[:, 0] * z[:, 1]  # noqa: E731
    worths = [easy, *(network(12, i) for i in range(3))]
    game = game_of(worths, 12)
    got = SAMPLED[name](budget=2000, tol=0.03).estimate(game)
    nobody, everybody = game_of(worths, 12).ends()
    met = got.error.amax(1) <= 0.03 * (everybody - nobody).abs()
    assert met[0]
    assert "rows" in got.notes[0]
    for i, worth in enumerate(worths):
        alone = game_of([worth], 12)
        torch.testing.assert_close(SAMPLED[name](budget=2000, tol=0.03).estimate(alone).values[0], got.values[i])
        assert alone.asked <= 2000
        if i == 0:
            assert alone.asked < 500


def test_larger_designs_keep_the_smaller_ones():
    for equal in (True, False):
        seen = set()
        for budget in (30, 48, 120, 500, 2000):
            pairs = paired(13, budget, np.random.default_rng(3), equal)
            rows = {r.numpy().tobytes() for r in pairs.top}
            assert len(rows) == len(pairs) == (budget - 2) // 2, "drawn without replacement"
            assert not rows & {r.numpy().tobytes() for r in ~pairs.top}
            assert seen <= rows
            seen = rows


@sampled
def test_a_budget_that_says_nothing_is_refused(name):
    with pytest.raises(UsageError, match="nothing reliable"):
        SAMPLED[name](budget=50).estimate(games("sparse", 30, 1))


def test_exact_says_its_cost_before_it_refuses():
    with pytest.raises(CannotComplete, match=r"30 players would take 1,073,741,824 forward rows"):
        ExactShapley().estimate(game_of([lambda z: z.sum(1)], 30))


def fixed(n=6):
    """A function and 1,000 background rows that a peer was asked about: tests/oracles/test_shapley.py says which."""
    r = np.random.default_rng(3)
    a, b, c = (torch.from_numpy(r.normal(size=s)) for s in ((8, n), 8, 8))
    background, x = torch.from_numpy(r.normal(size=(1000, n))), torch.from_numpy(r.normal(size=(2, n)))
    return wrap(lambda z: (torch.tanh(z @ a.T + b) @ c)[:, None]), x, background


SHAP = [[0.7881448437, 2.033331262, -0.8407516735, -1.5311099943, 0.3373900691, 0.5528718299], [-0.3799571508, 1.345872862, 0.3513952595, -0.551344401, 0.6884212298, 1.30674468]]
"""shap 0.51.0: ExactExplainer with maskers.Independent(background, max_samples=1000), and KernelExplainer(nsamples=62, l1_reg=False) alike."""


@pytest.mark.parametrize("cls", [ExactShapley, KernelSHAP, LeverageSHAP])
def test_shap_and_a_background_of_a_thousand_rows(cls):
    model, x, background = fixed()
    e = cls()(ask(model, x, 0, baseline=Samples(background)))
    torch.testing.assert_close(e.values, torch.tensor(SHAP, dtype=torch.float64), rtol=1e-8, atol=1e-9)
    assert e.gap.abs().max() < 1e-10
    assert "1000 backgrounds" in " ".join(e.provenance["notes"])


def test_captum():
    """captum 0.9.0 KernelShap, all coalitions of six columns many times over, against one baseline."""
    from captum.attr import KernelShap

    net = made(lambda: torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)))
    x, base = normal(1, 6), normal(1, 6, seed=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        peer = KernelShap(net).attribute(x, baselines=base, target=1, n_samples=4000, perturbations_per_eval=500)
    ours = KernelSHAP()(ask(wrap(net), x, 1, baseline=base)).values
    assert (ours - peer).abs().max() < 0.05 * ours.abs().max()


@sampled
def test_thirty_players_all_get_their_part(name):
    """No attribution is forced to zero."""
    e = SAMPLED[name](budget=2000)(ask(wrap(made(lambda: torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)))), normal(2, 30), [0, 1]))
    assert (e.values.abs() > 1e-6).all()
    assert (e.error > 0).all()


@sampled
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_precision(name, dtype):
    s = subjects()["columns"]
    e = SAMPLED[name](budget=32)(ask(wrap(s.net(dtype)), s.x.to(dtype), [0, 1, 2]))
    want = ExactShapley()(ask(wrap(s.net()), s.x, [0, 1, 2])).values
    assert e.values.dtype == dtype
    near = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype] if name in REGRESSIONS else 0.8
    assert (e.values.double() - want).norm() < near * want.norm()


def test_a_group_is_one_player():
    """The value of a group is that of the game in which its columns come and go together."""
    s = subjects()["columns"]
    q = ask(wrap(s.net()), s.x, [0, 1, 2], baseline=0.2)
    e = ExactShapley(masker=FeatureMasker(groups={"pair": [1, 3]}))(q)
    assert e.players.names[0] == ("pair", "column 0", "column 2", "column 4")
    own = game_of([lambda z, i=i: q.take(torch.tensor([i])).value(torch.where(z[:, [1, 0, 2, 0, 3]].bool(), s.x[i], 0.2)[:, None])[:, 0] for i in range(3)], 4)
    torch.testing.assert_close(e.players.values, exact(own))
    torch.testing.assert_close(e.values[:, 1], e.players.values[:, 0] / 2)
    single = ExactShapley()(q).values
    assert (single[:, 1] + single[:, 3] - e.players.values[:, 0]).abs().max() > 1e-4, "not the sum of its members"


def test_the_worth_of_everybody_comes_last():
    worth = all_worths(game_of([lambda z: z @ torch.tensor([1.0, 10, 100], dtype=torch.float64)], 3))[:, 0]
    assert worth.tolist() == [0, 1, 10, 11, 100, 101, 110, 111]


def test_batch_neighbours_change_nothing():
    net, x = made(smooth), normal(3, 5)
    whole = KernelSHAP(budget=20)(ask(wrap(net), x, 0)).values
    alone = KernelSHAP(budget=20)(ask(wrap(net), x[1:2], 0)).values
    torch.testing.assert_close(alone[0], whole[1])
