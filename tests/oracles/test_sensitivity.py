"""Sensitivity indices against functions whose indices are known, and kernel matrices over all coalitions."""

import dataclasses
import itertools

import pytest
import torch

from games import KINDS, games
from models import normal, subjects
from pellucid.attribution import HSIC, Sobol
from pellucid.attribution._degrees import Degrees
from pellucid.attribution.hsic import _unbiased
from pellucid.backends import wrap
from pellucid.core.errors import UsageError
from pellucid.core.game import Game
from pellucid.core.question import Samples, ask
from pellucid.core.target import Output
from pellucid.modalities.features import FeatureMasker

WEIGHTS = torch.tensor([0.0, 0.5, 1.0, 4.0, 20.0], dtype=torch.float64)


def sobol_g(x):
    """Sobol's g function: variances and interactions in closed form."""
    return (((4 * x - 2).abs() + WEIGHTS) / (1 + WEIGHTS)).prod(1, keepdim=True)


def indices():
    part = 1 / (3 * (1 + WEIGHTS) ** 2)
    total = (1 + part).prod() - 1
    rest = torch.stack([(1 + torch.cat([part[:i], part[i + 1 :]])).prod() for i in range(5)])
    return part / total, part * rest / total


@pytest.mark.parametrize("order", ["first", "total"])
def test_sobol_indices_of_the_g_function(order):
    """Degrees from 0 to 1 between a baseline of zeros and a row of ones are the function's own inputs."""
    q = ask(wrap(sobol_g), torch.ones(1, 5, dtype=torch.float64), Output())
    e = Sobol(budget=7 * 4096, tol=0, order=order)(q)
    want = indices()[order == "total"]
    torch.testing.assert_close(e.values[0], want, rtol=0, atol=0.02)
    assert ((e.values[0] - want).abs() < 3 * e.error[0] + 1e-3).all()
    assert e.error.max() < 0.03
    assert not e.signed


def test_sobol_errors_hold():
    """40 scrambled designs: 95 % intervals hold at least that often, for a sequence errs less than independent points."""
    want, inside, error, off = indices()[1], [], [], []
    for seed in range(40):
        e = Sobol(budget=7 * 64, tol=0)(ask(wrap(sobol_g), torch.ones(1, 5, dtype=torch.float64), Output(), seed=seed))
        inside.append((e.values[0] - want).abs() < 1.96 * e.error[0])
        error.append(e.error[0])
        off.append(e.values[0] - want)
    assert torch.stack(inside).double().mean() > 0.9
    assert torch.stack(error).square().mean().sqrt() < 2.5 * torch.stack(off).square().mean().sqrt()


def test_sobol_stops_row_by_row():
    x = torch.ones(3, 5, dtype=torch.float64) * torch.tensor([[1.0], [0.5], [0.1]], dtype=torch.float64)
    e = Sobol(tol=0.08)(ask(wrap(sobol_g), x, Output()))
    assert (e.error.amax(1) <= 0.08).all()
    assert e.cost.forward_rows < 3 * 7 * 512
    assert "3 of 3 rows" in " ".join(e.provenance["notes"])


@pytest.mark.parametrize("name", ["columns", "pictures", "two inputs"])
def test_degrees_of_zero_and_one_are_coalitions(name):
    """Where everybody is there or not, players by degrees are worth what the game says; half of everybody lies between."""
    s = subjects()[name]
    q = ask(wrap(s.net()), s.x, [0, 1, 2], baseline=Samples(normal(4, 5, seed=2)) if name == "columns" else 0.3)
    board = FeatureMasker().board(q)
    z = torch.rand(6, board.players, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.testing.assert_close(Degrees(board)(z.double()), Game(board)(z), rtol=1e-10, atol=1e-12)
    if name != "columns":
        half = tuple(torch.lerp(torch.full_like(p, 0.3), p, 0.5) for p in (s.x if isinstance(s.x, tuple) else (s.x,)))
        want = q.value(half if len(half) > 1 else half[0])
        torch.testing.assert_close(Degrees(board)(torch.full((1, board.players), 0.5, dtype=torch.float64))[0], want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(Degrees(board).take(torch.tensor([2, 0]))(z.double()), Game(board)(z)[:, [2, 0]], rtol=1e-10, atol=1e-12)


# -- HSIC -----------------------------------------------------------------------------------------------------------------


def everybody(n):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)


def hsic(z, y):
    """The definition, matrix by matrix: tr(K H L H) over the root of tr(K H K H) tr(L H L H)."""
    far = (y[:, None] - y).abs()
    width = far[torch.triu_indices(len(y), len(y), 1).unbind()].median()
    like = (-(far**2) / (2 * width**2)).exp()
    h = torch.eye(len(y), dtype=torch.float64) - 1 / len(y)
    found = []
    for column in z.T:
        k = (column[:, None] == column).double() - 0.5
        a, b = h @ k @ h, h @ like @ h
        found.append((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt())
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["table", "network", "threshold"])
def test_hsic_over_all_coalitions_is_its_definition(kind):
    game, z = games(kind, 7, 3), everybody(7)
    found = HSIC().estimate(game)
    torch.testing.assert_close(found.values, torch.stack([hsic(z, y) for y in game(z.bool()).T]), rtol=1e-9, atol=1e-11)
    assert found.values.max() > 0.2
    assert found.error.abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_hsic_from_draws_is_within_its_errors(kind):
    """95 % intervals over four designs and eight games; the truth is the definition over all 1,024 coalitions."""
    want = HSIC(budget=1024).estimate(games(kind, 10, 8)).values
    board = games(kind, 10, 8).board
    played = [HSIC(budget=512, tol=0).estimate(Game(dataclasses.replace(board, question=dataclasses.replace(board.question, seed=k)))) for k in range(4)]
    inside = torch.stack([(p.values - want).abs() < 1.96 * p.error for p in played])
    assert inside.double().mean() > 0.88
    assert max(p.error.max() for p in played) < 0.05 < want.max()


def test_hsic_without_bias_is_songs_formula_matrix_by_matrix():
    """Unbalanced coalitions, so that no sum vanishes."""
    z = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.7
    y = z[:, 0] * 2.0 + z[:, 1] + 0.3 * torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    far = (y[:, None] - y).abs()
    bare = (-(far**2) / (2 * far[torch.triu_indices(40, 40, 1).unbind()].median() ** 2)).exp().fill_diagonal_(0)

    def song(k, l_):
        one, n = torch.ones(40, dtype=torch.float64), 40
        return (torch.trace(k @ l_) + (one @ k @ one) * (one @ l_ @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3))

    kernels = [((c[:, None] == c).double() - 0.5).fill_diagonal_(0) for c in z.T]
    want = torch.stack([song(k, bare) for k in kernels]) / (0.5 * song(bare, bare).sqrt())
    assert want.max() > 0.2
    torch.testing.assert_close(_unbiased(z, y[:, None])["values"][0], want.clamp(min=0), rtol=1e-9, atol=1e-12)


def test_hsic_of_a_player_who_does_nothing_is_noise_about_zero():
    game = games("sparse", 13, 1)
    board = game.board
    blind = Game(board.__class__(board.question, (board.names[0] + ("nobody",) * 2,), "nothing", lambda z, rows, copies: board.make(z[:, :13], rows, copies), board.share))
    found = HSIC(budget=1024, tol=0).estimate(blind)
    assert (found.values[0, 13:] < 3 * found.error[0, 13:] + 0.002).all()
    assert found.values[0, :13].max() > 0.1


def test_sensitivity_says_what_it_cannot_do():
    with pytest.raises(UsageError, match="fewer players"):
        Sobol(budget=60).estimate(games("sparse", 12, 1))
    with pytest.raises(UsageError, match="fewer players"):
        HSIC(budget=32).estimate(games("sparse", 12, 1))
