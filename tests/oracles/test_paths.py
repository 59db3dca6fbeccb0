"""Methods that follow a path, against slow twins in numpy that do one thing at a time, and against PAIR's `saliency` 0.2.1."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage, sparse
from torch import nn

from models import Residual, made, normal
from pellucid.attribution import XRAI, BlurIntegratedGradients, GradCAM, GuidedBackprop, GuidedGradCAM, GuidedIntegratedGradients, IntegratedGradients
from pellucid.attribution._segments import Regions, felzenszwalb, into_frame, out_of_frame
from pellucid.attribution.blur_integrated_gradients import Scales
from pellucid.backends import wrap
from pellucid.core.errors import UsageError
from pellucid.core.question import ask
from pellucid.core.target import Neuron

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
    return sum((b - a) * (slope(a) + slope(b)) / 2 for a, b in itertools.pairwise(points))


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
        want = sum(along(guided_path(b, a, flat, steps // (anchors + 1), fraction, distance), flat) for a, b in itertools.pairwise(at))
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


# ---------------------------------------------------------------- blur integrated gradients


def test_blurs_against_scipy():
    q = ask(wrap(made(Residual)), normal(3, 2, 9, 6), [0, 1, 2])
    sharp, *blurred = (Scales(q).at(torch.full((3,), s), torch.arange(3))[0] for s in (0.0, 2.0, 7.0, 400.0))
    assert torch.equal(sharp, q.point)
    for s, got in zip((2.0, 7.0), blurred, strict=False):
        want = ndimage.gaussian_filter(q.point.numpy(), [0, 0, s, s], mode="reflect", truncate=12)
        np.testing.assert_allclose(got.numpy(), want, atol=1e-10)
    torch.testing.assert_close(blurred[2], q.point.mean((2, 3), keepdim=True).expand_as(q.point))


def blurred_by_sum(v, s):
    """Every pixel of the mirrored plane, weighted by the wave that both have in common, one frequency after the other."""
    h, w = v.shape[1:]
    waves = [[np.cos(np.pi / n * k * (np.arange(n) + 0.5)) * np.sqrt((1 if k == 0 else 2) / n) for k in range(n)] for n in (h, w)]
    out = np.zeros_like(v)
    for i in range(h):
        for j in range(w):
            wave = np.outer(waves[0][i], waves[1][j])
            fade = np.exp(-(s**2) / 2 * ((np.pi * i / h) ** 2 + (np.pi * j / w) ** 2))
            out += (v * wave).sum((1, 2))[:, None, None] * fade * wave
    return out


@pytest.mark.parametrize("spacing", ["even", "root", "length"])
def test_blur_against_a_sum_over_steps(spacing):
    net, x, steps, sigma = made(Residual), normal(3, 2, 6, 6), 10, 4.0
    got = BlurIntegratedGradients(steps=steps, sigma=sigma, spacing=spacing)(ask(wrap(net), x, [0, 1, 2])).values
    for i in range(3):
        v = x[i].numpy()
        at = equal_lengths(v, sigma, steps) if spacing == "length" else [sigma * (k / steps) ** {"even": 1, "root": 0.5}[spacing] for k in range(steps + 1)]
        want = along([blurred_by_sum(v, s) for s in reversed(at)], slope_of(net, i))
        np.testing.assert_allclose(got[i].numpy(), want, rtol=1e-3 if spacing == "length" else 1e-9, atol=2e-4 if spacing == "length" else 1e-12)
        assert np.abs(want).max() > 1e-2


def equal_lengths(v, sigma, steps):
    """Blurs between which the picture moves equally far, by walking in 500 small steps."""
    grid = sigma * np.linspace(0, 1, 501) ** 2
    pictures = [blurred_by_sum(v, s) for s in grid]
    far = np.cumsum([0, *(np.linalg.norm(b - a) for a, b in itertools.pairwise(pictures))])
    return [float(np.interp(far[-1] * k / steps, far, grid)) for k in range(steps + 1)]


@pytest.mark.parametrize(("spacing", "tol"), [("length", 2e-3), ("even", 3e-2), ("root", 0.3)])
def test_blur_sums_to_the_change_however_the_steps_lie(spacing, tol):
    """PAIR multiplies a whole batch by the width of its last step: with steps even in the square of sigma its sum is 2 % off at a batch of 10."""
    net, x = made(Residual), normal(3, 2, 6, 6)
    q = ask(wrap(net), x, [0, 1, 2])
    change = q.target_values() - q.value(Scales(q).at(torch.full((3,), 4.0), torch.arange(3))[0])
    gap = BlurIntegratedGradients(steps=60, sigma=4, spacing=spacing)(q).values.flatten(1).sum(1) - change
    assert gap.abs().max() < tol * change.abs().max()


PAIR_BLUR = [
    [0.001281, 0.043051, 0.08703, 0.00066, -0.040996],
    [-0.033845, 0.014203, 0.049314, 0.326808, -0.037785],
    [0.039504, -0.185354, 0.016762, -0.643045, -0.131303],
    [-0.005498, 0.349182, 0.315279, 0.019008, -0.187659],
]
"""`BlurIG` of PAIR (saliency 0.2.1) with max_sigma 1.5, 3000 steps, grad_step 1e-4; rows 8 to 14 and columns 6 to 14 in steps of two."""


def test_blur_against_pair():
    """On a picture that is dark at its edges, where their zeros and our mirrors are the same; they blur with sampled kernels, we with the continuous one."""
    i = np.arange(24)
    bump = lambda y, x, s: np.exp(-((i[:, None] - y) ** 2 + (i[None] - x) ** 2) / (2 * s * s))  # noqa: E731
    picture = torch.from_numpy(2 * bump(11, 12, 1.6) - 1.5 * bump(13, 9, 1.3))[None, None]
    waves = torch.from_numpy(np.cos(np.outer(np.arange(1, 5), np.arange(576)) / 7))
    model = wrap(lambda z: (z.flatten(1) @ waves.T).sin().sum(1, keepdim=True), differentiable=True)
    got = BlurIntegratedGradients(sigma=1.5, steps=400)(ask(model, picture, 0)).values[0, 0, 8:16:2, 6:16:2]
    np.testing.assert_allclose(got.numpy(), PAIR_BLUR, atol=4e-3)


def test_blur_at_a_layer_that_all_passes_through():
    """Where nothing leads around the layer, its values sum to the same change as those of the input; for a neuron too."""
    net = made(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)))
    x = normal(3, 2, 6, 6)
    for target in ([0, 1, 2], Neuron("3", 1)):
        deep, flat = (BlurIntegratedGradients(steps=200)(ask(wrap(net), x, target, at=at)) for at in ("1", None))
        assert deep.values.shape == (3, 3, 4, 4)
        torch.testing.assert_close(deep.values.flatten(1).sum(1), flat.values.flatten(1).sum(1), rtol=1e-3, atol=1e-5)
        assert "100% to 100%" in deep.provenance["notes"][0]


# ---------------------------------------------------------------- XRAI


def regions(masks):
    return Regions(sparse.csr_array(np.array([m.ravel() for m in masks], dtype=np.int8)))


def greedy(gain, masks, fast):
    """The region that adds the highest mean, one pass over all of them for every region that is added."""
    out, taken, rest = np.full(gain.shape, np.nan), np.zeros(gain.shape, dtype=bool), list(masks)
    if fast:
        rest.sort(key=lambda m: -gain[m].mean())
    while rest := [m for m in rest if (m & ~taken).sum() >= 50]:
        best = rest[0] if fast else max(rest, key=lambda m: gain[m & ~taken].mean())
        out[best & ~taken] = gain[best & ~taken].mean()
        taken |= best
    out[~taken] = gain[~taken].mean()
    return out


@pytest.mark.parametrize("fast", [False, True])
def test_regions_joined_against_brute_force(fast):
    masks = [ndimage.gaussian_filter(normal(40, 40, seed=k).numpy(), 3) > 0.1 for k in range(30)]
    gain = ndimage.gaussian_filter(normal(40, 40, seed=99).numpy(), 2)
    got, want = regions(masks).joined(gain.ravel(), fast).reshape(40, 40), greedy(gain, masks, fast)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.sum(), gain.sum())
    assert len(np.unique(want.round(12))) > 5


PAIR_FULL = [
    [0.457948995, 0.457948995, -0.573898484, -0.572725385, -0.572725385],
    [0.457948995, 0.457948995, -0.573898484, 0.22771809, 0.016901967],
    [-0.292349722, -0.292349722, 0.22771809, 0.22771809, 0.22771809],
    [-0.292349722, -0.292349722, 0.22771809, 0.22771809, 0.52276031],
    [-0.292349722, -0.292349722, 0.22771809, 0.52276031, 0.52276031],
]
PAIR_FAST = [
    [0.457948995, 0.457948995, -0.459215486, -0.493341213, -0.493341213],
    [0.457948995, 0.457948995, -0.459215486, 0.22771809, 0.013268647],
    [-0.459215486, -0.459215486, 0.22771809, 0.22771809, 0.22771809],
    [-0.418975779, -0.459215486, 0.22771809, 0.22771809, 0.52276031],
    [-0.418975779, -0.418975779, 0.22771809, 0.52276031, 0.52276031],
]
"""`XRAI._xrai` and `_xrai_fast` of PAIR (saliency 0.2.1), every sixth pixel."""


@pytest.mark.parametrize(("fast", "want"), [(False, PAIR_FULL), (True, PAIR_FAST)])
def test_regions_joined_against_pair(fast, want):
    y, x = np.mgrid[:32, :32]
    gain = np.sin(y / 5) * np.cos(x / 7) + 0.3 * np.sin(x * y / 40)
    circles = ((8, 8, 7), (10, 14, 9), (22, 9, 8), (20, 22, 10), (27, 27, 6), (5, 26, 5), (16, 16, 4), (16, 16, 12))
    got = regions([(y - a) ** 2 + (x - b) ** 2 <= r * r for a, b, r in circles]).joined(gain.ravel(), fast)
    np.testing.assert_allclose(got.reshape(32, 32)[4::6, 4::6], want, atol=1e-9)


def test_regions_of_a_picture_against_scikit_image():
    """Every segment of every scale, widened by a disk of five."""
    segmentation = pytest.importorskip("skimage.segmentation")
    y, x = np.mgrid[:224, :224] / 224
    picture = np.stack([np.sin(9 * x) * (y > 0.5), (x + y > 0.9) * 1.0, np.cos(7 * y * x)])
    picture = (picture - picture.min()) / (picture.max() - picture.min()) * 2 - 1
    cuts = [segmentation.felzenszwalb(picture.transpose(1, 2, 0), scale=s, sigma=0.8, min_size=150, channel_axis=-1) for s in (50, 100, 150, 250, 500, 1200)]
    near = [[ndimage.distance_transform_edt(cut != k) <= 5 for k in range(cut.max() + 1)] for cut in cuts]
    want = np.array([m.ravel() for cut in near for m in cut])
    got = felzenszwalb(torch.from_numpy(3 * picture + 1)).inside.toarray().astype(bool)
    assert got.shape == want.shape
    assert len(want) > 12
    assert (got == want).all()


def test_pixels_shared_among_cells_and_back():
    for h, w in ((6, 9), (224, 224), (300, 500)):
        v = normal(2, h, w)
        frame = into_frame(v)
        torch.testing.assert_close(frame.sum((1, 2)), v.sum((1, 2)))
        torch.testing.assert_close(out_of_frame(frame, (h, w)).sum((1, 2)), v.sum((1, 2)))
    even = torch.ones(1, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(out_of_frame(into_frame(even), (6, 9)), even)
    torch.testing.assert_close(into_frame(normal(1, 224, 224)), normal(1, 224, 224))


@pytest.mark.parametrize("at", [None, "a"])
def test_xrai_sums_to_what_its_two_ends_sum_to(at):
    pytest.importorskip("skimage")
    net, x = made(Residual), normal(3, 2, 6, 6)
    e = XRAI(steps=20)(ask(wrap(net), x, [0, 1, 2], at=at))
    ends = [x.flatten(1).amin(1), x.flatten(1).amax(1)]
    black, white = (IntegratedGradients(steps=20)(ask(wrap(net), x, [0, 1, 2], at=at, baseline=v[:, None, None, None].expand_as(x))).values for v in ends)
    assert e.values.shape == (3, 1, 6, 6)
    torch.testing.assert_close(e.values.flatten(1).sum(1), (black + white).flatten(1).sum(1) / 2)
    assert e.values.std() > 1e-3


# ---------------------------------------------------------------- guided Grad-CAM


def rectified():
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(45, 3))


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("layer", ["1", "3"])
def test_guided_grad_cam_against_captum(layer):
    """captum 0.9.0, whose guided backprop sees modules of ReLU alone."""
    peer = pytest.importorskip("captum.attr").GuidedGradCam
    net, x = made(rectified), normal(3, 2, 6, 6)
    e = GuidedGradCAM(through=layer)(ask(wrap(net), x, [0, 1, 2]))
    want = peer(net, net[int(layer)]).attribute(x.clone().requires_grad_(), target=torch.tensor([0, 1, 2]), interpolate_mode="bilinear")
    cam = GradCAM()(ask(wrap(net), x, [0, 1, 2], at=layer)).values
    largest = nn.functional.interpolate(cam, (6, 6), mode="bilinear").amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(e.values * largest, want.detach(), rtol=1e-9, atol=1e-15)
    assert want.abs().max() > 1e-6


def test_guided_grad_cam_finds_the_layer_and_is_a_product():
    net, x = made(Residual), normal(3, 2, 6, 6)
    q = ask(wrap(net), x, [0, 1, 2])
    e, cam = GuidedGradCAM()(q), GradCAM()(q)
    torch.testing.assert_close(e.values, GuidedBackprop()(q).values * cam.values / cam.values.amax((1, 2, 3), keepdim=True))
    assert e.at == cam.at
    with pytest.raises(UsageError, match="Leave one"):
        GuidedGradCAM(through="a")(ask(wrap(net), x, [0, 1, 2], at="b"))
