"""Owen values, Banzhaf values and plain sampling against sums written out, and a peer's numbers."""

import itertools

import numpy as np
import pytest
import torch

from games import KINDS, game_of, games, network, table
from models import made, normal, subjects
from pellucid.attribution import Banzhaf, ExactShapley, OwenValues, ShapleySampling
from pellucid.attribution._coalitions import halves
from pellucid.attribution._hierarchy import contexts, shuffled, tree_of
from pellucid.backends import wrap
from pellucid.core.errors import UsageError
from pellucid.core.question import Samples, ask
from pellucid.modalities.maskers import masker_of

TREES = {"two levels": [[0, 1], [2, 3, 4]], "three levels": [[0, [1, 2]], [3, 4]], "flat": "flat", "halves": "halves", "some alone": [[1, 3]]}


def consistent(tree):
    """Every order in which groups stay together."""
    if isinstance(tree, int):
        return [[tree]]
    return [list(itertools.chain(*parts)) for order in itertools.permutations(tree) for parts in itertools.product(*map(consistent, order))]


def along_every(worth, orders, n):
    total = np.zeros(n)
    for order in orders:
        z = torch.zeros(n + 1, n, dtype=torch.float64)
        for k, i in enumerate(order):
            z[k + 1 :, i] = 1
        total[order] += worth(z).diff().numpy()
    return torch.from_numpy(total / len(orders))


@pytest.mark.parametrize("name", TREES)
def test_owen_is_the_mean_over_orders_that_keep_groups_together(name):
    worths = [table(5, 1), network(5, 2)]
    game = game_of(worths, 5)
    tree = tree_of(TREES[name], game.board)
    got = OwenValues(hierarchy=TREES[name]).estimate(game)
    want = torch.stack([along_every(w, consistent(tree), 5) for w in worths])
    torch.testing.assert_close(got.values, want, rtol=1e-10, atol=1e-10)
    shapley = ExactShapley().estimate(game_of(worths, 5)).values
    assert ((got.values - shapley).abs().max() < 1e-10) == (name == "flat")


def test_owen_sampled_covers_the_exact():
    tree = [[0, 1, 2], [3, 4, [5, 6]], [7, 8, 9, 10], 11]
    for kind in ("table", "network", "sparse"):
        exact = OwenValues(hierarchy=tree, budget=100_000).estimate(games(kind, 12, 8))
        assert exact.error.abs().max() == 0
        got = OwenValues(hierarchy=tree, budget=400).estimate(games(kind, 12, 8))
        inside = ((got.values - exact.values).abs() <= 1.96 * got.error + 1e-9).double().mean()
        assert 0.88 <= inside <= 1
        assert (got.values - exact.values).norm() < 0.3 * exact.values.norm()


SHAP = [[-0.4762424633, 1.155541328, -2.7757330674, 0.1493144272, -0.5529187785, 0.1318459604], [-0.9490563102, 0.0704789256, 0.2225608986, 0.3060794287, 0.1647289633, -1.5106876341]]
"""shap 0.51.0 PartitionExplainer, maskers.Partition(background, clustering of ((0, 1), 2), ((3, 4), 5)), max_evals=500."""


def test_shap_partition():
    r = np.random.default_rng(4)
    a, b, c = (torch.from_numpy(r.normal(size=s)) for s in ((8, 6), 8, 8))
    background, x = torch.from_numpy(r.normal(size=(50, 6))), torch.from_numpy(r.normal(size=(2, 6)))
    model = wrap(lambda z: (torch.tanh(z @ a.T + b) @ c)[:, None])
    e = OwenValues(hierarchy=[[[0, 1], 2], [[3, 4], 5]])(ask(model, x, 0, baseline=Samples(background)))
    torch.testing.assert_close(e.values, torch.tensor(SHAP, dtype=torch.float64), rtol=1e-8, atol=1e-9)


def test_correlated_columns_are_grouped():
    z = normal(400, 3, seed=4)
    background = torch.cat([z, z + 0.1 * normal(400, 3, seed=5)], 1)
    q = ask(wrap(made(lambda: torch.nn.Linear(6, 2))), normal(1, 6), 0, baseline=Samples(background))
    tree = tree_of("auto", masker_of("auto", q).board(q))
    pairs = {node for node in _nodes(tree) if all(isinstance(i, int) for i in node)}
    assert {tuple(sorted(p)) for p in pairs} == {(0, 3), (1, 4), (2, 5)}


def _nodes(tree):
    return [] if isinstance(tree, int) else [tree, *(n for child in tree for n in _nodes(child))]


def test_parts_of_a_picture_that_lie_together_are_grouped():
    s = subjects()["pictures"]
    q = ask(wrap(s.net()), s.x, [0, 1, 2])
    board = masker_of("grid:2", q).board(q)
    assert contexts(tree_of("auto", board)) == 16
    e = OwenValues(masker="grid:2")(q)
    assert e.gap.abs().max() < 1e-9


def test_orders_keep_groups_together():
    rng = np.random.default_rng(0)
    tree = ((0, (1, 2)), (3, 4, 5))
    for _ in range(20):
        order = shuffled(tree, rng).tolist()
        for group in ((1, 2), (0, 1, 2), (3, 4, 5)):
            at = sorted(order.index(i) for i in group)
            assert at == list(range(at[0], at[0] + len(group)))


@pytest.mark.parametrize("bad", [[[0, 1], [1, 2]], [[0, 7]], [["nobody"]]])
def test_a_player_twice_or_unknown_is_refused(bad):
    with pytest.raises(UsageError, match="every player once"):
        OwenValues(hierarchy=bad).estimate(games("table", 5, 1))


def test_names_work_as_numbers_do():
    a, b = (OwenValues(hierarchy=h).estimate(games("table", 4, 2)).values for h in ([["player 0", "player 2"]], [[0, 2]]))
    assert torch.equal(a, b)


def banzhaf(worth, n):
    z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    v = worth(z)
    return torch.stack([v[z[:, i] == 1].mean() - v[z[:, i] == 0].mean() for i in range(n)])


def test_banzhaf_exact_and_by_regression():
    worths = [table(6, 1), network(6, 2)]
    want = torch.stack([banzhaf(w, 6) for w in worths])
    torch.testing.assert_close(Banzhaf(budget=64).estimate(game_of(worths, 6)).values, want, rtol=1e-10, atol=1e-10)
    inside = []
    for kind in KINDS:
        own = games(kind, 12, 10)
        want = torch.stack([banzhaf(w, 12) for w in own.board.question.worths])
        got = Banzhaf(budget=300).estimate(own)
        assert own.asked <= 300
        inside.append(((got.values - want).abs() <= 1.96 * got.error + 1e-9).double().flatten())
    assert 0.90 <= float(torch.cat(inside).mean()) <= 0.98


def test_halves_are_fair_and_different():
    for n in (10, 40):
        pairs = halves(n, 800, np.random.default_rng(0))
        every = torch.cat([pairs.top, ~pairs.top])
        assert len(every.unique(dim=0)) == len(every) == 798
        assert (pairs.signs.mean(0)[1:].abs() < 0.2).all()


def test_sampling_covers():
    inside, z = [], []
    for kind in ("table", "network", "sparse", "threshold"):
        want = ExactShapley().estimate(games(kind, 10, 10)).values
        got = ShapleySampling(budget=600).estimate(games(kind, 10, 10))
        inside.append(((got.values - want).abs() <= 1.96 * got.error + 1e-9).double().flatten())
        z.append(((got.values - want) / got.error).flatten())
    assert 0.90 <= float(torch.cat(inside).mean()) <= 0.98
    assert abs(float(torch.cat(z).mean())) < 0.15
