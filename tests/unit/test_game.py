"""Games: what a coalition is worth, counted once, with every background row; players of tables, pictures, sequences, layers."""

import itertools

import pytest
import torch

import pellucid as pel
from models import Counting, normal, subjects
from pellucid.backends import wrap
from pellucid.core.errors import UsageError
from pellucid.core.game import Game
from pellucid.core.question import Samples, ask
from pellucid.core.tree import leaves
from pellucid.modalities.features import FeatureMasker

PLAYERS = {"columns": (5, 6), "pictures": (36, 36), "two inputs": (7, 5), "keywords": (7, 5), "words": (4, 4), "vision transformer": (36, 10)}


@pytest.mark.parametrize("name", PLAYERS)
@pytest.mark.parametrize("place", ["input", "layer"])
def test_everybody_is_the_point_and_nobody_the_baseline(name, place):
    s = subjects()[name]
    at = s.layer if place == "layer" or s.integers else None
    q = ask(wrap(s.net()), s.x, [0, 1, 2], at=at, baseline=0 if s.integers else 0.3)
    game = Game(FeatureMasker().board(q))
    nobody, everybody = game.ends()
    assert game.players == PLAYERS[name][place == "layer"]
    torch.testing.assert_close(everybody, q.target_values(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nobody, q.value(q.start), rtol=1e-12, atol=1e-12)
    assert (everybody - nobody).abs().max() > 1e-3


def test_a_background_is_used_whole():
    """The worth of a coalition is the mean over all background rows: a plain loop says the same."""
    s, background = subjects()["columns"], normal(50, 5, seed=9)
    net = s.net()
    game = Game(FeatureMasker().board(ask(wrap(net), s.x, [0, 1, 2], baseline=Samples(background))))
    z = torch.tensor(list(itertools.product([False, True], repeat=5)))
    with torch.no_grad():
        want = torch.stack([torch.stack([net(torch.where(c, s.x[i], background))[:, i].mean() for i in range(3)]) for c in z])
    torch.testing.assert_close(game(z), want, rtol=1e-12, atol=1e-12)
    assert "50 backgrounds" in game.board.value_function


def test_equal_coalitions_are_asked_once():
    s = subjects()["columns"]
    net = Counting(s.net())
    game = Game(FeatureMasker().board(ask(wrap(net), s.x, [0, 1, 2], batch_size=8)))
    z = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]).bool()
    first = game(z)
    before = net.tally.rows
    assert torch.equal(game(z), first)
    assert net.tally.rows == before
    assert game.asked == 2
    assert torch.equal(first[0], first[2])


def test_coalitions_of_each_row():
    s = subjects()["columns"]
    game = Game(FeatureMasker().board(ask(wrap(s.net()), s.x, [0, 1, 2])))
    own = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    together = torch.stack([game(own[:, i])[:, i] for i in range(3)], 1)
    torch.testing.assert_close(game(own), together, rtol=1e-12, atol=1e-12)


def test_groups_and_labels():
    s = subjects()["columns"]
    q = ask(wrap(s.net()), s.x, [0, 1, 2])
    by_name = FeatureMasker(groups={"pair": [1, 3]}).board(q)
    assert by_name.names[0] == ("pair", "column 0", "column 2", "column 4")
    by_label = FeatureMasker(groups=torch.tensor([1, 0, 2, 0, 3])).board(q)
    z = torch.tensor([[True, False, True, True], [False, True, True, False]])
    assert torch.equal(Game(by_name)(z), Game(by_label)(z))
    with pytest.raises(UsageError, match="between 0 and 4"):
        FeatureMasker(groups={"pair": [1, 7]}).board(q)
    with pytest.raises(UsageError, match="shape of one row"):
        FeatureMasker(groups=torch.zeros(4)).board(q)


@pytest.mark.parametrize("name", ["columns", "pictures", "two inputs"])
def test_shares_keep_the_sum(name):
    s = subjects()[name]
    q = ask(wrap(s.net()), s.x, [0, 1, 2])
    board = FeatureMasker().board(q)
    phi = normal(3, board.players, seed=4)
    values = board.share(phi)
    assert [v.shape for v in leaves(values)] == [p.shape for p in leaves(q.point)]
    torch.testing.assert_close(sum(v.flatten(1).sum(1) for v in leaves(values)), phi.sum(1))


def test_elements_of_no_player_are_always_there():
    s = subjects()["columns"]
    q = ask(wrap(s.net()), s.x, [0, 1, 2])
    board = FeatureMasker(groups=torch.tensor([0, -1, 1, -1, 1])).board(q)
    nobody, _ = Game(board).ends()
    kept = s.x * torch.tensor([0.0, 1, 0, 1, 0])
    torch.testing.assert_close(nobody, q.value(kept))
    assert board.share(normal(3, 2))[:, [1, 3]].abs().max() == 0


def test_a_background_of_numpys_serves_explanation_and_evidence():
    rows = normal(20, 4, seed=3).numpy()
    e = pel.explain(wrap(lambda z: 3 * z[:, 0] - z[:, 1], takes="array"), rows[:2], method="exact-shapley", target=pel.Output(), baseline=Samples(rows))
    same = pel.explain(wrap(lambda z: 3 * z[:, 0] - z[:, 1], takes="array"), rows[:2], method="exact-shapley", target=pel.Output(), baseline=Samples(torch.from_numpy(rows)), evidence="none")
    assert torch.equal(e.values, same.values)
    assert e.evidence.readings
