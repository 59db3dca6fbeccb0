"""Windows answered incrementally give what every window whole gives, and nothing is reckoned where it would be wrong or slower."""

import functools
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid as pel
from pellucid.core._patches import Slide, slide
from pellucid.core.incremental import Pass

SOLE = "only what each window reaches"


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Head(nn.Module):
    """Means over positions, then two numbers."""

    def __init__(self, c):
        super().__init__()
        self.out = nn.Linear(c, 2)

    def forward(self, h):
        return self.out(h.flatten(2).mean(2))


def vgg():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 2),
    )


class Odd(nn.Module):
    """Strides, dilations, groups, asymmetric and constant padding, overlapping pools, a PReLU a channel, scaling by constants."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(0, 3)), nn.Conv2d(4, 8, 4, padding="same", groups=2)
        self.c, self.act, self.head = nn.Conv2d(8, 8, 3, stride=3, dilation=2, padding=2, bias=False), nn.PReLU(8), Head(8)
        self.register_buffer("scale", torch.rand(1, 8, 1, 1))

    def forward(self, x):
        h = F.relu6(self.a(F.pad(x, (2, 1, 0, 1), value=0.5)), True)
        h = F.max_pool2d(self.b(h), kernel_size=3, stride=2, padding=1)
        h = self.act(self.c(1 - 2 * h * self.scale))
        return self.head(F.avg_pool2d(h, 2, 1, padding=1) + self.scale.flatten()[:, None, None])


class Residual(nn.Module):
    """Sums written in place, branches of different reach, channels put together."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 1)
        self.relu, self.norm, self.down, self.head = nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Conv2d(8, 4, 3, stride=2, padding=1), Head(4)

    def forward(self, x):
        h = self.relu(self.stem(x))
        r = self.norm(self.b(self.relu(self.a(h))))
        r += h
        kept = r.clone()
        r = self.relu(r)
        return self.head(self.down(torch.cat([self.c(r) * r, torch.maximum(kept, h.detach())], 1)).contiguous())


class Gated(nn.Module):
    """A squeeze-and-excitation gate: every position depends on all of them."""

    def __init__(self, onto=False):
        super().__init__()
        self.a, self.gate, self.b, self.head, self.onto = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), Head(4), onto

    def forward(self, x):
        h = self.a(x)
        g = self.gate(h.mean((2, 3), keepdim=True)).sigmoid()
        h = h.mul_(g) if self.onto else h * g
        return self.head(self.b(h).relu())


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.mix, self.out = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        t = self.up(x).flatten(2).transpose(1, 2)
        return self.out(self.mix(t, t, t)[0].mean(1))


def normalized(norm):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), Head(4))


class Flips(nn.Module):
    """Looks at the mean, and uses other weights."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), Head(4)

    def forward(self, x):
        h = self.a(x)
        return self.head((self.b if x.mean() > 0 else self.c)(h))


@functools.cache
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(doubled)


def doubled(x):
    return x * 2 + 1


class Hidden(nn.Module):
    """An operation that no mode sees."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 4, 3), Head(4)

    def forward(self, x):
        return self.head(scripted()(self.a(x)))


class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


class Line(nn.Module):
    def __init__(self, axes):
        super().__init__()
        conv, norm, pool = ((nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d), None, (nn.Conv3d, nn.BatchNorm3d, nn.AvgPool3d))[axes - 1]
        self.body = nn.Sequential(conv(3, 4, 3, padding=1), norm(4), nn.GELU(), pool(2), conv(4, 4, 3, padding=1), Head(4))

    def forward(self, x):
        return self.body(x)


NETS = {
    "vgg": (vgg, (3, 16, 14)), "odd": (Odd, (3, 17, 14)), "residual": (Residual, (3, 12, 13)), "gated": (Gated, (3, 12, 12)), "gated in place": (lambda: Gated(True), (3, 12, 12)),
    "attends": (Attends, (3, 16, 16)), "group norm": (lambda: normalized(nn.GroupNorm(2, 4)), (3, 12, 12)), "instance norm": (lambda: normalized(nn.InstanceNorm2d(4)), (3, 12, 12)),
    "hidden": (Hidden, (3, 12, 12)), "1-d": (lambda: Line(1), (3, 30)), "3-d": (lambda: Line(3), (3, 8, 8, 6)),
}
WHOLE = ("hidden",)
"""Those that no incremental pass can answer."""


def two_roads(net, x, **asked):
    model = pel.wrap(net.eval())
    inside, plain = (pel.explain(model, x, method="occlusion", incremental=i, evidence="none", **{"target": 1} | asked) for i in ("always", "never"))
    assert plain.values.abs().max() > 0
    return inside, plain


def told(e):
    return " ".join(e.provenance["notes"])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(("window", "stride", "batch_size"), [(3, 2, None), (5, 5, 5)])
def test_both_roads_agree(kind, window, stride, batch_size):
    make, shape = NETS[kind]
    net, x = make().double(), torch.randn(2, *shape, dtype=torch.float64)
    inside, plain = two_roads(net, x, window=window, stride=stride, batch_size=batch_size)
    assert torch.allclose(inside.values, plain.values, rtol=0, atol=1e-11 * float(plain.total.abs().max()))
    assert (SOLE in told(inside)) == (kind not in WHOLE)
    assert ("whole network" in told(inside)) == (kind in WHOLE)


@pytest.mark.parametrize("kind", ["vgg", "residual"])
def test_single_precision(kind):
    make, shape = NETS[kind]
    inside, plain = two_roads(make(), torch.randn(2, *shape), window=3)
    assert SOLE in told(inside)
    assert torch.allclose(inside.values, plain.values, rtol=0, atol=1e-5 * float(plain.total.abs().max()))


def test_other_targets():
    """A neuron inside, a pixel of a picture that comes out, and several targets, which share no incremental road."""
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)).double()
    for target in (pel.Neuron("0", (1, 4, 5)), lambda out: out[:, 1, 3, 4] ** 2):
        inside, plain = two_roads(net, x, window=3, target=target)
        assert SOLE in told(inside)
        assert torch.allclose(inside.values, plain.values, rtol=0, atol=1e-12)
    inside, plain = two_roads(vgg().double(), x, window=3, target=[pel.Label(0), pel.Label(1)])
    assert "whole network" in told(inside)
    assert torch.equal(inside.values, plain.values)


def test_code_that_goes_another_way_for_some_windows():
    x = torch.full((1, 3, 12, 12), -0.01, dtype=torch.float64)
    x[..., 4:8, :4] = torch.rand(4, 4)
    inside, plain = two_roads(Flips().double(), x, window=4, stride=4, batch_size=1)
    assert "some windows ran through the whole network: the model's operations differ between windows" in told(inside)
    assert torch.allclose(inside.values, plain.values, rtol=0, atol=1e-12)


def test_a_road_that_differs_is_not_taken():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Noisy(), Head(4))
    inside, _ = two_roads(net, torch.randn(1, 3, 12, 12), window=3)
    assert "the two roads differ" in told(inside)


@pytest.mark.parametrize("case", ["layer", "half", "columns", "function"])
def test_where_the_road_does_not_begin(case):
    net, x, at = vgg(), torch.randn(1, 3, 16, 14), None
    if case == "layer":
        at = "3"
    if case == "half":
        net, x = net.bfloat16(), x.bfloat16()
    if case == "columns":
        net, x = nn.Linear(40, 2), torch.randn(1, 40)
    inside, plain = two_roads(net if case != "function" else nn.Sequential(net), x, at=at, window=1 if case == "columns" else 3)
    if case != "function":
        assert "incremental road" in told(inside)
        assert torch.equal(inside.values, plain.values)


def test_rows_are_counted():
    net, x = vgg(), torch.randn(2, 3, 16, 14)
    inside, plain = two_roads(net, x, window=4, stride=2, batch_size=8)
    windows = 2 * 7 * 6
    assert plain.cost.forward_rows == windows + 2
    assert windows + 2 < inside.cost.forward_rows <= windows + 2 + 2 * 2 + 4 + 2


def test_auto_keeps_to_whole_windows_where_they_are_cheap():
    e = pel.explain(pel.wrap(vgg().eval()), torch.randn(1, 3, 16, 14), method="occlusion", target=1, window=2, stride=1, evidence="none")
    assert SOLE not in told(e)
    big = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), Head(16)).eval()
    e = pel.explain(pel.wrap(big), torch.randn(1, 3, 96, 96), method="occlusion", target=1, window=12, stride=12, evidence="none")
    assert SOLE in told(e)


def test_a_plan_gives_the_same_bits():
    net, x = pel.wrap(vgg().eval()), torch.randn(2, 3, 16, 14)
    first = pel.explain(net, x, method="occlusion", target=1, window=3, incremental="always", evidence="none")
    again = pel.explain(net, x, method="occlusion", target=1, window=3, incremental="always", evidence="none", batch_size=first.cost.plan)
    assert torch.equal(first.values, again.values)


def test_the_model_is_left_as_it_was():
    net, x = Residual().eval(), torch.randn(2, 3, 12, 13)
    state, kept = {k: v.clone() for k, v in net.state_dict().items()}, x.clone()
    two_roads(net, x, window=3)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(x, kept)


@pytest.mark.parametrize("seed", range(20))
def test_reach_is_what_a_change_reaches(seed):
    """Against what really changes when numbers inside the window do."""
    g = np.random.default_rng(seed)
    k, s, d, p = (int(g.integers(a, b)) for a, b in ((1, 5), (1, 4), (1, 3), (0, 3)))
    n = int(g.integers((k - 1) * d + 1, 20))
    x = torch.randn(1, 1, n, dtype=torch.float64)
    op = slide("conv1d", F.conv1d, (x, torch.ones(1, 1, k, dtype=torch.float64)), {"stride": s, "padding": p, "dilation": d})
    assert isinstance(op, Slide)
    size = int(g.integers(1, n + 1))
    start = g.integers(0, n - size + 1, (4, 1))
    full = F.conv1d(x, torch.ones(1, 1, k, dtype=torch.float64), stride=s, padding=p, dilation=d)
    begin, room = op.reach(start, (size,), (full.shape[2],))
    widest = 0
    for a, b in zip(start[:, 0].tolist(), begin[:, 0].tolist(), strict=True):
        z = x.clone()
        z[..., a : a + size] += torch.rand(size, dtype=torch.float64) + 0.5
        hit = (F.conv1d(z, torch.ones(1, 1, k, dtype=torch.float64), stride=s, padding=p, dilation=d) - full).abs()[0, 0].nonzero()[:, 0]
        if len(hit):
            assert b <= hit[0]
            assert hit[-1] < b + room[0]
            widest = max(widest, int(hit[-1] - hit[0]) + 1)
    assert room[0] <= max(widest, 1)


def test_a_tensor_that_stands_for_another_has_its_size_and_no_more():
    net, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    mode = Pass(2)
    from pellucid.core._patches import Held

    z = mode.enter(Held(x))
    with mode:
        h = net(z)
        assert h.shape == (2, 4, 6, 6)
        assert h.device == x.device
    assert torch.allclose(mode.real(h), net(x).expand(2, -1, -1, -1))


def test_bad_values_are_refused():
    with pytest.raises(pel.UsageError, match="auto, always, never"):
        pel.explain(pel.wrap(vgg().eval()), torch.randn(1, 3, 16, 14), method="occlusion", incremental="yes")
