"""The mathematics of mask fidelity against slow, obvious twins and planted truth."""

import numpy as np
import pytest
import torch

from pellucid.metrics import _fidelity as fidelity
from pellucid.metrics._mask_pool import generator, image_masks


@pytest.fixture(scope="module")
def pool():
    m = image_masks(128, (56, 56), 0, ["a"])
    truth = torch.randn(7, 7, generator=generator(0, "a", "truth"), dtype=torch.float64)
    truth = truth.repeat_interleave(4, 0).repeat_interleave(4, 1)
    return m, truth, m.small(0).double() @ truth.flatten()


def slow_r(heat, masks, answers, controls=()):
    m, y, a = masks.double().numpy(), answers.double().numpy(), heat.double().numpy().ravel()
    area = m.mean(1)
    z = np.stack([np.ones(len(m)), area, area**2, *(m @ c.double().numpy().ravel() for c in controls)], 1)
    s = m @ a
    left = [v - z @ np.linalg.lstsq(z, v, rcond=None)[0] for v in (s, y)]
    return np.corrcoef(*left)[0, 1]


def test_correlate_equals_least_squares_twin(pool):
    m, truth, answers = pool
    noisy = answers + 30 * torch.randn(128, generator=generator(1, 0, "n"), dtype=torch.float64)
    heat = truth + torch.randn(28, 28, generator=generator(2, 0, "n"), dtype=torch.float64)
    controls = (torch.rand(28, 28, generator=generator(3, 0, "n"), dtype=torch.float64), torch.rand(28, 28, generator=generator(4, 0, "n"), dtype=torch.float64))
    for c in ((), controls):
        got = fidelity.fit(m.small(0), noisy, c).correlate(heat.flatten()[None])[0]
        assert float(got) == pytest.approx(slow_r(heat, m.small(0), noisy, c), abs=1e-9)
        assert abs(float(got)) > 0.1


def test_planted_truth_is_perfect_and_its_negative_the_opposite(pool):
    m, truth, answers = pool
    f = fidelity.fit(m.small(0), answers)
    maps = torch.stack([truth.flatten(), -truth.flatten(), torch.ones(784), torch.zeros(784)])
    assert f.correlate(maps).tolist() == pytest.approx([1, -1, 0, 0], abs=1e-9)


def test_truth_beats_itself_moved_and_a_moved_truth_does_not(pool):
    m, truth, answers = pool
    f = fidelity.fit(m.small(0), answers)
    here = fidelity.against(f, truth, fidelity.moved(truth, 299, generator(0, "a", "null")))
    away = truth.roll((12, 8), (0, 1)).rot90()
    there = fidelity.against(f, away, fidelity.moved(away, 299, generator(0, "a", "null")))
    assert here.z > 3
    assert here.p < 0.02
    assert there.z < 1
    assert there.p > 0.1


def test_a_control_map_has_nothing_left(pool):
    m, truth, answers = pool
    other = torch.rand(28, 28, generator=generator(3, 0, "n"), dtype=torch.float64)
    f = fidelity.fit(m.small(0), answers, (truth, other))
    assert f.correlate(torch.stack([2 * truth.flatten(), other.flatten()])).tolist() == [0, 0]


def test_constant_answers_say_nothing(pool):
    m, truth, _ = pool
    f = fidelity.fit(m.small(0), torch.full((128,), 3.0))
    chance = fidelity.against(f, truth, fidelity.moved(truth, 9, generator(0, 0, "")))
    assert (chance.r, chance.z) == (0, 0)
    assert fidelity.ceiling(m.cells(0), torch.full((128,), 3.0)) == 0


def test_moved_maps_are_rolled_turned_and_mirrored():
    heat = torch.arange(12.0).view(3, 4)
    got = fidelity.moved(heat, 60, generator(0, 0, "x")).view(60, 3, 4)
    poses = [t for k in (0, 2) for r in (torch.rot90(heat, k),) for t in (r, r.flip(1))]
    every = {tuple(p.roll((i, j), (0, 1)).flatten().tolist()) for p in poses for i in range(3) for j in range(4)}
    assert {tuple(g.flatten().tolist()) for g in got} <= every
    assert len({tuple(g.flatten().tolist()) for g in got}) > 20
    square = torch.arange(9.0).view(3, 3)
    turned = fidelity.moved(square, 200, generator(0, 0, "x"))
    assert len({tuple(g.tolist()) for g in turned}) > 36  # quarter turns too: 72 places


def test_shuffled_features_keep_their_values():
    a = torch.randn(9, generator=generator(0, 0, "s"))
    got = fidelity.shuffled(a, 50, generator(0, 0, "x"))
    assert torch.equal(got.sort(1).values, a.sort().values.expand(50, 9))
    assert len(got.unique(dim=0)) > 40


def test_ceiling_is_high_for_additive_answers_and_low_for_noise(pool):
    m, _, answers = pool
    noise = torch.randn(128, generator=generator(9, 0, "n"), dtype=torch.float64)
    assert fidelity.ceiling(m.cells(0), answers) > 0.8
    assert abs(fidelity.ceiling(m.cells(0), noise)) < 0.3


def test_ceiling_equals_primal_ridge_twin(pool):
    m, _, answers = pool
    noisy = answers + 30 * torch.randn(128, generator=generator(1, 0, "n"), dtype=torch.float64)
    x, y = m.cells(0).double().numpy(), noisy.numpy()
    area = x.mean(1)
    z = np.stack([np.ones(128), area, area**2], 1)
    x, y = (v - z @ np.linalg.lstsq(z, v, rcond=None)[0] for v in (x, y))
    y, out = y / np.linalg.norm(y), []
    for k in range(4):
        test = np.arange(128) // 2 % 4 == k
        w = np.linalg.solve(x[~test].T @ x[~test] + 3 * np.eye(49), x[~test].T @ y[~test])
        out.append(np.corrcoef(x[test] @ w, y[test])[0, 1])
    assert fidelity.ceiling(m.cells(0), noisy) == pytest.approx(np.mean(out), abs=1e-9)


def test_gini_equals_mean_difference_twin():
    a = torch.randn(5, 6, generator=generator(0, 0, "g"), dtype=torch.float64)
    v = a.abs().flatten()
    slow = (v[:, None] - v).abs().mean() / (2 * v.mean())
    assert fidelity.gini(a) == pytest.approx(float(slow), abs=1e-12)
    assert fidelity.gini(torch.zeros(3, 3)) == 0
    assert fidelity.gini(-torch.ones(3, 3)) == pytest.approx(0, abs=1e-12)
    one = torch.zeros(10, 10)
    one[3, 3] = 1
    assert fidelity.gini(one) == pytest.approx(0.99)
