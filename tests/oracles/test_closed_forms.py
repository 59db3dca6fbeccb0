"""Where the answer is known: linear models, polynomials, long references, slow loops that are obviously right."""

import copy

import pytest
import torch
from torch import nn

from models import Counting, MiniViT, Reused, made, normal, smooth, subjects
from pellucid.attribution import GradCAM, InputXGradient, IntegratedGradients, Occlusion, Saliency, SmoothGrad
from pellucid.backends import wrap
from pellucid.core.question import Samples, ask
from pellucid.core.target import Contrast, Label, Probability
from pellucid.core.tree import leaves


class Linear(nn.Module):
    """w . x + b, three classes of five columns."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(x)


@pytest.fixture
def linear():
    net = made(Linear)
    return net, net.out.weight.detach(), normal(4, 5), torch.tensor([0, 1, 2, 1])


# ---------------------------------------------------------------- linear models


def test_linear_model(linear):
    net, w, x, y = linear
    q = ask(wrap(net), x, y, baseline=0.5)
    mine = w[y]
    exact = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(Saliency(absolute=False)(q).values, mine, **exact)
    torch.testing.assert_close(Saliency()(q).values, mine.abs(), **exact)
    torch.testing.assert_close(InputXGradient()(q).values, x * mine, **exact)
    torch.testing.assert_close(InputXGradient(against_baseline=True)(q).values, (x - 0.5) * mine, **exact)
    for method in (IntegratedGradients(), IntegratedGradients(steps=1), IntegratedGradients(steps=3, rule="midpoint")):
        torch.testing.assert_close(method(q).values, (x - 0.5) * mine, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(Occlusion()(q).values, (x - 0.5) * mine, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(SmoothGrad(samples=3)(q).values, mine, **exact)
    assert mine.abs().min() > 1e-3


def test_linear_model_and_a_window_of_two(linear):
    """Each window's drop is the sum over its columns, and a value the mean over the windows that cover it."""
    net, w, x, y = linear
    parts = (x - 0.5) * w[y]
    pairs = parts[:, :-1] + parts[:, 1:]
    want = torch.stack([pairs[:, 0], *((pairs[:, i - 1] + pairs[:, i]) / 2 for i in range(1, 4)), pairs[:, 3]], 1)
    torch.testing.assert_close(Occlusion(window=2, stride=1)(ask(wrap(net), x, y, baseline=0.5)).values, want, rtol=1e-10, atol=1e-12)


def test_targets_of_a_linear_model(linear):
    net, w, x, _ = linear
    model = wrap(net)
    contrast = Saliency(absolute=False)(ask(model, x, Contrast(2, 0))).values
    torch.testing.assert_close(contrast, (w[2] - w[0]).expand(4, -1))
    p = net(x).softmax(1).detach()
    want = p[:, 1:2] * (w[1] - p @ w)
    torch.testing.assert_close(Saliency(absolute=False)(ask(model, x, Probability(1))).values, want)


# ---------------------------------------------------------------- polynomials: the order of the rules


class Power(nn.Module):
    """sum of x^p: integrated gradients are x^p, whatever the path's length."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return (x**self.p).sum(1, keepdim=True)


@pytest.mark.parametrize(("p", "n", "exact"), [(2, 1, True), (4, 2, True), (6, 3, True), (8, 3, False), (5, 2, False)])
def test_gauss_legendre_is_exact_up_to_its_degree(p, n, exact):
    """n nodes integrate degree 2n - 1: the gradient of x^(2n) exactly, and nothing beyond."""
    x = normal(2, 3).abs() + 0.5
    got = IntegratedGradients(steps=n)(ask(wrap(Power(p).eval()), x)).values
    assert torch.allclose(got, x**p, rtol=1e-12) is exact


def test_midpoint_is_exact_for_linear_gradients_and_converges_as_the_square():
    x = normal(2, 3).abs() + 0.5
    model = wrap(Power(2).eval())
    torch.testing.assert_close(IntegratedGradients(steps=3, rule="midpoint")(ask(model, x)).values, x**2)
    error = [float((IntegratedGradients(steps=n, rule="midpoint")(ask(wrap(Power(4).eval()), x)).values - x**4).abs().max()) for n in (8, 16, 32)]
    assert 3.9 < error[0] / error[1] < 4.1
    assert 3.9 < error[1] / error[2] < 4.1


# ---------------------------------------------------------------- integrated gradients against a long reference


def reference(net, x, x0, y, n=3000):
    """The midpoint rule with `n` nodes, one plain autograd call each chunk."""
    total = torch.zeros_like(x)
    for t in ((torch.arange(n, dtype=torch.float64) + 0.5) / n).split(250):
        z = (x0 + t[:, None, None] * (x - x0)).detach().requires_grad_()
        out = net(z.flatten(0, 1)).unflatten(0, (len(t), len(x)))
        out.gather(2, y[None, :, None].expand(len(t), -1, 1)).sum().backward()
        total += z.grad.sum(0)
    return (x - x0) * total / n


@pytest.mark.parametrize(("build", "tol"), [(smooth, 1e-6), (Reused, 0.1)], ids=["smooth", "kinks"])
def test_auto_nodes_against_three_thousand(build, tol):
    net, x, y = made(build), 3 * normal(4, 5), torch.tensor([0, 1, 2, 1])
    want = reference(net, x, torch.full_like(x, 0.2), y)
    e = IntegratedGradients()(ask(wrap(net), x, y, baseline=0.2))
    error = (e.values - want).norm(dim=1) / want.norm(dim=1)
    assert error.max() < tol
    assert want.norm(dim=1).min() > 0.1
    single = (x - 0.2) * Saliency(absolute=False)(ask(wrap(net), x, y)).values
    assert ((single - want).norm(dim=1) / want.norm(dim=1)).max() > 5 * tol, "one node would have passed too"


def test_auto_spends_more_where_a_smaller_error_is_asked_for():
    net, x, y = made(Reused), 3 * normal(4, 5), torch.tensor([0, 1, 2, 1])
    want = reference(net, x, torch.zeros_like(x), y)
    rough, fine = (IntegratedGradients(tol=tol)(ask(wrap(net), x, y)) for tol in (0.3, 0.001))
    far = [float(((e.values - want).norm(dim=1) / want.norm(dim=1)).max()) for e in (rough, fine)]
    assert rough.cost.backward_rows < fine.cost.backward_rows
    assert far[1] < min(far[0], 0.01)


def test_auto_is_told_apart_row_by_row():
    """A smooth row beside one with kinks keeps its 21 nodes."""
    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)).double().eval()
    with torch.no_grad():
        net[0].weight[:, 1] = 0
        net[0].bias[:] = torch.linspace(-3, 3, 16)
    x = torch.tensor([[0.0, 1.0], [5.0, 1.0]], dtype=torch.float64)
    x[0, 0] = 1e-6
    e = IntegratedGradients(tol=1e-4)(ask(wrap(net), x))
    assert e.cost.backward_rows > 21
    alone = IntegratedGradients(tol=1e-4)(ask(wrap(net), x[:1]))
    assert alone.cost.backward_rows == 21
    torch.testing.assert_close(alone.values[0], e.values[0])


def test_expected_gradients_are_the_mean_over_baselines():
    net, x, y = made(Reused), normal(3, 5), torch.tensor([0, 1, 2])
    pool = normal(4, 5, seed=9)
    model = wrap(net)
    method = IntegratedGradients(steps=16)
    e = method(ask(model, x, y, baseline=Samples(pool)))
    each = torch.stack([method(ask(model, x, y, baseline=b)).values for b in pool])
    torch.testing.assert_close(e.values, each.mean(0))
    torch.testing.assert_close(e.error, each.std(0) / 2)
    assert e.base is None
    assert each.std(0).max() > 0.01


# ---------------------------------------------------------------- SmoothGrad against a loop


INNER = {"saliency": Saliency(absolute=False), "input-x-gradient": InputXGradient(), "occlusion": Occlusion(), "integrated-gradients": IntegratedGradients(steps=5), "grad-cam": GradCAM()}


@pytest.mark.parametrize("place", ["input", "layer"])
@pytest.mark.parametrize("inside", INNER)
def test_smooth_grad_is_the_mean_over_noisy_copies(inside, place):
    """At a layer the noise is on the layer's value: the loop runs what lies above it, as a model of its own."""
    s = subjects()["pictures"]
    net = s.net()
    y = [0, 1, 2]
    q = ask(wrap(net), s.x, y, at="b" if place == "layer" else None, baseline=0.2, seed=5, batch_size=4)
    e = SmoothGrad(samples=6, noise=0.3, method=INNER[inside])(q)
    own = []
    for i in range(6):
        noise = q.noise(torch.full((3,), i), torch.arange(3))
        span = q.point.flatten(1).amax(1) - q.point.flatten(1).amin(1)
        z = q.point + 0.3 * span.reshape(-1, 1, 1, 1) * noise
        own.append(_at_point(net, s, z, y, inside, place))
    own = torch.stack(own)
    torch.testing.assert_close(e.values, own.mean(0), rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(e.error, own.std(0) / 6**0.5, rtol=1e-6, atol=1e-10)
    assert own.std(0).max() > 1e-4


def _at_point(net, s, z, y, inside, place):
    """The method's values at one noisy point."""
    if place == "input":
        return INNER[inside](ask(wrap(net), z, y, baseline=0.2)).values
    twin = copy.deepcopy(net)
    held = {}
    twin.b.register_forward_hook(lambda m, i, o: held.setdefault("start", o.detach()) if "z" not in held else held["z"])
    twin(torch.full_like(s.x, 0.2))

    def above(v, rows=s.x):
        held["z"] = v
        return twin(rows).gather(1, torch.tensor(y)[:, None])[:, 0]

    def slope(v):
        leaf = v.detach().clone().requires_grad_()
        return torch.autograd.grad(above(leaf).sum(), leaf)[0]

    return _by_hand(inside, z, held["start"], above, slope)


def _by_hand(inside, z, start, above, slope):
    if inside == "saliency":
        return slope(z)
    if inside == "input-x-gradient":
        return z * slope(z)
    if inside == "grad-cam":
        return (slope(z).mean((2, 3), keepdim=True) * z).sum(1, keepdim=True).relu()
    if inside == "integrated-gradients":
        t, w = INNER[inside]._rule() if hasattr(INNER[inside], "_rule") else _gauss(5)
        return (z - start) * sum(b * slope(start + a * (z - start)) for a, b in zip(t, w, strict=True))
    out = torch.zeros_like(z)
    with torch.no_grad():
        whole = above(z)
        for i in range(z.shape[2]):
            for j in range(z.shape[3]):
                hidden = z.clone()
                hidden[:, :, i, j] = start[:, :, i, j]
                out[:, :, i, j] = (whole - above(hidden))[:, None]
    return out


def _gauss(n):
    import numpy as np

    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


# ---------------------------------------------------------------- Grad-CAM on tokens and channels last


def test_grad_cam_on_tokens_by_hand():
    """The class token is left out; the grid is the patches'."""
    net, x = made(MiniViT), normal(3, 2, 6, 6)
    e = GradCAM(relu=False)(ask(wrap(net), x, [0, 1, 2], at="norm"))
    held = {}

    def keep(m, i, o):
        held["h"] = o
        o.retain_grad()

    net.norm.register_forward_hook(keep)
    net(x.requires_grad_()).gather(1, torch.tensor([[0], [1], [2]])).sum().backward()
    h, g = held["h"].detach()[:, 1:], held["h"].grad[:, 1:]
    want = (h * g.mean(1, keepdim=True)).sum(2).reshape(3, 1, 3, 3)
    torch.testing.assert_close(e.values, want)
    assert want.abs().max() > 1e-3


# ---------------------------------------------------------------- several targets


SHARING = [Saliency(absolute=False), InputXGradient(), IntegratedGradients(steps=4), IntegratedGradients(), Occlusion(window=2, stride=2), SmoothGrad(samples=3)]


@pytest.mark.parametrize("method", SHARING, ids=lambda m: m.name)
@pytest.mark.parametrize("at", [None, "inner.a"], ids=["input", "layer"])
def test_a_list_of_targets_is_as_many_questions_and_shares_their_forwards(method, at):
    s = subjects()["pictures"]
    targets = [Label(0), Contrast(2, 1), Probability(1)]
    alone, rows = [], 0
    for t in targets:
        net = Counting(s.net())
        alone.append(method(ask(wrap(net), s.x, t, at=at, batch_size=12)))
        rows = max(rows, net.tally.rows)
    net = Counting(s.net())
    e = method(ask(wrap(net), s.x, targets, at=at, batch_size=12))
    for k in range(3):
        torch.testing.assert_close(leaves(e.values)[0][k::3], alone[k].values)
    assert list(e.target[:3]) == [a.target[0] for a in alone]
    assert e.cost.forward_rows == net.tally.rows
    if method != IntegratedGradients():  # auto's nodes lie where each target changes
        assert net.tally.rows <= 1.25 * rows + 4, "one target's forwards serve all"
    assert e.ids == (0, 0, 0, 1, 1, 1, 2, 2, 2)
