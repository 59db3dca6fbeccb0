"""Permutation importance against all permutations, and scikit-learn's."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression

from models import normal
from pellucid.attribution import PermutationImportance
from pellucid.backends import wrap
from pellucid.core.question import Samples, ask
from pellucid.core.target import Loss, Output
from pellucid.modalities.table import TableMasker

X = normal(5, 3, seed=4)
Y = (X[:, 0] - 2 * X[:, 1] * X[:, 2]).tolist()


def f(x):
    return (torch.sin(x[:, 0]) + x[:, 1] * x[:, 2])[:, None]


def asked(**changes):
    return ask(wrap(f), X, Loss(Y), baseline=Samples(X), **changes)


def test_the_mean_over_all_permutations():
    e = PermutationImportance(repeats=5)(asked())
    y = torch.tensor(Y, dtype=torch.float64)
    loss = lambda z: (f(z)[:, 0] - y) ** 2  # noqa: E731
    for j in range(3):
        changed = []
        for order in itertools.permutations(range(5)):
            z = X.clone()
            z[:, j] = X[list(order), j]
            changed.append(loss(X) - loss(z))
        torch.testing.assert_close(e.values[:, j], torch.stack(changed).mean(0), rtol=1e-9, atol=1e-12)
    assert e.error.abs().max() == 0
    assert (e.values.mean(0) < -0.1).any()


def test_it_is_scikit_learns():
    """scikit-learn 1.9.1: its importance is minus our mean over rows."""
    r = np.random.default_rng(0)
    x = r.normal(size=(30, 4))
    y = x @ [1.0, -2.0, 0.0, 0.5] + 0.3 * r.normal(size=30)
    fit = LinearRegression().fit(x, y)
    want = permutation_importance(fit, x, y, scoring="neg_mean_squared_error", n_repeats=400, random_state=0)
    rows = torch.from_numpy(x)
    model = wrap(lambda z: torch.from_numpy(fit.predict(z.numpy()))[:, None])
    e = PermutationImportance(repeats=30)(ask(model, rows, Loss(y.tolist()), baseline=Samples(rows)))
    off = np.abs(-e.players.values.mean(0).numpy() - want.importances_mean)
    assert (off < 4 * want.importances_std / 20 + 1e-9).all()
    assert want.importances_mean.max() > 1
    assert "column 1 -" in e.provenance["notes"][-1]


def test_few_repeats_are_within_their_errors():
    rows = normal(200, 4, seed=7)
    model = wrap(lambda z: (z[:, :1] * z[:, 1:2] + z[:, 2:3]))
    want = PermutationImportance(repeats=200)(ask(model, rows, Output(), baseline=Samples(rows)))
    some, half = (PermutationImportance(repeats=r)(ask(model, rows, Output(), baseline=Samples(rows))) for r in (20, 100))
    off = (half.values - want.values)[:, :3]
    assert 0.9 < off.square().mean().sqrt() / half.error[:, :3].square().mean().sqrt() < 1.1, "half the rows are known"
    inside = ((some.values - want.values).abs() <= 1.96 * some.error + 1e-12).double().mean(0)
    assert (inside[:3] > 0.9).all()
    assert (inside[:3] < 0.985).all()
    assert some.values[:, 3].abs().max() < 1e-14


def test_columns_of_a_group_are_taken_from_one_row():
    e = PermutationImportance(masker=TableMasker(groups={"pair": [1, 2]}), repeats=5)(asked())
    assert e.players.names[0] == ("pair", "column 0")
    y = torch.tensor(Y, dtype=torch.float64)
    z = X[:, None].repeat(1, 5, 1)
    z[:, :, 1:] = X[None, :, 1:]
    want = (f(X)[:, 0] - y) ** 2 - ((f(z.reshape(25, 3)).reshape(5, 5) - y[:, None]) ** 2).mean(1)
    torch.testing.assert_close(e.players.values[:, 0], want, rtol=1e-9, atol=1e-12)


def test_a_row_keeps_its_draws_wherever_it_lies():
    whole = PermutationImportance(repeats=2)(asked(ids=tuple("abcde")))
    part = PermutationImportance(repeats=2)(ask(wrap(f), X[3:4], Loss(Y[3]), baseline=Samples(X), ids=("d",)))
    torch.testing.assert_close(part.values[0], whole.values[3])
    other = PermutationImportance(repeats=2)(asked(ids=tuple("abcde"), seed=1))
    assert not torch.equal(other.values, whole.values)
    assert pytest.approx(0) != float(whole.error.max())
