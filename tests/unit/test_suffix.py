"""Every road gives what an independent copy with a plain forward hook gives: values and gradients."""

import copy
import dataclasses
import warnings
from collections import UserDict

import pytest
import torch
from torch import nn

from pellucid.core.direct import Direct
from pellucid.core.errors import UnknownName, UsageError
from pellucid.core.full import FullRoad, Unfit
from pellucid.core.places import Place
from pellucid.core.shadow import Shadow, Stop, fingerprint
from pellucid.core.suffix import SuffixRoad
from pellucid.core.tree import is_float, leaves, refill, shared, take


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# ---------------------------------------------------------------- models


class Residual(nn.Module):
    """In-place and reused activations, an in-place sum."""

    def __init__(self, c=4):
        super().__init__()
        self.stem, self.conv1, self.bn1 = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)
        self.conv2, self.relu, self.fc = nn.Conv2d(c, c, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(c, 5)

    def forward(self, x):
        h = self.stem(x)
        r = self.conv2(self.relu(self.bn1(self.conv1(h))))
        r += h
        return self.fc(self.relu(r).mean((2, 3)))


class Onto(nn.Module):
    """Writes in place into what was computed below the layers that are replaced."""

    def __init__(self):
        super().__init__()
        self.u, self.a, self.b, self.c, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU(inplace=True)

    def forward(self, x):
        u = self.u(x)
        h = self.b(self.a(x).sin())
        u += h
        return self.c(self.act(u)) + self.act(h).sum(1, keepdim=True)


class Shares(nn.Module):
    """Writes into a cached value that all rows share."""

    def __init__(self):
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        t = self.table(torch.arange(4))
        h = self.a(x)
        t *= 2
        return self.b(h @ t)


class SequenceFirst(nn.Module):
    """Rows on the second axis inside."""

    def __init__(self):
        super().__init__()
        self.up, self.encoder, self.head = nn.Linear(6, 8), encoder(False), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.encoder(self.up(x).transpose(0, 1)).mean(0))


class Branch(nn.Module):
    """Takes another road for rows with a large mean."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))
        nn.init.eye_(self.a.weight)
        nn.init.zeros_(self.a.bias)

    def forward(self, x):
        h, u = self.a(x), self.c(x)
        return self.d(self.b(h) + u) if h.sum() > 0 else self.d(h * 2)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.table, self.mix, self.head = nn.Linear(6, 4), nn.Linear(3, 4), nn.Bilinear(4, 4, 5), nn.Linear(5, 2)

    def forward(self, image, table, scale=1.0):
        return self.head(self.mix(self.image(image), table=None) if table is None else self.mix(self.image(image).tanh(), self.table(table)) * scale) + image[:, :2]


@dataclasses.dataclass
class Out:
    """What a layer may answer with."""

    note: str
    codes: torch.Tensor
    hidden: torch.Tensor
    extra: tuple


class Structured(nn.Module):
    class Inner(nn.Module):
        def forward(self, x, *, scale):
            return Out("kept", x.long(), x.tanh() * scale["s"], (x.exp(), None))

    def __init__(self):
        super().__init__()
        self.a, self.inner, self.b = nn.Linear(4, 4), self.Inner(), nn.Linear(4, 2)

    def forward(self, x):
        o = self.inner(self.a(x), scale={"s": x[:, :1]})
        return {"y": self.b(o.hidden + o.extra[0]), "out": o}


class Stateful(nn.Module):
    """The batch size goes from one layer to another in a number."""

    class Size(nn.Module):
        def forward(self, x):
            return x, x.shape[0]

    def __init__(self):
        super().__init__()
        self.size, self.a, self.b = self.Size(), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x, n = self.size(x)
        return self.b(self.a(x)).reshape(n, 2)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.rnn, self.head = nn.Embedding(9, 6), nn.GRU(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, i):
        out, last = self.rnn(self.emb(i))
        return self.head(out[:, -1] + last[0])


class Heads(nn.Module):
    """Moves a factor into the batch axis and back, and shares positions between all rows."""

    def __init__(self):
        super().__init__()
        self.pos, self.split, self.mix, self.out = nn.Embedding(5, 8), nn.Flatten(0, 1), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        h = x + self.pos(torch.arange(5))
        h = self.split(h.unflatten(2, (2, 4)).transpose(1, 2))
        return self.out(self.mix(h).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2).mean(1))


def encoder(batch_first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first), 2)


def rand(*shape):
    return lambda: (torch.randn(3, *shape),)


def words():
    return (torch.randint(9, (3, 5)),)


NETS = {
    "residual": (Residual, rand(3, 5, 5)),
    "onto": (Onto, rand(4)),
    "shares": (Shares, rand(4)),
    "sequence first": (SequenceFirst, rand(5, 6)),
    "fx": (lambda: torch.fx.symbolic_trace(Residual()), rand(3, 5, 5)),
    "branch": (Branch, lambda: (torch.ones(3, 4) + 0.1 * torch.randn(3, 4),)),
    "two inputs": (TwoInputs, lambda: (torch.randn(3, 6), torch.randn(3, 3))),
    "structured": (Structured, rand(4)),
    "recurrent": (Recurrent, words),
    "heads": (Heads, rand(5, 8)),
    "encoder": (lambda: encoder(True), rand(5, 8)),
}

PLACES = [
    *(("residual", Place(p)) for p in ("stem", "conv1", "bn1", "conv2", "fc")),
    ("residual", Place("relu", call=0)),
    ("residual", Place("relu", call=1)),
    ("residual", Place("relu", "input", 0)),
    ("residual", Place("relu", "input", 1)),
    ("residual", Place("conv2", "input")),
    ("residual", Place("fc", "input")),
    ("onto", Place("a")),
    ("onto", Place("b")),
    ("onto", Place("b", "input")),
    ("shares", Place("a")),
    ("shares", Place("b", "input")),
    ("sequence first", Place("up")),
    ("sequence first", Place("encoder.layers.0")),
    ("sequence first", Place("encoder.layers.1.linear2", "input")),
    ("fx", Place("bn1")),
    ("fx", Place("conv1", "input")),
    ("branch", Place("b")),
    ("branch", Place("c", "input")),
    ("branch", Place("d")),
    ("two inputs", Place("image")),
    ("two inputs", Place("table")),
    ("two inputs", Place("mix")),
    ("two inputs", Place("mix", "input")),
    ("two inputs", Place("mix", "input", part=1)),
    ("structured", Place("a")),
    ("structured", Place("inner")),
    ("structured", Place("inner", part=1)),
    ("structured", Place("inner", "input")),
    ("structured", Place("inner", "input", part=1)),
    ("recurrent", Place("emb")),
    ("recurrent", Place("rnn")),
    ("recurrent", Place("rnn", part=1)),
    ("recurrent", Place("rnn", "input")),
    ("heads", Place("split")),
    ("heads", Place("mix")),
    ("heads", Place("out", "input")),
    ("encoder", Place("layers.0")),
    ("encoder", Place("layers.1.linear1")),
    ("encoder", Place("layers.1.self_attn")),
    ("encoder", Place("layers.1.norm1", "input")),
]


# ---------------------------------------------------------------- the independent judge


def judged(net, args, kwargs, replaced):
    """(output, values met) by plain hooks on a deep copy."""
    twin = copy.deepcopy(net).requires_grad_(False)
    values = {}
    for place, z in replaced.items():
        _hooked(twin, place, z, values)
    return twin(*args, **kwargs), values


def _hooked(twin, place, z, values):
    calls = []

    def swap(tree):
        flat = leaves(tree)
        i = [j for j, leaf in enumerate(flat) if is_float(leaf)][place.part or 0]
        values[place] = flat[i].clone()
        if z is None:
            return None
        return refill(tree, [z.clone() if j == i else leaf for j, leaf in enumerate(flat)])

    def after(m, a, out):
        calls.append(1)
        return swap(out) if len(calls) == (place.call or 0) + 1 else None

    def before(m, a, k):
        calls.append(1)
        return swap((a, k)) if len(calls) == (place.call or 0) + 1 else None

    layer = twin.get_submodule(place.layer)
    if place.side == "output":
        layer.register_forward_hook(after)
    else:
        layer.register_forward_pre_hook(before, with_kwargs=True)


def point(net, args, place, kwargs=None):
    with torch.no_grad():
        return judged(net, args, kwargs or {}, {place: None})[1][place]


def agree(got, want, tol=1e-5):
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        if isinstance(w, torch.Tensor):
            assert g.shape == w.shape
            assert torch.allclose(g, w, rtol=tol, atol=tol)
        else:
            assert g == w or type(g) is type(w)
    assert any(is_float(w) and w.abs().max() > 0 for w in want)


def total(tree):
    return sum((leaf**2).sum() for leaf in leaves(tree) if is_float(leaf))


def axis_of(net, args, place):
    """The batch axis of a place and how many units it has for a row, from one row and two."""
    one, two = (point(net, take(args, torch.arange(n)), place) for n in (1, 2))
    d = next(i for i, (p, q) in enumerate(zip(one.shape, two.shape, strict=True)) if p != q)
    return d, one.shape[d]


def rows_of(value, axis, rows):
    d, units = axis
    return value.unflatten(d, (-1, units)).index_select(d, rows).flatten(d, d + 1)


def made(kind):
    make, draw = NETS[kind]
    return make().eval(), draw()


@pytest.mark.parametrize(("kind", "place"), PLACES, ids=str)
def test_roads_agree_with_hooks(kind, place):
    net, args = made(kind)
    shadow, before = Shadow(net), fingerprint(net)
    full = FullRoad(shadow, (place,))
    v = point(net, args, place)
    with torch.no_grad():
        agree(full.points(args, {}), (v,), 1e-6)
        agree(full.points(args, {}), (v,), 1e-6)  # the second pass may stop early
    rows = torch.tensor([2, 0, 1, 1, 0])
    z = rows_of(v, axis_of(net, args, place), rows)
    z = (z * (1 + 0.1 * torch.randn_like(z))).requires_grad_()
    kept, few = z.detach().clone(), take(args, rows)
    want, _ = judged(net, few, {}, {place: z})
    (g_want,) = torch.autograd.grad(total(want), z)
    assert g_want.abs().max() > 0
    roads = {"full": lambda: full(few, {}, (z,))}
    suffix = SuffixRoad(shadow, place, args, {})
    roads["suffix"] = lambda: suffix(few, {}, z, rows)
    chunks = SuffixRoad(shadow, place, take(args, torch.arange(1)), {})
    chunks.extend(take(args, torch.arange(1, 3)), {})
    chunks.settle()
    roads["recorded in chunks"] = lambda: chunks(few, {}, z, rows)
    for name, road in roads.items():
        for _ in range(2):
            got = road()
            agree(got, want)
            (g,) = torch.autograd.grad(total(got), z)
            assert torch.allclose(g, g_want, rtol=1e-4, atol=1e-5), name
        with torch.no_grad():
            agree(road(), want)
        assert torch.equal(z, kept), name
    (p,), out = full.tap(args, {})
    plain, _ = judged(net, args, {}, {})
    agree(out, plain)
    agree(p, v)
    assert p.is_leaf
    assert p.requires_grad
    y = v.clone().requires_grad_()
    (g,), (w,) = torch.autograd.grad(total(out), p), torch.autograd.grad(total(judged(net, args, {}, {place: y})[0]), y)
    assert torch.allclose(g, w, rtol=1e-4, atol=1e-5)
    assert fingerprint(net) == before


def test_suffix_runs_only_what_lies_above():
    net, args = made("residual")
    shadow = Shadow(net)
    road = SuffixRoad(shadow, Place("conv2"), args, {})
    ran = []
    for name in ("stem", "conv1", "bn1", "conv2", "relu", "fc"):
        shadow.names[name].register_forward_hook(lambda m, a, o, name=name: ran.append(name))
    road(take(args, torch.tensor([0])), {}, point(net, args, Place("conv2"))[:1], torch.tensor([0]))
    assert ran == ["relu", "fc"]


def test_points_stop_the_forward_once_the_layer_is_known_to_be_called_once():
    net, args = made("residual")
    shadow, ran = Shadow(net), []
    shadow.names["fc"].register_forward_hook(lambda *a: ran.append("fc"))
    for place, often in ((Place("conv1"), 1), (Place("relu", call=0), 0)):
        ran.clear()
        road = FullRoad(shadow, (place,))
        first, second = road.points(args, {}), road.points(args, {})
        agree(first, second)
        assert len(ran) == often


def test_values_are_kept_as_they_were_met():
    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.same, self.b = nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 2)

        def forward(self, x):
            h = self.a(x)
            y = self.same(h)
            h += 1
            return self.b(y * 1 + h)

    net, x = Echo(), torch.randn(3, 4)
    road, want = FullRoad(Shadow(net), (Place("same"),)), net.a(x).detach()
    agree(road.points((x,), {}), (want,))
    (p,), out = road.tap((x,), {})
    agree(p, want)
    agree(out, net.b(want + want + 1))


def test_unused_cached_values_are_dropped():
    net, args = made("residual")
    road = SuffixRoad(Shadow(net), Place("conv2"), args, {})
    kept = {n.module: leaves(n.out)[0].numel() for n in road.root.kids[0].kids if n is not road.at}
    sizes = {next(k for k, m in road.shadow.names.items() if m is module): n for module, n in kept.items()}
    assert sizes == {"stem": 300, "conv1": 0, "bn1": 0, "relu": 0}
    assert leaves(road.at.out)[0].numel() == 0
    for _ in range(2):
        road.extend(args, {})
    road.settle()
    assert road.rows == 9
    assert [leaves(n.out)[0].numel() for n in road.root.kids[0].kids if n is not road.at] == [900, 0, 0, 0]


class Glances(nn.Module):
    """Looks at its input's size above the layers; at its numbers where the layer's are large."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.a(x).reshape(x.size(0), *x.shape[1:])
        return self.b(h if h.abs().max() < 100 else h + x) / len(x) * h.shape[0]


def test_inputs_that_are_only_sized_are_not_copied():
    net, x, rows = Glances(), torch.randn(3, 4), torch.tensor([2, 0, 2, 1])
    road = SuffixRoad(Shadow(net), Place("a"), (x,), {})
    few = road.inputs((x,), rows)
    assert few[0].is_meta
    assert few[0].shape == (4, 4)
    z = torch.randn(4, 4)
    agree(road(few, {}, z, rows), net.b(z))
    with pytest.raises(Unfit):  # never numbers that are not there
        road(few, {}, 1e4 * z, rows)
    agree(road((x[rows],), {}, 1e4 * z, rows), net.b(1e4 * z + x[rows]))


def test_inputs_that_are_read_above_are_those_of_the_rows():
    net, args = made("two inputs")
    rows = torch.tensor([2, 0])
    image, table, *_ = SuffixRoad(Shadow(net), Place("mix"), args, {}).inputs(args, rows)
    assert torch.equal(image, args[0][rows])
    assert table.is_meta


@pytest.mark.parametrize("n", [1, 2, 3])
def test_making_a_road_costs_the_rows_and_a_check(n):
    net, args = made("residual")
    spent = []
    SuffixRoad(Shadow(net), Place("conv2"), take(args, torch.arange(n)), {}, spend=spent.append)
    assert sum(spent) == n + 3 * (3 if n == 2 else 2)


def test_one_recorded_row_serves_many():
    net, args = made("residual")
    one = take(args, torch.tensor([1]))
    road = SuffixRoad(Shadow(net), Place("conv2"), one, {})
    rows = torch.zeros(7, dtype=torch.long)
    z = torch.randn(7, 4, 5, 5)
    agree(road(take(one, rows), {}, z, rows), judged(net, take(one, rows), {}, {Place("conv2"): z})[0])


def test_z_may_come_as_a_tuple():
    net, args = made("residual")
    road, z, rows = SuffixRoad(Shadow(net), Place("conv1"), args, {}), torch.randn(3, 4, 5, 5), torch.arange(3)
    assert torch.equal(road(args, {}, (z,), rows), road(args, {}, z, rows))


# ---------------------------------------------------------------- several places, reading elsewhere


def test_several_places():
    net, args = made("two inputs")
    places = (Place("image"), Place("table"), Place("mix", "input", part=1))
    road = FullRoad(Shadow(net), places[:2])
    a, b = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    want = judged(net, args, {}, {places[0]: a, places[1]: b})[0]
    got = road(args, {}, (a, b))
    agree(got, want)
    for g, w in zip(torch.autograd.grad(total(got), (a, b)), torch.autograd.grad(total(want), (a, b)), strict=True):
        assert torch.allclose(g, w, atol=1e-5)
        assert w.abs().max() > 0
    agree(road.points(args, {}), tuple(point(net, args, p) for p in places[:2]))
    with pytest.raises(UsageError, match="2 places"):
        road(args, {}, (a,))


def test_two_parts_of_one_call_and_two_calls_of_one_layer():
    net, args = made("structured")
    parts = (Place("inner"), Place("inner", part=1))
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    agree(FullRoad(Shadow(net), parts)(args, {}, (a, b)), judged(net, args, {}, {parts[0]: a, parts[1]: b})[0])
    net, args = made("residual")
    calls = (Place("relu", call=0), Place("relu", "input", 1))
    a, b = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    road = FullRoad(Shadow(net), calls)
    agree(road(args, {}, (a, b)), judged(net, args, {}, {calls[0]: a, calls[1]: b})[0])
    agree(road.points(args, {}), tuple(point(net, args, c) for c in calls))


def test_points_along_one_path_are_independent():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    (a, b), out = FullRoad(Shadow(net), (Place("0"), Place("1"))).tap((torch.randn(2, 3),), {})
    ga, gb = torch.autograd.grad(out.sum(), (a, b), allow_unused=True)
    assert ga is None or not ga.any()
    assert torch.allclose(gb, net[2].weight.expand(2, 3))


READS = [Place("relu", call=1), Place("relu", "input", 1), Place("conv2"), Place("fc", "input"), Place("fc"), Place("")]


@pytest.mark.parametrize("read", READS, ids=str)
@pytest.mark.parametrize("place", [Place("conv2"), Place("relu", call=0), Place("conv2", "input")], ids=str)
def test_a_layer_read_above_the_place(place, read):
    net, args = made("residual")
    rows, few = torch.tensor([1, 1, 0, 2]), take(args, torch.tensor([1, 1, 0, 2]))
    z = torch.randn(4, 4, 5, 5, requires_grad=True)
    want = judged(net, few, {}, {place: z, **({read: None} if read.layer else {})})
    want = want[1][read] if read.layer else want[0]
    if place == read:
        want = z
    shadow = Shadow(net)
    for road in (lambda: FullRoad(shadow, (place,), read)(few, {}, (z,)), lambda: SuffixRoad(shadow, place, args, {}, read)(few, {}, z, rows)):
        for _ in range(2):
            got = road()
            assert isinstance(got, tuple)
            agree(got, (want,))
            (g,), (w,) = torch.autograd.grad(total(got), z), torch.autograd.grad(total(want), z, retain_graph=True)
            assert torch.allclose(g, w, atol=1e-5)


def test_reading_a_layer_from_the_input():
    net, args = made("residual")
    road = FullRoad(Shadow(net), (), Place("conv1"))
    x = args[0].clone().requires_grad_()
    for _ in range(2):
        (h,) = road((x,), {}, ())
        agree((h,), (net.conv1(net.stem(x)),))
        assert torch.autograd.grad(h.sum(), x)[0].any()


def test_tap_with_read():
    net, args = made("residual")
    road = FullRoad(Shadow(net), (Place("conv1"),), Place("fc", "input"))
    for _ in range(2):
        (p,), (h,) = road.tap(args, {})
        agree(p, point(net, args, Place("conv1")))
        agree(h, point(net, args, Place("fc", "input")))
        assert torch.autograd.grad(h.sum(), p)[0].any()


def test_reading_below_the_place_is_no_job_for_a_suffix():
    net, args = made("residual")
    shadow, z = Shadow(net), torch.randn(3, 4, 5, 5)
    agree(FullRoad(shadow, (Place("conv2"),), Place("conv1"))(args, {}, (z,)), (point(net, args, Place("conv1")),))
    with pytest.raises(Unfit):
        SuffixRoad(shadow, Place("conv2"), args, {}, Place("conv1"))


def test_the_model_itself_is_a_place():
    net, args = made("residual")
    road = FullRoad(Shadow(net), (Place("", "input"),))
    x = torch.randn(3, 3, 5, 5, requires_grad=True)
    agree(road(args, {}, (x,)), net(x))
    agree(FullRoad(Shadow(net), (Place(""),)).points(args, {})[0], net(*args))


# ---------------------------------------------------------------- what cannot be


def test_calls_must_be_told_apart():
    net, args = made("residual")
    shadow, z = Shadow(net), torch.randn(3, 4, 5, 5)
    road = FullRoad(shadow, (Place("relu"),))
    tries = (lambda: road.points(args, {}), lambda: road.tap(args, {}), lambda: road(args, {}, (z,)), lambda: SuffixRoad(shadow, Place("relu"), args, {}))
    for attempt in (*tries, *tries):
        with pytest.raises(UsageError, match="layer relu is called 2 times in the forward pass; say which: 'relu#0' or 'relu#1'"):
            attempt()
    for place in (Place("conv1"), Place("relu", call=1)):
        with pytest.raises(UsageError, match="relu#1"):
            FullRoad(shadow, (place,), Place("relu"))(args, {}, (z,))
    with pytest.raises(UsageError, match="no call 2"):
        FullRoad(shadow, (Place("relu", call=2),)).points(args, {})
    with pytest.raises(UsageError, match="no call 2"):
        SuffixRoad(shadow, Place("relu", call=2), args, {})


def test_a_layer_that_is_never_called():
    net, args = made("branch")
    low = (-args[0],)
    shadow = Shadow(net)
    for attempt in (
        lambda: FullRoad(shadow, (Place("b"),)).points(low, {}),
        lambda: FullRoad(shadow, (Place("b"),))(low, {}, (low[0],)),
        lambda: FullRoad(shadow, (Place("b"),)).tap(low, {}),
        lambda: SuffixRoad(shadow, Place("b"), low, {}),
        lambda: FullRoad(shadow, (), Place("b"))(low, {}, ()),
    ):
        with pytest.raises(UsageError, match="layer b is never called"):
            attempt()


def test_a_value_that_is_no_float():
    net, args = made("recurrent")
    with pytest.raises(UsageError, match="0 floating-point tensors on its input side"):
        FullRoad(Shadow(net), (Place("emb", "input"),)).points(args, {})
    with pytest.raises(UsageError, match="part 2"):
        FullRoad(Shadow(net), (Place("rnn", part=2),)).points(args, {})


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Skip(nn.Module):
    """Adds a cached value that depends on the other rows."""

    def __init__(self, below):
        super().__init__()
        self.below, self.a, self.b = below, nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        u = self.below(x)
        return self.b(self.a(x) + u)


@pytest.mark.parametrize("below", [Noise(), Centred(), nn.BatchNorm1d(4).train(), nn.Dropout(0.5).train()], ids=lambda m: type(m).__name__)
def test_suffix_refuses_what_it_would_get_wrong(below):
    net, x = Skip(below), torch.randn(3, 4)
    net.a.eval(), net.b.eval()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(Unfit):
        SuffixRoad(Shadow(net), Place("a"), (x,), {})
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_suffix_refuses_a_batch_size_kept_in_a_number(n):
    with pytest.raises(Unfit):
        SuffixRoad(Shadow(Stateful()), Place("a"), (torch.randn(n, 4),), {})


def test_suffix_notices_another_branch_in_a_later_chunk():
    net, args = made("branch")
    road = SuffixRoad(Shadow(net), Place("b"), args, {})
    with pytest.raises(Unfit):
        road.extend((-args[0],), {})


def test_suffix_notices_another_branch_when_it_is_called():
    net, args = made("branch")
    shadow, rows, low = Shadow(net), torch.arange(3), -torch.ones(3, 4)
    above = SuffixRoad(shadow, Place("a"), args, {})
    agree(above(args, {}, low, rows), judged(net, args, {}, {Place("a"): low})[0])  # the branch lies above, so it is run
    below = SuffixRoad(shadow, Place("b"), args, {})
    agree(below(args, {}, low, rows), judged(net, args, {}, {Place("b"): low})[0])
    with torch.no_grad():  # other weights make the cached value choose another branch
        below.root.kids[0].kids[0].out.neg_()
    with pytest.raises(Unfit):
        below(args, {}, low, rows)


def test_stop_does_not_escape_and_errors_leave_nothing_behind():
    net, args = made("residual")
    shadow, bad = Shadow(net), (torch.randn(3, 9, 5, 5),)
    road = FullRoad(shadow, (Place("conv1"),))
    try:
        road.points(args, {})
        road.points(args, {})
        for attempt in (lambda: road.points(bad, {}), lambda: road.tap(bad, {}), lambda: SuffixRoad(shadow, Place("conv1"), bad, {})):
            with pytest.raises(RuntimeError):
                attempt()
            assert shadow.handler is None
    except Stop:
        pytest.fail("Stop escaped")
    agree(road(args, {}, road.points(args, {})), net(*args))


def test_a_model_that_swallows_everything():
    class Swallows(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            try:
                x = self.a(x)
            except BaseException:  # noqa: BLE001
                x = x * 0
            return self.b(x)

    net, x = Swallows(), torch.randn(2, 4)
    road = FullRoad(Shadow(net), (Place("a"),))
    for _ in range(3):
        agree(road.points((x,), {})[0], net.a(x))


def test_roads_made_in_inference_mode_can_be_differentiated():
    net, args = made("residual")
    place, rows = Place("conv2"), torch.tensor([0, 2])
    with torch.inference_mode():
        shadow = Shadow(net)
        road, full = SuffixRoad(shadow, place, args, {}), FullRoad(shadow, (place,))
        (p,), out = full.tap(args, {})
    assert torch.autograd.grad(out.sum(), p)[0].any()
    z = torch.randn(2, 4, 5, 5, requires_grad=True)
    got = road(take(args, rows), {}, z, rows)
    want = full(take(args, rows), {}, (z,))
    agree(got, want)
    assert torch.allclose(torch.autograd.grad(total(got), z)[0], torch.autograd.grad(total(want), z)[0], atol=1e-5)


# ---------------------------------------------------------------- inputs of all shapes


class Words(nn.Module):
    """Takes keywords alone, one of them shared by all rows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, *, x, grid, mask=None):
        return (self.b(self.a(x) @ grid),)


def test_keywords_and_shared_inputs():
    net, kwargs = Words(), {"x": torch.randn(3, 4), "grid": shared(torch.randn(4, 4))}
    rows, z = torch.tensor([2, 2, 0, 1]), torch.randn(4, 4, requires_grad=True)
    plain = {"x": kwargs["x"][rows], "grid": kwargs["grid"].value}
    want = judged(net, (), plain, {Place("a"): z})[0]
    for runner in (Shadow(net), Direct(net)):
        agree(FullRoad(runner, (Place("a"),))((), plain, (z,)), want)
        agree(SuffixRoad(runner, Place("a"), (), kwargs)((), take(kwargs, rows), z, rows), want)


def test_user_dict_inputs():
    class Takes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, batch):
            return self.b(self.a(batch["x"]) * batch["w"])

    net, batch = Takes(), UserDict(x=torch.randn(3, 4), w=torch.randn(3, 4))
    rows, z = torch.tensor([1, 0]), torch.randn(2, 4)
    road = SuffixRoad(Shadow(net), Place("a"), (batch,), {})
    few = take((batch,), rows)
    agree(road(few, {}, z, rows), judged(net, few, {}, {Place("a"): z})[0])


def test_the_fused_encoder_layer_is_opened():
    net, args = encoder(True).eval(), (torch.randn(3, 5, 8),)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[0, 3:] = True
    for place in (Place("layers.0.linear1"), Place("layers.1.norm2", "input")):
        for runner in (Shadow(net), Direct(net)):
            with torch.no_grad():
                road = FullRoad(runner, (place,))
                (v,) = road.points(args, {})
                agree(road(args, {}, (v,)), net(*args))
                (v,) = road.points(args, {"src_key_padding_mask": mask})
                assert v.shape[:2] == (3, 5)
    assert not any(m._forward_hooks for m in net.modules())


def test_direct_roads():
    net, args = made("residual")
    direct, place, before = Direct(net), Place("conv2"), fingerprint(net)
    z, rows = torch.randn(3, 4, 5, 5, requires_grad=True), torch.arange(3)
    want = judged(net, args, {}, {place: z})[0]
    (g_want,) = torch.autograd.grad(total(want), z)
    for out in (FullRoad(direct, (place,))(args, {}, (z,)), SuffixRoad(direct, place, args, {})(args, {}, z, rows)):
        agree(out, want)
        assert torch.allclose(torch.autograd.grad(total(out), z)[0], g_want, atol=1e-5)
    assert fingerprint(net) == before
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any("_compiled_call_impl" in vars(m) for m in net.modules())


def test_train_mode_statistics_survive_all_roads():
    net, args = Residual().train(), (torch.randn(3, 3, 5, 5),)
    before = copy.deepcopy(net.state_dict())
    for runner in (Shadow(net), Direct(net)):
        road = FullRoad(runner, (Place("stem"),))
        (v,) = road.points(args, {})
        road(args, {}, (v * 2,))
        road.tap(args, {})
        with pytest.raises(Unfit):
            SuffixRoad(runner, Place("conv2", "input"), args, {}) and SuffixRoad(runner, Place("stem", "input"), args, {})(args, {}, v, torch.tensor([0]))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# ---------------------------------------------------------------- transformers


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, max_position_embeddings=12)
    return transformers.BertForSequenceClassification(config).eval()


def llama():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config).eval()


HF = [
    (bert, "bert.encoder.layer.1"),
    (bert, "bert.encoder.layer.1.attention.self"),
    (bert, "bert.embeddings.word_embeddings"),
    (bert, "bert.encoder.layer.2.intermediate"),
    (llama, "model.embed_tokens"),
    (llama, "model.layers.1"),
    (llama, "model.layers.1.self_attn"),
    (llama, "model.layers.2.mlp"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "layer"), HF)
@pytest.mark.parametrize("cache", [False, True])
def test_transformers(make, layer, cache):
    net, place = make(), Place(layer)
    kwargs = {"input_ids": torch.randint(30, (2, 6)), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    kwargs["attention_mask"][1, 4:] = 0
    extra = {"use_cache": cache} if make is llama else {}
    shadow, before = Shadow(net), fingerprint(net)
    rows = torch.tensor([1, 0, 1])
    few = take(kwargs, rows) | extra
    v = point(net, (), place, kwargs | extra)
    z = (v[rows] * (1 + 0.1 * torch.randn_like(v[rows]))).requires_grad_()
    want = judged(net, (), few, {place: z})[0].logits
    (g_want,) = torch.autograd.grad(total(want), z)
    full, suffix = FullRoad(shadow, (place,)), SuffixRoad(shadow, place, (), kwargs | extra)
    for _ in range(2):
        for out in (full((), few, (z,)), suffix((), few, z, rows)):
            agree(out.logits, want)
            assert torch.allclose(torch.autograd.grad(total(out.logits), z)[0], g_want, rtol=1e-3, atol=1e-5)
    agree(full.points((), kwargs | extra), (v,))
    assert fingerprint(net) == before


# ---------------------------------------------------------------- places


def test_places_are_read_from_what_people_write():
    net = Residual()
    names = dict(net.named_modules())
    assert Place.parse("conv1", names) == Place("conv1")
    assert Place.parse("relu#1", names) == Place("relu", call=1)
    assert Place.parse(("relu#1", "input"), names) == Place("relu", "input", 1)
    assert Place.parse((net.conv2, "input"), names) == Place("conv2", "input")
    assert Place.parse(net, names) == Place("")
    assert Place.parse(Place("fc"), names) == Place("fc")
    assert Place.parse("_orig_mod.fc", names) == Place("fc")
    for place in (Place("relu"), Place("relu", "input", 1, 2), Place("relu", call=0), Place("", "input"), Place("fc", part=1)):
        assert Place.parse(str(place), names) == place
    assert str(Place("layer4.0", "input", 1)) == "layer4.0#1 (input)"


def test_places_that_do_not_exist():
    names = dict(Residual().named_modules())
    with pytest.raises(UnknownName, match="'conv1'"):
        Place.parse("conf1", names)
    for spec in (nn.Linear(2, 2), 3, None, ("conv1", "sideways"), ("a", "b", "c")):
        with pytest.raises(UsageError):
            Place.parse(spec, names)
    with pytest.raises(UsageError):
        Place("conv1", call=-1)
