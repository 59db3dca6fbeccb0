"""Metrics of faithfulness against closed forms, slow twins, planted truth, and captum."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pel
from models import made
from pellucid import metrics as M
from pellucid.metrics._inpaint import inpaint
from pellucid.metrics._told import interval, ranked
from pellucid.metrics._units import units

GEN = torch.Generator().manual_seed(7)
X = torch.rand(4, 9, generator=GEN, dtype=torch.float64) + 0.5
W = torch.randn(3, 9, generator=GEN, dtype=torch.float64)
PICTURES = torch.rand(3, 2, 12, 12, generator=GEN, dtype=torch.float64)


class Line(nn.Module):
    """What each output is: W x."""

    def __init__(self, w=W):
        super().__init__()
        self.w = nn.Parameter(w.clone())
        self.eval()

    def forward(self, x):
        return x.flatten(1) @ self.w.T


class Corner(nn.Module):
    """Class 1 is the brightness of a corner of a picture, class 0 of nothing."""

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, x):
        corner = x[:, :, :4, :4].sum((1, 2, 3))
        return torch.stack([torch.zeros_like(corner), corner, -corner], 1)


def truth(x=X, target=0, model=None, **more):
    """The map that is right for a linear model: W x."""
    net = model or Line()
    values = W[target] * x if model is None else more.pop("values")
    return pel.assess(net, x, values, target=target, evidence="none", **more)


def corner_map(values=None, x=PICTURES, model=None):
    right = torch.zeros_like(x)
    right[:, :, :4, :4] = x[:, :, :4, :4]
    return pel.assess(model or Corner(), x, right if values is None else values, target=1, evidence="none")


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- curves


def slow_curve(x, w, order, reveal=False):
    """Answers as features are set to zero (or shown) one by one."""
    z = torch.zeros_like(x) if reveal else x.clone()
    out = [float(z @ w)]
    for i in order:
        z[i] = x[i] if reveal else 0
        out.append(float(z @ w))
    return np.array(out)


@pytest.mark.parametrize(("metric", "reveal"), [(M.Deletion, False), (M.Insertion, True)])
def test_areas_of_a_linear_model(metric, reveal):
    e = truth()
    found = metric(steps=9, fill="baseline")(e).values
    for i in range(4):
        order = (W[0] * X[i]).argsort(descending=True).tolist()
        assert float(found[i]) == pytest.approx(np.trapezoid(slow_curve(X[i], W[0], order, reveal), dx=1 / 9), rel=1e-12)


def test_the_right_order_is_the_best_there_is():
    right, wrong = truth(), truth(values=-W[0] * X, model=Line())
    assert bool((M.Deletion(fill="baseline")(right).values < M.Deletion(fill="baseline")(wrong).values).all())
    assert bool((M.Insertion(fill="baseline")(right).values > M.Insertion(fill="baseline")(wrong).values).all())
    many = X.repeat(20, 1)
    others = M.PixelFlipping(fill="baseline")(truth(many, values=noise(many.shape), model=Line())).values.reshape(20, 4)
    assert bool((M.PixelFlipping(fill="baseline")(right).values >= others - 1e-12).all())


def test_probabilities_are_read_where_they_are_asked_for():
    e = truth()
    curve = M.Deletion(steps=3, fill="baseline", answer="probability").curve(e)
    assert torch.allclose(curve.answers[0], (X @ W.T).softmax(1)[:, 0])
    assert torch.allclose(curve.answers[-1], torch.full((4,), 1 / 3, dtype=torch.float64))
    with pytest.raises(pel.NotApplicable, match="about a class"):
        M.Deletion(answer="probability")(pel.assess(Line(), X, X, target=pel.Contrast(0, 1), evidence="none"))


def test_pixel_flipping_is_the_mean_fall():
    e = truth()
    found = M.PixelFlipping(steps=9, fill="baseline")(e).values
    least = M.PixelFlipping(steps=9, fill="baseline", order="least")(e).values
    for i in range(4):
        curve = slow_curve(X[i], W[0], (W[0] * X[i]).argsort(descending=True).tolist())
        assert float(found[i]) == pytest.approx((curve[0] - curve[1:]).mean(), rel=1e-12)
    assert bool((least < found).all())


def test_a_constant_map_is_flipped_in_random_order_and_rows_do_not_depend_on_neighbours():
    many = X.repeat(60, 1)
    scores = M.PixelFlipping(steps=9, fill="baseline")(truth(many, values=torch.ones_like(many), model=Line())).values.reshape(60, 4)
    f = X @ W[0]
    random = f * (sum(range(1, 10)) / 81)
    assert bool(((scores.mean(0) - random).abs() < 4 * scores.std(0) / math.sqrt(60)).all())
    whole, alone = (M.Deletion(fill="baseline")(truth(x, values=torch.ones_like(x), model=Line())).values for x in (X, X[:1]))
    assert float(alone[0]) == pytest.approx(float(whole[0]), rel=1e-12)


def test_region_perturbation_takes_the_corner_first():
    e = corner_map()
    found = M.RegionPerturbation(patch=4, steps=2, fill="baseline")(e).values
    corner = PICTURES[:, :, :4, :4].sum((1, 2, 3))
    assert torch.allclose(found, corner * 2 / 3)
    noisy = M.RegionPerturbation(patch=4, steps=1, draws=40)(e).values
    expected = [float(x[:, :4, :4].sum() - 32 * (x.min() + x.max()) / 2) / 2 for x in PICTURES]
    assert torch.allclose(noisy, torch.tensor(expected, dtype=torch.float64), atol=0.35)


def test_irof_of_one_decisive_segment():
    labels = torch.arange(9).reshape(3, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    e = corner_map()
    found = M.Irof(masker=labels, fill="baseline", answer="target")(e).values
    assert torch.allclose(found, torch.full((3,), 1 - 0.5 / 9, dtype=torch.float64))
    many = PICTURES.repeat(40, 1, 1, 1)
    random = interval(M.Irof(masker=labels, fill="baseline", answer="target")(corner_map(noise(many.shape), many)).values)
    assert random.low < 0.5 < random.high


def test_sufficiency_and_comprehensiveness_of_a_linear_model():
    e = truth()
    order = (W[0] * X).argsort(1, descending=True)
    top = torch.stack([(W[0] * X).gather(1, order)[:, :k].sum(1) for k in (1, 2, 5)]).mean(0)
    f = X @ W[0]
    given = {"shares": (0.1, 0.2, 0.5), "fill": "baseline"}
    assert torch.allclose(M.Comprehensiveness(**given)(e).values, top)
    assert torch.allclose(M.Sufficiency(**given)(e).values, f - top)


def test_sufficiency_of_words():
    def classifier(texts):
        return torch.tensor([[0.0, 2.0 * ("good" in t.split()) - ("not" in t.split())] for t in texts])

    e = pel.explain(classifier, "a good film and not long", method="feature-ablation", target=1, evidence="none")
    assert float(M.Sufficiency(shares=(0.16,))(e).values[0]) == pytest.approx(-1)
    assert float(M.Comprehensiveness(shares=(0.16,))(e).values[0]) == pytest.approx(2)


# ---------------------------------------------------------------- subsets


EXACT = [M.FaithfulnessCorrelation(samples=40), M.SensitivityN(samples=20), M.MuFidelity(samples=40, fill="baseline"), M.FaithfulnessEstimate(), M.LinearDatamodelingScore(fill="baseline")]
BY_CHANCE = [M.FaithfulnessCorrelation(samples=60), M.SensitivityN(samples=20), M.MuFidelity(samples=60), M.FaithfulnessEstimate(), M.LinearDatamodelingScore(), M.MonotonicityCorrelation()]


@pytest.mark.parametrize("metric", EXACT)
def test_a_linear_model_holds_them_exactly(metric):
    assert torch.allclose(metric(truth()).values, torch.ones(4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(metric(truth(values=-W[0] * X, model=Line())).values, -torch.ones(4, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("metric", BY_CHANCE)
def test_random_maps_score_as_chance(metric):
    wide = noise((40, 40), 3)
    net = Line(noise((3, 40), 4))
    found = interval(metric(pel.assess(net, wide, noise(wide.shape, 100), target=0, evidence="none")).values)
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.4


def test_subsets_against_a_slow_twin():
    e = truth(values=noise(X.shape), model=Line())
    metric = M.FaithfulnessCorrelation(samples=30, size=0.34)
    from pellucid.metrics._subsets import subsets

    u = units(e, "baseline")
    chosen = subsets(u, [0.34], 30)
    found = metric(e).values
    for i in range(4):
        marks = [chosen(torch.tensor([k]), torch.tensor([i]))[0] for k in range(30)]
        assert {int(m.sum()) for m in marks} == {3}
        held = [float(e.values[i][m].sum()) for m in marks]
        fall = [float(X[i] @ W[0] - torch.where(m, 0, X[i]) @ W[0]) for m in marks]
        assert float(found[i]) == pytest.approx(np.corrcoef(held, fall)[0, 1], rel=1e-9)


def test_fixed_size_masks_give_a_positive_map_nothing_for_counting():
    """A model that counts what is there: masks of random size would give any positive map a high score."""
    net = Line(torch.ones(1, 30, dtype=torch.float64))
    x = torch.rand(24, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 1
    e = pel.assess(net, x, torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64), target=0, evidence="none")
    found = interval(M.LinearDatamodelingScore()(e).values)
    assert found.low < 0 < found.high
    with pytest.raises(pel.NotApplicable, match="does not vary"):
        M.LinearDatamodelingScore()(pel.assess(net, x, torch.ones_like(x), target=0, evidence="none"))


def test_monotonicity():
    e = truth()
    falls = (W[0] * X < 0).double().sum(1)
    assert torch.allclose(M.Monotonicity()(e).values, 1 - (falls - 1) / 8)  # the first one is there before the first step
    positive = pel.assess(Line(W.abs()), X, W[0].abs() * X, target=0, evidence="none")
    assert M.Monotonicity(strict=True)(positive).values.tolist() == [1, 1, 1, 1]
    assert M.Monotonicity(strict=True)(e).values.tolist() == [0, 0, 0, 0]


def test_monotonicity_correlation_of_a_linear_model():
    """The spread of a feature drawn alone is w^2 times a number that hardly depends on the feature."""
    x = torch.full((2, 9), 0.5, dtype=torch.float64) + 0.01 * noise((2, 9))
    w = torch.linspace(1, 3, 9, dtype=torch.float64)[None]
    right = M.MonotonicityCorrelation(draws=200)(pel.assess(Line(w), x, w * x, target=0, evidence="none")).values
    assert float(right.min()) > 0.6


def test_ranks_have_ties_at_their_mean():
    assert ranked(torch.tensor([[3.0, 1.0, 3.0]])).tolist() == [[2.5, 1.0, 2.5]]


# ---------------------------------------------------------------- infidelity


def gradients(x=X, model=None, target=0):
    return pel.explain(model or Line(), x, target=target, method="saliency", evidence="none", absolute=False)


def test_the_gradient_of_a_linear_model_has_no_infidelity():
    assert float(M.Infidelity(kind="gaussian")(gradients()).values.max()) < 1e-20
    for kind in ("square", "subset"):
        assert float(M.Infidelity(kind=kind)(truth()).values.max()) < 1e-20
        assert float(M.Infidelity(kind=kind)(corner_map()).values.max()) < 1e-18
    nothing = truth(values=torch.zeros_like(X), model=Line())
    assert torch.allclose(M.Infidelity(kind="subset", relative=True)(nothing).values, torch.ones(4, dtype=torch.float64))
    twice = truth(values=2 * W[0] * X, model=Line())
    assert float(M.Infidelity(kind="subset")(twice).values.min()) > 0.01
    assert float(M.Infidelity(kind="subset", normalize=True)(twice).values.max()) < 1e-20


def test_infidelity_of_noise_in_closed_form():
    """For a linear model and another map, the mean of (I . (map - w))^2 is sigma^2 |map - w|^2."""
    values = noise(X.shape)
    found = M.Infidelity(kind="gaussian", samples=4000, sigma=0.2)(truth(values=values, model=Line())).values
    assert torch.allclose(found, 0.04 * (values - W[0]).square().sum(1), rtol=0.1)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_equals_captum(normalize):
    captum = pytest.importorskip("captum.metrics")
    net = made(lambda: nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3)))
    e = gradients(model=net)
    queue = 0.3 * noise((50, *X.shape))
    turn = iter(queue)
    theirs = captum.infidelity(net, lambda x: ((n := next(turn)), x - n), X, e.values, target=0, n_perturb_samples=50, max_examples_per_batch=4, normalize=normalize)

    asked = []

    def perturb(x):
        n = torch.stack([next(n for n in turns[int((row == X).all(1).nonzero()[0])]) for row in x])
        asked.append(len(x))
        return n, x - n

    turns = [iter(queue[:, i]) for i in range(4)]
    ours = M.Infidelity(samples=50, perturb=perturb, normalize=normalize)(e).values
    assert sum(asked) == 200
    assert torch.allclose(ours, theirs.double(), rtol=1e-9)
    turns = [iter(queue[:, i]) for i in range(4)]
    bare = M.Infidelity(samples=50, perturb=lambda x: perturb(x)[1], normalize=normalize)(e).values
    assert torch.allclose(bare, theirs.double(), rtol=1e-9)


# ---------------------------------------------------------------- ROAD


def slow_inpaint(x, missing):
    """Each missing pixel as the weighted mean of its neighbours, by dense algebra."""
    c, h, w = x.shape
    a, b = np.eye(h * w), x.reshape(c, -1).T.copy()
    for y, col in np.argwhere(missing):
        i = y * w + col
        near = [(y + dy, col + dx, 1 / 6 if dy * dx == 0 else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
        inside = [(yy * w + xx, k) for yy, xx, k in near if 0 <= yy < h and 0 <= xx < w]
        total = sum(k for _, k in inside)
        for j, k in inside:
            a[i, j] -= k / total
        b[i] = 0
    return np.linalg.solve(a, b).T.reshape(c, h, w)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("smooth", [True, False])
def test_all_holes_are_solved_at_once(share, smooth):
    x = noise((3, 2, 13, 18))
    heat = noise((3, 1, 13, 18), 1)
    heat = torch.nn.functional.avg_pool2d(heat, 5, 1, 2) if smooth else heat
    missing = heat >= heat.flatten(1).quantile(1 - share, 1)[:, None, None, None]
    found = inpaint(x, missing, tol=1e-10)
    for i in range(3):
        assert np.allclose(found[i].numpy(), slow_inpaint(x[i].numpy(), missing[i, 0].numpy()), atol=1e-8)
    assert torch.equal(inpaint(x, torch.zeros_like(missing)), x)


def test_road_sees_the_corner_and_chance_is_zero():
    x = PICTURES.clone()
    x[:, :, :4, :4] += 2
    right = M.Road()(corner_map(x=x)).values
    assert float(right.min()) > 15  # the corner holds about 80; its surroundings fill it with 16
    many = x.repeat(8, 1, 1, 1)
    found = interval(M.Road()(corner_map(noise(many.shape), many)).values)
    assert found.low < 0 < found.high < 5


def test_road_removes_as_much_of_a_map_with_ties():
    """Where pixels are cut at a threshold, a map that is mostly zero loses none or all of its pixels."""
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.flatten(1)[:, :3]

    values = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    values[0, 0, :2, :2] = 1
    e = pel.assess(Watch().eval(), PICTURES[:1], values, target=0, evidence="none")
    seen.clear()
    M.Road(shares=(0.2, 0.8), order="most")(e)
    changed = sorted({int((z != PICTURES[0]).any(0).sum()) for batch in seen for z in batch} - {0})
    assert changed == [math.ceil(0.2 * 144), math.ceil(0.8 * 144)]


def test_road_takes_one_channel_maps_of_colour_pictures():
    """Quantus 0.6.0 raises IndexError here: it counts 3 H W places in a map of H W."""
    one = torch.zeros(3, 1, 12, 12, dtype=torch.float64)
    one[:, :, :4, :4] = 1
    assert M.Road(noise=0)(corner_map(one)).values.shape == (3,)
    with pytest.raises(pel.NotApplicable, match="needs pictures"):
        M.Road()(truth())


# ---------------------------------------------------------------- what all share


def test_coarse_maps_are_blown_up():
    coarse = torch.zeros(3, 1, 3, 3, dtype=torch.float64)
    coarse[:, :, 0, 0] = 1
    good, bad = (M.Deletion(fill="baseline")(corner_map(v)).values for v in (coarse, coarse.flip(3)))
    assert bool((good < bad).all())


def test_intervals():
    v = torch.tensor([1.0, 2.0, 3.0, math.nan], dtype=torch.float64)
    found = interval(v)
    assert (found.mean, found.rows) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.302652729911275 / math.sqrt(3))
    assert "no interval" in M.Deletion(fill="baseline")(truth(x=X[:1])).sentence
    assert "95 % interval" in M.Deletion(fill="baseline")(truth()).sentence


def test_forward_rows_are_as_many_as_the_card_says():
    count = []

    class Counted(Line):
        def forward(self, x):
            count.append(len(x))
            return super().forward(x)

    e = pel.assess(Counted(), X, W[0] * X, target=0, evidence="none")
    for metric, most in ((M.Deletion(steps=5), 6 * 4), (M.MuFidelity(samples=20), 21 * 4), (M.Sufficiency(), 6 * 4), (M.Infidelity(samples=10), 11 * 4)):
        count.clear()
        metric(e)
        assert 0 < sum(count) <= most + 4, metric
