"""Methods that follow a path, against slow twins in numpy that do one thing at a time, and against PAIR's `saliency` 0.2.1."""

import numpy as np
import pytest
import torch

from models import Residual, made, normal
from pellucid.attribution import GuidedIntegratedGradients
from pellucid.backends import wrap
from pellucid.core.question import ask

# ---------------------------------------------------------------- guided integrated gradients


def slope_of(net, y):
    """The gradient of one class at one row, in numpy."""

    def slope(v):
        z = torch.from_numpy(v)[None].clone().requires_grad_()
        return torch.autograd.grad(net(z)[0, y], z)[0][0].numpy()

    return slope


def guided_path(x, x0, slope, steps, fraction, distance):
    """Algorithm 1 of the paper, one feature after the other: the points of the path."""
    points, z = [x0.copy()], x0.copy()
    total = np.abs(x - x0).sum()
    for step in range(1, steps + 1):
        g = np.abs(slope(z))
        low, high = max(step / steps - distance, 0), min(step / steps + distance, 1)
        reached = [x0[i] + high * (x[i] - x0[i]) for i in range(len(x))]
        z = np.array([x0[i] + max(low, (z[i] - x0[i]) / (x[i] - x0[i])) * (x[i] - x0[i]) if x[i] != x0[i] else z[i] for i in range(len(x))])
        while np.abs(x - z).sum() - total * (1 - step / steps) > 1e-9 * total:
            left = np.abs(x - z).sum() - total * (1 - step / steps)
            size = [np.inf if abs(reached[i] - z[i]) < 1e-12 else g[i] for i in range(len(x))]
            limit = sorted(size)[int(fraction * (len(x) - 1))]
            chosen = [i for i in range(len(x)) if size[i] <= limit and size[i] < np.inf]
            share = min(1, left / sum(abs(reached[i] - z[i]) for i in chosen))
            for i in chosen:
                z[i] += share * (reached[i] - z[i])
        points.append(z.copy())
    return points


def along(points, slope):
    """The mean gradient of the two ends of every step, times the step."""
    return sum((b - a) * (slope(a) + slope(b)) / 2 for a, b in zip(points, points[1:], strict=False))


@pytest.mark.parametrize(("steps", "fraction", "distance", "anchors"), [(40, 0.25, 0.02, 0), (9, 0.1, 0.3, 0), (20, 0.5, 1.0, 0), (12, 0.25, 0.2, 3)])
def test_guided_against_the_papers_algorithm(steps, fraction, distance, anchors):
    net, x = made(Residual), normal(3, 2, 6, 6)
    x[1, 0, 0] = 0.1  # where the baseline is right already
    e = GuidedIntegratedGradients(steps=steps, fraction=fraction, distance=distance, anchors=anchors)(ask(wrap(net), x, [0, 1, 2], baseline=0.1))
    for i in range(3):
        whole = slope_of(net, i)
        flat = lambda v, s=whole: s(v.reshape(2, 6, 6)).ravel()  # noqa: E731
        end, start = x[i].numpy().ravel(), np.full(72, 0.1)
        at = [start + k / (anchors + 1) * (end - start) for k in range(anchors + 2)]
        want = sum(along(guided_path(b, a, flat, steps // (anchors + 1), fraction, distance), flat) for a, b in zip(at, at[1:], strict=False))
        np.testing.assert_allclose(e.values[i].numpy().ravel(), want, rtol=1e-7, atol=1e-9)
        assert np.abs(want).max() > 1e-2


WAVES = np.cos(np.outer(np.arange(1, 5), np.arange(1, 9)))
PAIR_POINTS = {
    1: [0.25, 0.25, 0.028, 0.25, 0.25, 0.25, 0.25, 0.768],
    4: [0.105, -0.625, -0.275, 0.145, 0.425, 0.305, 0.3805734602, 1.1994265398],
    8: [-0.475, -1.0, -0.5, 0.1, 0.5, 0.525, 1.1827421992, 1.8372578008],
}
"""Where PAIR's `guided_ig_impl` (saliency 0.2.1) stands after so many of its 10 steps, with fraction .25 and max_dist .3."""


def test_guided_takes_the_path_that_pair_takes():
    asked = []

    def f(z):
        asked.append(z.detach().clone())
        return (z @ torch.from_numpy(WAVES).T).sin().sum(1, keepdim=True)

    x = torch.linspace(-1.5, 2, 8, dtype=torch.float64) + torch.tensor([0.3, 0, 0, 0.1, 0, -0.2, 0, 0], dtype=torch.float64)
    GuidedIntegratedGradients(steps=10, fraction=0.25, distance=0.3)(ask(wrap(f, differentiable=True), x[None], 0, baseline=0.25, batch_size=1))
    for k, point in PAIR_POINTS.items():
        assert min(float((z[0] - torch.tensor(point, dtype=torch.float64)).abs().max()) for z in asked) < 1e-9, k


def test_guided_sums_to_the_change_as_steps_grow():
    q = ask(wrap(made(Residual)), normal(3, 2, 6, 6), [0, 1, 2])
    change = q.target_values() - q.value(q.start)
    gaps = [float((GuidedIntegratedGradients(steps=n)(q).values.flatten(1).sum(1) - change).abs().max()) for n in (10, 40, 160)]
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 2e-3 * change.abs().max()


def test_guided_within_no_distance_is_integrated_gradients():
    """Trapezoids on the straight path."""
    net, x = made(Residual), normal(3, 2, 6, 6)
    got = GuidedIntegratedGradients(steps=8, distance=0)(ask(wrap(net), x, [0, 1, 2])).values
    for i in range(3):
        want = along([x[i].numpy() * k / 8 for k in range(9)], slope_of(net, i))
        np.testing.assert_allclose(got[i].numpy(), want, rtol=1e-9, atol=1e-12)
