"""The closed forms behind Odd-GP and OddSHAP, written out term by term, and what they gain."""


import pytest
import torch

from games import game_of, games
from models import normal
from pellucid.attribution import ExactShapley, LeverageSHAP, OddGP, OddSHAP
from pellucid.attribution._coalitions import everyone
from pellucid.attribution._odd import Prior, _cross, _own, fitted_to, values_of
from pellucid.attribution._walsh import Terms


def odd_sets(n):
    """(K, n) all groups of an odd number of players."""
    z = everyone(n)
    return z[z.sum(1) % 2 == 1]


def rel(got, want):
    return ((got - want).norm(dim=1) / want.norm(dim=1)).median()


@pytest.mark.parametrize("n", [4, 7])
def test_covariances_term_by_term(n):
    """k, the covariance with a value, and a value's own variance: sums over all odd groups of three players and more."""
    w = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.6
    t = Terms(odd_sets(n)[odd_sets(n).sum(1) > 1])
    s = 2 * everyone(n).double() - 1
    chi, variance = t.columns(s), torch.where(t.member, w, 1).prod(1)
    prior = Prior(w[None], torch.zeros(1, dtype=torch.float64))
    spread = variance.sum()
    torch.testing.assert_close(prior.spread[0], spread, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prior.covariance(s)[0], (chi * variance) @ chi.T / spread, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(_cross(w, s), (chi * variance) @ t.shares(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(_own(w), variance @ t.shares().square(), rtol=1e-9, atol=1e-12)


def test_posterior_of_the_coefficients_themselves():
    """Universal kriging is Bayesian regression on all odd terms, the singles with next to no prior: the same mean and deviation."""
    n, m = 5, 12
    w = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.5], dtype=torch.float64)
    s = torch.cat([(2 * everyone(n).double() - 1)[torch.randperm(15, generator=torch.Generator().manual_seed(2))[: m - 1] + 1], torch.ones(1, n, dtype=torch.float64)])
    y = normal(m, 1, seed=3)
    prior = Prior(w[None], torch.tensor([1e-2], dtype=torch.float64))
    fit = fitted_to(prior.noisy(prior.covariance(s)), s, y[None])
    got = values_of(prior, fit, s)
    t = Terms(odd_sets(n))
    size, x = t.member.sum(1), t.columns(s)
    v = torch.where(size == 1, 1e7, torch.where(t.member, w, 1).prod(1) / prior.spread[0])
    noise = torch.full((m,), 1e-2 + 1e-9, dtype=torch.float64)
    noise[-1] = 1e-9
    gain = torch.linalg.solve((x * v) @ x.T + noise.diag(), x * v).T
    mean, cov = gain @ y, v.diag() - gain @ (x * v)
    torch.testing.assert_close(got.values[0], t.shares().T @ mean[:, 0], rtol=1e-4, atol=1e-5)
    scale = fit.variance[0, 0].sqrt()
    torch.testing.assert_close(got.error[0] / scale, (t.shares().T @ cov @ t.shares()).diagonal().sqrt(), rtol=1e-3, atol=1e-4)


def test_shares_turn_coefficients_into_values():
    """The Walsh coefficients of a game, by a plain sum over coalitions, give its Shapley values."""
    game = games("table", 6, 2)
    want = ExactShapley().estimate(game).values
    s = 2 * everyone(6).double() - 1
    t = Terms(odd_sets(6))
    coefficients = t.columns(s).T @ game(everyone(6)) / 64
    torch.testing.assert_close((t.shares().T @ coefficients).T, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["network", "threshold", "largest", "sparse"])
@pytest.mark.parametrize("cls", [OddGP, OddSHAP])
def test_half_of_leverage_shaps_error(cls, kind):
    """At 600 coalitions of 12 players; by OddSHAP where groups are few."""
    want = ExactShapley().estimate(games(kind, 12, 8)).values
    ours, leverage = (rel(c(budget=600).estimate(games(kind, 12, 8)).values, want) for c in (cls, LeverageSHAP))
    assert ours < (0.5 if cls is OddGP or kind == "sparse" else 1) * leverage


def test_xor_of_three_is_found():
    """A game that is nothing but one product of three signs, which no additive game is near."""
    worth = lambda z: (2 * z[:, [1, 4, 7]] - 1).prod(1)  # noqa: E731
    want = torch.zeros(1, 10, dtype=torch.float64)
    want[0, [1, 4, 7]] = 2 / 3
    torch.testing.assert_close(OddSHAP(budget=300).estimate(game_of([worth], 10)).values, want, rtol=1e-8, atol=1e-8)


def test_five_that_act_together_are_found():
    worth = lambda z: (2 * z[:, [0, 2, 4]] - 1).prod(1) + 0.7 * (2 * z[:, [0, 2, 4, 6, 9]] - 1).prod(1)  # noqa: E731
    want = ExactShapley().estimate(game_of([worth], 11)).values
    torch.testing.assert_close(OddSHAP(budget=800).estimate(game_of([worth], 11)).values, want, rtol=1e-7, atol=1e-7)


def test_terms_read_signs():
    s = torch.tensor([[1.0, -1, -1], [-1, -1, -1]], dtype=torch.float64)
    t = Terms(torch.tensor([[True, False, False], [True, True, True], [False, True, True]]))
    assert t.columns(s).tolist() == [[1, 1, 1], [-1, -1, 1]]


@pytest.mark.parametrize("n", [20, 60])
def test_more_than_a_process_can_hold(n):
    """Beyond 2,500 coalitions terms are fitted, and that is said."""
    got = OddGP(budget=3000).estimate(games("network", n, 1))
    assert any("odd-shap" in note for note in got.notes)
    assert torch.isfinite(got.error).all()


def test_many_players():
    """200 players: three that act together are looked for among the leading ones."""
    slope = normal(200)
    slope[1:4] = 2
    worth = lambda z: z @ slope + 3 * z[:, 1] * z[:, 2] * z[:, 3]  # noqa: E731
    want = slope.clone()
    want[1:4] += 1
    for method, near in ((OddGP(budget=1200), 0.06), (OddSHAP(budget=2600), 1e-8)):
        got = method.estimate(game_of([worth], 200))
        assert (got.values[0] - want).norm() < near * want.norm()


def test_a_row_that_nothing_changes_gets_zeros():
    for cls in (OddGP, OddSHAP):
        got = cls(budget=100).estimate(game_of([lambda z: z.sum(1) * 0 + 3, lambda z: z[:, 0]], 9))
        assert got.values[0].abs().max() < 1e-12
        torch.testing.assert_close(got.values[1], torch.eye(9, dtype=torch.float64)[0], rtol=1e-9, atol=1e-9)


