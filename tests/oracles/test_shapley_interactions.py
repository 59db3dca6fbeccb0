"""Interaction indices against their definitions, a peer's numbers and a least-squares fit, and sampled ones against exact ones."""

import itertools
import math

import numpy as np
import pytest
import torch

from games import game_of, games, table
from pellucid.attribution import ExactShapley, ShapleyInteractions
from pellucid.attribution._coalitions import everyone
from pellucid.attribution._interactions import INDICES, counted, exactly, groups
from pellucid.attribution._shapley import kernel
from pellucid.attribution.shapley_interactions import _asked, _cube, _square

GROUPS = ((0,), (3,), (0, 1), (2, 4), (0, 1, 2), (1, 3, 5))
SHAPIQ = {
    ("SII", 2): [-0.26768474, 0.54097153, 0.2286447, 0.01227985],
    ("SII", 3): [-0.26768474, 0.54097153, 0.2286447, 0.01227985, -0.77124165, -0.60554206],
    ("k-SII", 2): [-1.19815578, 0.53012206, 0.2286447, 0.01227985],
    ("k-SII", 3): [-1.20616752, 0.63760005, 0.95478115, -1.64485892, -0.77124165, -0.60554206],
    ("STII", 2): [-1.324359, 0.74874577, 0.4687287, -0.33315727],
    ("STII", 3): [-1.324359, 0.74874577, 1.99316586, -1.76566371, -1.38257265, -0.66168096],
    ("FSII", 2): [-0.79755978, 0.53787926, 0.01654154, 0.0320146],
    ("FSII", 3): [-0.97441649, 0.80413685, 0.73427164, -0.73822789, -1.02748672, -0.14479367],
}
"""shapiq 1.4.1 ExactComputer on six players worth numpy default_rng(5).normal(size=64), nobody worth 0; player i is bit i."""


def by_definition(v, n, size):
    """SII of every group of that size: the weighted mean of its discrete derivative over the coalitions of the others."""
    out = []
    for group in itertools.combinations(range(n), size):
        rest, total = [i for i in range(n) if i not in group], 0.0
        for t in range(len(rest) + 1):
            for others in itertools.combinations(rest, t):
                base = sum(1 << i for i in others)
                parts = ((-1) ** (size - k) * v[base + sum(1 << i for i in c)] for k in range(size + 1) for c in itertools.combinations(group, k))
                total += sum(parts) * math.factorial(t) * math.factorial(n - t - size) / math.factorial(n - size + 1)
        out.append(total)
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("order", [2, 3])
def test_shapiq(index, order):
    v = torch.from_numpy(np.random.default_rng(5).normal(size=64))
    v[0] = 0
    found = exactly(index, order, v[:, None])
    at = {tuple(m.nonzero()[:, 0].tolist()): float(x) for m, x in zip(found.member, found.values[0], strict=True)}
    want = SHAPIQ[index, order]
    assert [at[g] for g in GROUPS[: len(want)]] == pytest.approx(want, abs=1e-6 if index == "FSII" else 2e-8)


@pytest.mark.parametrize("size", [2, 3])
def test_sii_by_definition(size):
    v = torch.from_numpy(np.random.default_rng(1).normal(size=32))
    found = exactly("SII", size, v[:, None])
    torch.testing.assert_close(found.values[0, found.member.sum(1) == size], by_definition(v, 5, size), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_fsii_is_the_nearest_polynomial(order):
    """Least squares by the Shapley kernel over all coalitions, the ends held."""
    n = 6
    v = torch.from_numpy(np.random.default_rng(2).normal(size=64))
    z, member = everyone(n), groups(n, order)
    x = torch.cat([torch.ones(64, 1), ((z.double() @ member.double().T).long() == member.sum(1)).double()], 1)
    w = kernel(n, z.sum(1))
    w[[0, -1]] = 1e8
    fit = torch.linalg.lstsq(x * w.sqrt()[:, None], (v * w.sqrt())[:, None]).solution[:, 0]
    torch.testing.assert_close(exactly("FSII", order, v[:, None]).values[0], fit[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("index", ["k-SII", "STII", "FSII"])
@pytest.mark.parametrize("order", [2, 3])
def test_all_groups_sum_to_the_answer(index, order):
    v = torch.from_numpy(np.random.default_rng(3).normal(size=(128, 2)))
    torch.testing.assert_close(exactly(index, order, v).values.sum(1), v[-1] - v[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("index", INDICES)
def test_a_polynomial_is_read_off(index):
    """A game of pairs has those pairs in every index, whatever is sampled."""
    worth = lambda z: z[:, 0] + 2 * z[:, 1] * z[:, 2] - 3 * z[:, 3] * z[:, 10]  # noqa: E731
    got = ShapleyInteractions(index=index, budget=400).estimate(game_of([worth], 14))
    want = torch.zeros(14, 14, dtype=torch.float64)
    want[1, 2] = want[2, 1] = 2
    want[3, 10] = want[10, 3] = -3
    pairs = got.interactions[0].clone().fill_diagonal_(0)
    torch.testing.assert_close(pairs, want, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got.values[0, [0, 1, 3]], torch.tensor([1.0, 1, -1.5], dtype=torch.float64), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("order", [2, 3])
def test_sampled_covers_exact(index, order):
    inside = []
    for kind in ("table", "network", "sparse", "largest"):
        all_ = ShapleyInteractions(index=index, order=order, budget=2**11).estimate(games(kind, 11, 4))
        own = games(kind, 11, 4)
        method = ShapleyInteractions(index=index, order=order, budget=500)
        flat = method.estimate(own)
        assert own.asked <= 500
        assert flat.triples is None or flat.triples.shape == (4, 11, 11, 11)
        told = _asked(games(kind, 11, 4), 500, index, order)
        worth = games(kind, 11, 4)(everyone(11))
        want = exactly(index, order, worth)
        torch.testing.assert_close(all_.interactions, _square(want))
        if order == 3:
            torch.testing.assert_close(all_.triples, _cube(want))
        inside.append(((told.values[:, 11:] - want.values).abs() <= 1.96 * told.error[:, 11:] + 1e-9).double().flatten())
    assert 0.88 <= float(torch.cat(inside).mean()) <= 0.99


def test_values_are_shapley_values():
    got = ShapleyInteractions(budget=2**9).estimate(games("table", 9, 2))
    torch.testing.assert_close(got.values, ExactShapley().estimate(games("table", 9, 2)).values)
    half = got.interactions.clone()
    single = half.diagonal(dim1=1, dim2=2).clone()
    pairs = half.sum(2) - single
    torch.testing.assert_close(single + pairs / 2, got.values, rtol=1e-9, atol=1e-9)


def test_coalitions_count_once_for_nothing():
    """The counts of all coalitions sum to zero: a constant game has no interactions."""
    for index in INDICES:
        assert counted(index, 2, everyone(5), groups(5, 2)).sum(0).abs().max() < 1e-12


def test_rows_stop_by_themselves():
    easy = lambda z: z.sum(1) + z[:, 0] * z[:, 1]  # noqa: E731
    both = ShapleyInteractions(budget=900, tol=0.05).estimate(game_of([easy, table(12, 1)], 12))
    alone = game_of([easy], 12)
    got = ShapleyInteractions(budget=900, tol=0.05).estimate(alone)
    assert alone.asked < 400
    torch.testing.assert_close(got.interactions[0], both.interactions[0])
