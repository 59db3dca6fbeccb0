"""Gradients over noise, baselines and paths: captum 0.9.0 on the same draws, slow loops that are obviously right, known expectations."""

import warnings

import numpy as np
import pytest
import torch

from models import Reused, Words, made, normal, smooth, subjects
from oracles.test_captum import BASELINE, PLACES, SUBJECTS, Case
from pellucid.attribution import Activations, Conductance, ExpectedGradients, InputXGradient, IntegratedGradients, InternalInfluence, Saliency, SmoothGrad
from pellucid.attribution.expected_gradients import _plan
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.question import Samples, ask
from pellucid.core.rows import row_seed
from pellucid.core.running import Running
from pellucid.core.target import Neuron
from pellucid.core.tree import leaves

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr", reason="captum is in the dependency group tests")

every = pytest.mark.parametrize("subject", SUBJECTS)
places = pytest.mark.parametrize("place", PLACES)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _captum_in_double(monkeypatch):
    """captum rounds its step sizes to float32, whatever it is given: its `.float()` is made to keep them."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Twin:
    """The case's network with the place open: values there for any input, and slopes of the target for any value there."""

    def __init__(self, case: Case) -> None:
        self.case, self.held, self.seen = case, None, None
        self.layer = case.layer if case.place == "layer" else None
        self.neuron = case.net.get_submodule(case.unit[0]) if case.place == "neuron" else None

    def _run(self, x, held=None):
        box = {}
        hooks = []
        if self.layer is not None:
            hooks.append(self.layer.register_forward_hook(lambda m, i, o: held[0] if held else box.__setitem__("value", o)))
        if self.neuron is not None:
            hooks.append(self.neuron.register_forward_hook(lambda m, i, o: box.__setitem__("unit", o)))
        try:
            out = self.case.net(*x)
        finally:
            for h in hooks:
                h.remove()
        index = self.case.unit[1]
        y = box["unit"][(slice(None), *(index if isinstance(index, tuple) else (index,)))] if "unit" in box else out.gather(1, self.case.target[:, None])[:, 0]
        return y, box.get("value")

    def at(self, x):
        """The values at the place."""
        return [t.detach() for t in x] if self.layer is None else [self._run(x)[1].detach()]

    def slope(self, z):
        """The gradients of the target where the place holds `z`."""
        z = [t.detach().clone().requires_grad_() for t in z]
        y = self._run(z if self.layer is None else self.case.x, None if self.layer is None else z)[0]
        return torch.autograd.grad(y.sum(), z)


def _noisy(case, i, size):
    """The `i`-th noisy copy of the point, by the question's own draws."""
    point, noise = leaves(case.q.point), leaves(case.q.noise(torch.full((3,), i), torch.arange(3)))
    return [z + size * (z.flatten(1).amax(1) - z.flatten(1).amin(1)).reshape(-1, *[1] * (z.ndim - 1)) * e for z, e in zip(point, noise, strict=True)]


def _same(ours, theirs):
    """Equal to rounding of their own size, and no zeros."""
    ours, theirs = leaves(ours), leaves(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        size = float(b.abs().max())
        assert a.shape == b.shape
        assert size > 1e-7, "a reference of zeros proves nothing"
        assert float((a - b).abs().max()) <= 1e-9 * size


# ---------------------------------------------------------------- what is made of noisy copies


N = 6


@every
@places
@pytest.mark.parametrize("statistic", ["mean", "mean-square", "variance"])
def test_statistics_of_noisy_copies_by_a_loop(subject, place, statistic):
    c = Case(subject, place, torch.float64)
    twin = Twin(c)
    own = [torch.stack(g) for g in zip(*(twin.slope(_noisy(c, i, 0.3)) for i in range(N)), strict=True)]
    e = SmoothGrad(samples=N, noise=0.3, statistic=statistic)(c.q)
    if statistic == "variance":
        fourth = [((g - g.mean(0)) ** 4).mean(0) for g in own]
        error = [((m4 - g.var(0) ** 2 * (N - 3) / (N - 1)).clamp(min=0) / N).sqrt() for m4, g in zip(fourth, own, strict=True)]
        want = [g.var(0) for g in own]
    else:
        own = [g**2 for g in own] if statistic == "mean-square" else own
        want, error = [g.mean(0) for g in own], [g.std(0) / N**0.5 for g in own]
    if place == "layer" and subject == "smooth":  # linear above the layer: the gradient is the same everywhere
        assert all(float(t.abs().max()) < 1e-12 for t in leaves(e.error))
    else:
        _same(e.error, error)
        _same(e.values, want)
    assert e.signed is (statistic == "mean")


@every
@pytest.mark.parametrize("place", ["input", "neuron"])
@pytest.mark.parametrize(("statistic", "theirs"), [("mean", "smoothgrad"), ("mean-square", "smoothgrad_sq"), ("variance", "vargrad")])
@pytest.mark.parametrize("inside", ["saliency", "input-x-gradient"])
def test_noise_tunnel(subject, place, statistic, theirs, inside, monkeypatch):
    """captum's own sums over our draws; its variance is divided by n, ours by n - 1."""
    c = Case(subject, place, torch.float64)
    copies = [torch.stack([_noisy(c, i, 0.3)[k] for i in range(N)], 1).flatten(0, 1) for k in range(len(c.x))]
    turn = iter(copies)
    monkeypatch.setattr(captum.NoiseTunnel, "_add_noise_to_input", staticmethod(lambda x, stdev, n: next(turn)))
    kind, settings = (captum.Saliency, {"abs": False}) if inside == "saliency" else (captum.InputXGradient, {})
    method, target = c.inner(kind)
    want = captum.NoiseTunnel(method).attribute(c.x, nt_type=theirs, nt_samples=N, **settings, **target)
    want = [w * N / (N - 1) for w in want] if statistic == "variance" else want
    ours = SmoothGrad(samples=N, noise=0.3, statistic=statistic, method=inside)(c.q)
    _same(ours.values, want)


def test_copies_of_any_number_at_once_give_the_same(monkeypatch):
    c = Case("pictures", "layer", torch.float64)
    whole = [SmoothGrad(samples=9, statistic=s)(c.q).values for s in ("mean", "mean-square", "variance")]
    monkeypatch.setattr("pellucid.attribution.smooth_grad.HELD", 1)
    for s, want in zip(("mean", "mean-square", "variance"), whole, strict=True):
        torch.testing.assert_close(SmoothGrad(samples=9, statistic=s)(c.q).values, want, rtol=1e-12, atol=1e-14)


def test_standard_errors_of_the_three_statistics_are_those_of_repeated_runs():
    """Over 300 draws, a name of the row each: the spread of the answers is what one answer tells."""
    model, x = wrap(made(Reused)), normal(2, 5)
    for statistic in ("mean", "mean-square", "variance"):
        e = SmoothGrad(samples=30, noise=0.3, statistic=statistic)(ask(model, x.repeat(300, 1), 300 * [0, 1], ids=tuple(range(600)), batch_size=2000))
        spread = e.values.reshape(300, 2, 5).std(0)
        told = e.error.reshape(300, 2, 5).square().mean(0).sqrt()
        assert spread.min() > 1e-6
        ratio = told[spread > 0.2 * spread.max()] / spread[spread > 0.2 * spread.max()]
        assert ratio.min() > 0.85, (statistic, ratio)
        assert ratio.max() < 1.2, (statistic, ratio)


def test_running_moments_of_skewed_numbers():
    x = normal(40, 3, 4, seed=5).exp()
    running = Running(spread_too=True)
    for v in x:
        running.add(v)
    fourth = ((x - x.mean(0)) ** 4).mean(0)
    torch.testing.assert_close(running.mean, x.mean(0))
    torch.testing.assert_close(running.variance(), x.var(0))
    torch.testing.assert_close(running.error(), x.std(0) / 40**0.5)
    torch.testing.assert_close(running.error_of_variance(), ((fourth - x.var(0) ** 2 * 37 / 39) / 40).sqrt())
    assert Running().mean is None
    assert Running().error() is None


# ---------------------------------------------------------------- expected gradients


POOLS = {"one": 1, "few": 3, "as many": 8, "more": 12, "many": 40}
DRAWS = 12


def _drawn(case, pool, samples=DRAWS):
    """Every row's (baseline, fraction, weight) of each draw."""
    return [torch.stack(t, 1) for t in zip(*(_plan(samples, pool, row_seed(0, ("path", name), 0)) for name in case.q.ids), strict=True)]


def _pool(case, n):
    return tuple(normal(n, *t.shape[1:], seed=20 + i) for i, t in enumerate(case.x))


@every
@places
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_expected_gradients_by_a_loop(subject, place, pool, noise):
    c = Case(subject, place, torch.float64)
    twin, n = Twin(c), POOLS[pool]
    parts = _pool(c, n)
    q = ask(c.q.model, c.inputs, c.q.target, at=c.q.at, baseline=Samples(parts) if n > 1 else tuple(p[0] for p in parts), batch_size=5)
    index, t, weight = _drawn(c, n)
    draws = []
    for s in range(DRAWS):
        z0, z, a = twin.at([p[index[s]] for p in parts]), _noisy(c, s, noise), t[s]
        g = twin.slope([b + a.reshape(-1, *[1] * (b.ndim - 1)) * (v - b) for v, b in zip(z, z0, strict=True)])
        draws.append([weight[s].reshape(-1, *[1] * (b.ndim - 1)) * (v - b) * k for v, b, k in zip(z, z0, g, strict=True)])
    total = [sum(d[k] for d in draws) for k in range(len(draws[0]))]
    error = [sum((draws[2 * h][k] - draws[2 * h + 1][k]) ** 2 for h in range(DRAWS // 2)).sqrt() for k in range(len(total))]
    e = ExpectedGradients(samples=DRAWS, noise=noise)(q)
    _same(e.values, total)
    if not (place == "layer" and pool in ("one", "few") and not noise):  # one span in each stretch, and often one slope
        _same(e.error, error)


@pytest.mark.parametrize("pool", [1, 3, 5, 8, 12, 40])
@pytest.mark.parametrize("n", [2, 6, 12, 30])
def test_draws_are_uniform_and_each_baseline_has_its_share(pool, n):
    for seed in range(5):
        index, t, weight = _plan(n, pool, seed)
        assert len(index) == len(t) == len(weight) == n
        assert ((t >= 0) & (t < 1)).all()
        torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
        share = torch.zeros(pool).index_add_(0, index, weight)
        if n >= 2 * pool:
            torch.testing.assert_close(share, torch.full((pool,), 1 / pool))
        else:
            assert index.unique().numel() == min(n, pool), "none twice before all were used once"
    plans = [_plan(n, pool, seed) for seed in range(400)]
    every_t = torch.cat([t for _, t, _ in plans])
    assert every_t.unique().numel() == len(every_t), "anywhere in its stretch, not always in the middle"
    assert abs(float(every_t.mean()) - 0.5) < 5 * 0.29 / len(every_t) ** 0.5
    drawn = torch.stack([torch.zeros(pool).index_add_(0, *plan[::2]) for plan in plans])
    assert (drawn.mean(0) - 1 / pool).abs().max() < 5 * max(float(drawn.std(0).max()), 1e-9) / 20 + 1e-9


@pytest.mark.parametrize("pool", [1, 4, 30])
def test_expected_gradients_meet_the_mean_of_integrated_gradients(pool):
    """Over 200 draws, a name of the row each: no bias, a standard error that is not too small, and less spread than independent draws have."""
    model, x, parts = wrap(made(Reused)), 2 * normal(2, 5), normal(pool, 5, seed=3)
    asked = {"baseline": Samples(parts), "batch_size": 2000}
    want = IntegratedGradients(steps=1000, rule="midpoint")(ask(model, x, [0, 1], **asked)).values
    e = ExpectedGradients(samples=24)(ask(model, x.repeat(200, 1), 200 * [0, 1], ids=tuple(range(400)), **asked))
    values, errors = e.values.reshape(200, 2, 5), e.error.reshape(200, 2, 5)
    spread = values.std(0)
    assert ((values.mean(0) - want).abs() < 4.5 * spread / 200**0.5).all()
    told = errors.square().mean(0).sqrt()
    assert (told > 0.85 * spread).all()
    assert pool == 30 or (told < 1.2 * spread).all()
    assert want.abs().max() > 0.1
    g = torch.Generator().manual_seed(0)
    index, t = torch.randint(pool, (200, 24, 2), generator=g), torch.rand(200, 24, 2, 1, generator=g)
    z0 = parts[index]
    slope = ask(model, x, [0, 1]).grad((z0 + t * (x - z0)).flatten(0, 1)).reshape(200, 24, 2, 5)
    independent = ((x - z0) * slope).mean(1).std(0)
    assert spread.mean() < 0.8 * independent.mean()


@every
@places
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_gradient_shap_on_the_same_draws(subject, place, noise, monkeypatch):
    """captum 0.9.0, given our draws: three baselines and twelve draws have equal weights."""
    if place == "layer" and (noise or subject not in ("columns", "smooth")):
        pytest.skip("captum's noise and path lie in the input, also at a layer: the same only where one side of the layer is linear")
    c = Case(subject, place, torch.float64)
    parts = _pool(c, 3)
    q = ask(c.q.model, c.inputs, c.q.target, at=c.q.at, baseline=Samples(parts), batch_size=5)
    index, t, _ = _drawn(c, 3)
    copies = [torch.stack([(_noisy(c, i, noise) if noise else c.x)[k] for i in range(DRAWS)], 1).flatten(0, 1) for k in range(len(c.x))]
    turn = iter(copies)
    monkeypatch.setattr(captum.NoiseTunnel, "_add_noise_to_input", staticmethod(lambda x, stdev, n: next(turn)))
    monkeypatch.setattr(np.random, "choice", lambda n, k: index.T.flatten().numpy())
    monkeypatch.setattr(np.random, "uniform", lambda a, b, n: t.T.flatten().numpy())
    if place == "layer":
        want = captum.LayerGradientShap(c.net, c.layer).attribute(c.x, parts, n_samples=DRAWS, target=c.target)
    elif place == "neuron":
        want = captum.NeuronGradientShap(c.net, c.net.get_submodule(c.unit[0])).attribute(c.x, c.unit[1], parts, n_samples=DRAWS)
    else:
        want = captum.GradientShap(c.net).attribute(c.x, parts, n_samples=DRAWS, target=c.target)
    _same(ExpectedGradients(samples=DRAWS, noise=noise)(q).values, want)


def test_expected_gradients_at_a_layer_stay_in_the_layer():
    """The paths are straight between values of the layer, so that the values sum to the target's change; captum's LayerGradientShap
    multiplies the layer's whole change by slopes from the input's path, and its sums miss."""
    net = made(lambda: torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)))
    with torch.no_grad():
        for m in (net[0], net[2]):
            m.weight.mul_(4)
    x, parts, y = normal(3, 5), normal(4, 5, seed=7), torch.tensor([0, 1, 2])
    q = ask(wrap(net), x, y, at="1", baseline=Samples(parts))
    total = net(x).gather(1, y[:, None])[:, 0].detach() - net(parts).mean(0).detach()[y]
    ours = ExpectedGradients(samples=2000)(q).values.sum(1)
    theirs = captum.LayerGradientShap(net, net[1]).attribute(x, parts, n_samples=2000, target=y).sum(1)
    assert (ours - total).abs().max() < 0.01 * total.abs().max()
    assert (theirs - total).abs().max() > 0.05 * total.abs().max()


@every
def test_gradient_shap_in_expectation(subject):
    """captum draws its own here: 4000 of its draws lie within the two standard errors."""
    c = Case(subject, "input", torch.float64)
    if len(c.x) > 1:
        pytest.skip("captum draws each input's baseline apart: its rows are mixtures of baselines")
    parts = _pool(c, 5)
    np.random.seed(3)  # noqa: NPY002 - captum draws from there
    many = [captum.GradientShap(c.net).attribute(c.x, parts, n_samples=400, target=c.target)[0] for _ in range(10)]
    theirs = torch.stack(many)
    e = ExpectedGradients(samples=2000)(ask(c.q.model, c.inputs, c.q.target, baseline=Samples(parts)))
    error = (e.error**2 + theirs.var(0) / 10).sqrt()
    z = (e.values - theirs.mean(0)) / error
    assert z.abs().max() < 6
    assert z.square().mean() < 2
    assert e.values.abs().max() > 10 * error.max()


def test_baselines_of_several_inputs_stay_together():
    """Two inputs that are the same in every baseline are the same in every draw."""
    c = Case("two inputs", "input", torch.float64)
    pools = (normal(6, 4, seed=1), normal(6, 3, seed=2))
    seen = []
    model = wrap(lambda a, b: seen.append((a.detach(), b.detach())) or (a.sum(1, keepdim=True) + b.sum(1, keepdim=True)), differentiable=True)
    ExpectedGradients(samples=24)(ask(model, (torch.zeros_like(c.x[0]), torch.zeros_like(c.x[1])), 0, baseline=Samples(pools)))
    a, b = (torch.cat(t) for t in zip(*seen, strict=True))
    moved = a.abs().sum(1) > 0
    for one, two in zip(a[moved], b[moved], strict=True):
        scale = one / pools[0]
        k = int(scale.std(1).argmin())
        torch.testing.assert_close(two, scale[k].mean() * pools[1][k])


def test_draws_in_any_blocks_give_the_same(monkeypatch):
    c = Case("pictures", "layer", torch.float64)
    q = ask(c.q.model, c.inputs, c.q.target, at=c.q.at, baseline=Samples(_pool(c, 5)))
    want = ExpectedGradients(samples=20)(q)
    monkeypatch.setattr("pellucid.attribution.expected_gradients.HELD", 1)
    got = ExpectedGradients(samples=20)(q)
    torch.testing.assert_close(got.values, want.values)
    torch.testing.assert_close(got.error, want.error)


@pytest.mark.parametrize(("place", "most"), [("input", 3 * (12 + 2)), ("layer", 3 * (12 + 2) + 5 + 12 + 12)])
def test_a_draw_is_one_row_forward_and_one_back(place, most):
    """Beside the draws: the rows themselves, their value at the layer, each baseline's once, and what the suffix records and checks."""
    c = Case("pictures", place, torch.float64)
    e = ExpectedGradients(samples=11)(ask(c.q.model, c.inputs, c.q.target, at=c.q.at, baseline=Samples(_pool(c, 5))))
    assert e.cost.backward_rows == 3 * 12
    assert 3 * 12 < e.cost.forward_rows <= most
    assert e.provenance["notes"][0] == "12 draws, two in each of 6 stretches of the paths from 5 baselines"


def test_smoothing_and_baselines_combine():
    c = Case("columns", "input", torch.float64)
    q = ask(c.q.model, c.inputs, c.q.target, baseline=Samples(_pool(c, 3)))
    e = SmoothGrad(samples=4, noise=0, method=ExpectedGradients(samples=60))(q)
    want = IntegratedGradients(steps=500, rule="midpoint")(q).values
    assert float((e.values - want).norm() / want.norm()) < 0.05
    assert Saliency().card.samples is InputXGradient().card.samples is False
    assert BASELINE


# ---------------------------------------------------------------- conductance


STEPS = 7


def _conductance(net, layer, x, x0, target):
    """captum's takes each step's gradient at its first node; walked back, at its last: the mean of the two is the trapezoid rule."""
    there, back = (captum.LayerConductance(net, layer).attribute(a, b, target=target, n_steps=STEPS, method="riemann_trapezoid") for a, b in ((x, x0), (x0, x)))
    return (there - back) / 2


@every
def test_conductance_at_a_layer(subject):
    c = Case(subject, "layer", torch.float64)
    want = _conductance(c.net, c.layer, c.x, c.base, c.target)
    _same(Conductance(steps=STEPS)(c.q).values, want)


@every
def test_conductance_of_a_layer_for_a_neuron(subject):
    """A unit further up as the target."""
    c = Case(subject, "neuron", torch.float64)
    first = {"pictures": "stem", "columns": "first", "smooth": "0", "two inputs": "v"}[subject]
    net = captum_neuron(c)
    want = _conductance(net, c.net.get_submodule(first), c.x, c.base, None)
    _same(Conductance(steps=STEPS)(ask(c.q.model, c.inputs, Neuron(*c.unit), at=first, baseline=BASELINE)).values, want)


def captum_neuron(c):
    from oracles.test_captum import NeuronOf

    return NeuronOf(c.net, c.unit)


@every
@pytest.mark.parametrize("place", ["input", "neuron"])
def test_conductance_at_the_input_is_integrated_gradients(subject, place):
    c = Case(subject, place, torch.float64)
    for steps in (STEPS, "auto"):
        _same(Conductance(steps=steps)(c.q).values, IntegratedGradients(steps=steps)(c.q).values)


@every
def test_conductance_through_a_neuron(subject):
    c = Case(subject, "input", torch.float64)
    name, index = {"columns": ("first", 2), "two inputs": ("mix", 1)}.get(subject, c.unit)
    layer = c.net.get_submodule(name)
    want = captum.NeuronConductance(c.net, layer).attribute(c.x, index, c.base, target=c.target, n_steps=STEPS, method="gausslegendre")
    for through in (Neuron(name, index), (name, index)):
        _same(Conductance(steps=STEPS, through=through)(c.q).values, want)


@pytest.mark.parametrize("subject", ["smooth", "pictures", "two inputs"])
def test_what_flows_through_a_neuron_from_all_inputs_is_its_own_conductance(subject):
    c = Case(subject, "layer", torch.float64)
    own = Conductance(steps=2000)(ask(c.q.model, c.inputs, c.target, at=c.q.at, baseline=BASELINE, batch_size=1000)).values
    units = [(1,), (4,)] if subject != "pictures" else [(1, 2, 3), (0, 5, 5)]
    for unit in units:
        e = Conductance(through=Neuron(subjects()[subject].layer, unit))(ask(c.q.model, c.inputs, c.target, baseline=BASELINE))
        total = sum(v.flatten(1).sum(1) for v in leaves(e.values))
        torch.testing.assert_close(total, own[(slice(None), *unit)], rtol=0.05, atol=0.02 * float(own.abs().max()))
    assert own.abs().max() > 1e-4


class Squares(torch.nn.Module):
    """The sum of squares of a linear map: the conductance of each of its units is its square."""

    def __init__(self):
        super().__init__()
        self.h = torch.nn.Linear(5, 4)

    def forward(self, x):
        return (self.h(x) ** 2).sum(1, keepdim=True)


def test_conductance_of_squares():
    net, x = made(Squares), normal(3, 5)
    e = Conductance(steps=3)(ask(wrap(net), x, at="h", baseline=0.5))
    h, h0 = net.h(x).detach(), net.h(torch.full_like(x, 0.5)).detach()
    torch.testing.assert_close(e.values, h**2 - h0**2)
    assert "the layer carries 100% of f(x) - f(baseline) (median of the rows)" in e.provenance["notes"]
    influence = InternalInfluence(steps=2)(ask(wrap(net), x, at="h", baseline=0.5))
    torch.testing.assert_close(influence.values, h + h0)


def test_conductance_refines_the_rows_that_need_it():
    net = made(lambda: torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.ReLU(), torch.nn.Linear(24, 1)))
    with torch.no_grad():
        net[0].weight[:, 1] = 0
        net[0].bias[:] = torch.linspace(-3, 3, 24)
    x = torch.tensor([[1e-6, 1.0], [5.0, 1.0]])
    q = ask(wrap(net), x, at="0")
    want = Conductance(steps=20_000)(q).values
    e = Conductance(tol=0.002)(q)
    cells = int(e.provenance["notes"][0].split("-")[1].split()[0])
    assert e.provenance["notes"][0].startswith("30-")
    assert 40 <= cells < 540
    assert 2 * 31 + 41 <= e.cost.backward_rows <= 2 * (31 + cells)
    far = (e.values - want).norm(dim=1) / want.norm(dim=1)
    assert far.max() < 0.004
    even = Conductance(steps=cells)(q).values
    assert far[1] < 1.5 * (even[1] - want[1]).norm() / want[1].norm()
    alone = Conductance(tol=0.002)(ask(wrap(net), x[:1], at="0"))
    torch.testing.assert_close(alone.values[0], e.values[0])
    assert alone.cost.backward_rows == 31
    stopped = Conductance(tol=1e-9)(q)
    assert "1 of 2 rows stopped above tol 1e-09" in stopped.provenance["notes"][0]


@pytest.mark.parametrize("at", ["a", "stem"])
def test_nodes_in_any_blocks_give_the_same(at, monkeypatch):
    c = Case("pictures", "layer", torch.float64)
    q = ask(c.q.model, c.inputs, c.target, at=at, baseline=BASELINE)
    methods = [Conductance(steps=5), Conductance(), InternalInfluence(steps=5)]
    want = [m(q) for m in methods]
    for held in (1, 40_000):
        monkeypatch.setattr("pellucid.attribution._along.HELD", held)
        for m, w in zip(methods, want, strict=True):
            got = m(q)
            torch.testing.assert_close(got.values, w.values)
            torch.testing.assert_close(got.convergence, w.convergence)
            assert got.cost.backward_rows == w.cost.backward_rows


def test_several_targets_share_the_path():
    c = Case("pictures", "layer", torch.float64)
    one = Conductance(steps=9)(ask(c.q.model, c.inputs, 1, at="a"))
    both = Conductance(steps=9)(ask(c.q.model, c.inputs, [Neuron("b", (1, 2, 3)), Neuron("b", (0, 1, 1))], at="a"))
    alone = Conductance(steps=9)(ask(c.q.model, c.inputs, Neuron("b", (0, 1, 1)), at="a"))
    torch.testing.assert_close(both.values[1::2], alone.values)
    assert both.cost.forward_rows <= one.cost.forward_rows + 3


def test_conductance_says_where_it_cannot_be_asked():
    c = Case("pictures", "layer", torch.float64)
    with pytest.raises(NotApplicable, match="put there from outside"):
        SmoothGrad(samples=2, method=Conductance(steps=3))(c.q)
    with pytest.raises(UsageError, match="leave out through="):
        Conductance(through=("b", (1, 2, 3)))(c.q)
    with pytest.raises(UsageError, match=r"or \(layer, index\)"):
        Conductance(through="b")(ask(c.q.model, c.inputs, c.target))


@pytest.mark.parametrize("at", ["gru", "out"])
def test_integer_inputs_begin_their_path_at_the_embedding(at):
    """The same as of the network above the embedding."""
    net, ids, y = made(Words), torch.tensor([[1, 2, 3, 4], [4, 4, 0, 9], [7, 1, 10, 2]]), [0, 1, 2]

    class Above(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = net.gru, net.out

        def forward(self, h):
            return self.out(self.gru(h)[0][:, -1])

    z = net.emb(ids).detach()
    start = net.emb(torch.zeros_like(ids)).detach()
    below = ask(wrap(net), ids, y, at=at, baseline=torch.zeros_like(ids))
    above = ask(wrap(Above().eval()), z, y, at=at, baseline=start)
    for method in (Conductance(steps=6), Conductance(), InternalInfluence(steps=6)):
        _same(method(below).values, method(above).values)
    through = Conductance(steps=6, through=("out", 1))
    _same(through(ask(below.model, ids, y, baseline=torch.zeros_like(ids))).values, through(ask(above.model, z, y, baseline=start)).values)
    words = ask(below.model, ids, y)
    _same(Conductance()(words).values, IntegratedGradients()(words).values)


def test_smoothing_conductance_at_the_input():
    c = Case("columns", "input", torch.float64)
    method = Conductance(steps=5, through=("first", 1))
    _same(SmoothGrad(samples=2, noise=0, method=method)(c.q).values, leaves(method(c.q).values))


# ---------------------------------------------------------------- internal influence


@every
@places
@pytest.mark.parametrize(("rule", "theirs"), [("gauss-legendre", "gausslegendre"), ("midpoint", "riemann_middle")])
def test_internal_influence(subject, place, rule, theirs):
    c = Case(subject, place, torch.float64)
    settings = {"baselines": c.base, "n_steps": STEPS, "method": theirs}
    if place == "layer":
        want = captum.InternalInfluence(c.net, c.layer).attribute(c.x, target=c.target, **settings)
    else:
        method, target = c.inner(captum.IntegratedGradients, multiply_by_inputs=False)
        want = method.attribute(c.x, **settings, **target)
    e = InternalInfluence(steps=STEPS, rule=rule)(c.q)
    _same(e.values, want)
    assert e.cost.backward_rows == 3 * STEPS


def test_influence_and_conductance_of_a_linear_layer_agree():
    """Where the layer is linear in the input, conductance is influence times the layer's change."""
    net, x = made(smooth), normal(3, 5)
    q = ask(wrap(net), x, [0, 1, 2], at="0", baseline=0.3)
    change = net[0](x).detach() - net[0](torch.full_like(x, 0.3)).detach()
    torch.testing.assert_close(Conductance(steps=3000)(q).values, InternalInfluence()(q).values * change, rtol=1e-5, atol=1e-9)


# ---------------------------------------------------------------- activations


@every
@places
def test_activations(subject, place):
    c = Case(subject, place, torch.float64)
    want = captum.LayerActivation(c.net, c.layer).attribute(c.inputs).detach() if place == "layer" else c.inputs
    e = Activations()(c.q)
    _same(e.values, want)
    assert e.cost.backward_rows == 0


@every
def test_activation_times_gradient_is_input_x_gradient_at_the_layer(subject):
    """captum's LayerGradientXActivation; summed over channels, TorchRay's linear approximation."""
    c = Case(subject, "layer", torch.float64)
    want = captum.LayerGradientXActivation(c.net, c.layer).attribute(c.inputs, target=c.target).detach()
    _same(InputXGradient()(c.q).values, want)
    _same(Activations()(c.q).values * Saliency(absolute=False)(c.q).values, want)
