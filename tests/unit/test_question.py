"""Questions: which rows, which place, against what; and the sentences for those that cannot be asked."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from models import KeywordOnly, MiniViT, Residual, Reused, Split, TwoInputs, Words, Wrapped, made, normal, subjects
from pellucid.attribution import InputXGradient, IntegratedGradients, Occlusion, Saliency
from pellucid.backends import wrap
from pellucid.core.errors import CannotComplete, ModelError, NotApplicable, PellucidError, UnknownName, UsageError
from pellucid.core.places import Place
from pellucid.core.points import Points
from pellucid.core.question import Samples, ask, blur
from pellucid.core.target import Label, Neuron
from pellucid.core.tree import each, leaves, shared

X = normal(3, 5)
PICTURES = normal(3, 2, 6, 6)


@pytest.fixture
def net():
    return made(Reused)


@pytest.fixture
def model(net):
    return wrap(net)


def plain_grad(f, x):
    """The gradient of a sum, by plain autograd."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(f(leaf).sum(), leaf)[0]


# ---------------------------------------------------------------- values and gradients


def test_value_and_grad_are_the_models_own(net, model):
    q = ask(model, X, [0, 1, 2])
    y = torch.tensor([[0], [1], [2]])
    want = net(X).gather(1, y)[:, 0]
    torch.testing.assert_close(q.value(X), want)
    torch.testing.assert_close(q.target_values(), want)
    torch.testing.assert_close(q.grad(), plain_grad(lambda x: net(x).gather(1, y), X))
    assert want.abs().min() > 1e-3


def test_leading_dimensions(net, model):
    q = ask(model, X, 1)
    z = normal(2, 4, 3, 5, seed=5)
    want = net(z.flatten(0, 2))[:, 1].reshape(2, 4, 3)
    torch.testing.assert_close(q.value(z), want)
    torch.testing.assert_close(q.grad(z), plain_grad(lambda v: net(v.flatten(0, 2))[:, 1], z))
    torch.testing.assert_close(q.outputs(z), net(z.flatten(0, 2)).reshape(2, 4, 3, 3))


def test_points_and_weights(net, model):
    q = ask(model, X, 1)
    z = normal(4, 3, 5, seed=5)
    points = Points(4, lambda s, rows: z[s, rows])
    torch.testing.assert_close(q.value(points), q.value(z))
    g = q.grad(z)
    for w in (normal(4), normal(4, 3), normal(2, 4, 3)):
        wide = w if w.ndim == 3 else (w[None] if w.ndim == 2 else w[None, :, None]).expand(1, 4, 3)
        want = torch.einsum("jnb,nbc->jbc", wide, g)
        torch.testing.assert_close(q.grad(points, weights=w), want if w.ndim == 3 else want[0])
    with pytest.raises(UsageError, match="weights"):
        q.grad(points)


def test_points_of_another_shape_are_refused(model):
    with pytest.raises(UsageError, match=r"\(3, 5\).*got \[\(3, 4\)\]"):
        ask(model, X, 1).value(normal(3, 4))


def test_the_path_runs_from_the_baseline_to_the_point(model):
    q = ask(model, X, 1, baseline=0.5)
    points = q.path(torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64))
    got = [leaves(points.make(torch.full((3,), i), torch.arange(3)))[0] for i in range(3)]
    for z, t in zip(got, (0, 0.25, 1), strict=True):
        torch.testing.assert_close(z, 0.5 + t * (X - 0.5))


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("spell", [lambda n: "twice#1", lambda n: Place("twice", call=1)], ids=["text", "place"])
def test_a_layer_called_twice(net, model, spell):
    """Each call is its own place: the second one feeds only the output."""
    q = ask(model, X, 1, at=spell(net))
    h = torch.relu(net.first(X))
    h = h + torch.relu(net.twice(h))
    z = net.twice(h).detach()
    torch.testing.assert_close(q.point, z)
    torch.testing.assert_close(q.grad(), plain_grad(lambda v: net.out(h + torch.relu(v))[:, 1], z))
    with pytest.raises(UsageError, match=r"called 2 times.*'twice#0' or 'twice#1'"):
        ask(model, X, 1, at="twice").grad()
    with pytest.raises(UsageError, match="no call 2"):
        ask(model, X, 1, at="twice#2").grad()


def test_the_input_side_of_a_layer(net, model):
    h = torch.relu(net.first(X))
    h = h + torch.relu(net.twice(h))
    z = (h + torch.relu(net.twice(h))).detach()
    for at in (("out", "input"), (net.out, "input"), "out (input)", Place("out", "input")):
        q = ask(model, X, 1, at=at)
        torch.testing.assert_close(q.point, z)
        torch.testing.assert_close(q.grad(), net.out.weight[1].detach().expand(3, -1))
        assert q.at == "out (input)"


def test_several_layers_at_once():
    net = made(Residual)
    q = ask(wrap(net), PICTURES, 1, at=["a", "b"])
    assert list(q.point) == ["a", "b"]
    values = Saliency(absolute=False)(q).values
    for name in ("a", "b"):
        alone = Saliency(absolute=False)(ask(wrap(net), PICTURES, 1, at=name)).values
        assert values[name].shape == alone.shape
    torch.testing.assert_close(values["b"], Saliency(absolute=False)(ask(wrap(net), PICTURES, 1, at="b")).values)
    steps = IntegratedGradients(steps=3)(q)
    assert {k: v.shape for k, v in steps.values.items()} == {k: v.shape for k, v in q.point.items()}
    assert Occlusion(window=3, stride=3)(q).values["a"].abs().max() > 0


def test_a_layer_that_gives_a_tuple():
    net = made(Split)
    for part, other in ((0, 1), (1, 0)):
        q = ask(wrap(net), X, 1, at=Place("pair", part=part))
        both = [t.detach() for t in net.pair(X)]
        torch.testing.assert_close(q.point, both[part])
        torch.testing.assert_close(q.grad(), both[other] * net.out.weight[1].detach())
        assert q.at == f"pair (part {part})"
    torch.testing.assert_close(ask(wrap(net), X, 1, at="pair").point, net.pair(X)[0].detach())
    with pytest.raises(UsageError, match="2 floating-point tensors"):
        ask(wrap(net), X, 1, at=Place("pair", part=2)).grad()


def test_unknown_and_foreign_layers(model):
    with pytest.raises(UnknownName, match="'first'"):
        ask(model, X, 1, at="frist")
    with pytest.raises(UsageError, match="no part of it"):
        ask(model, X, 1, at=nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"output.*input"):
        ask(model, X, 1, at=("first", "middle"))
    with pytest.raises(NotApplicable, match="plain callable"):
        ask(wrap(lambda x: x), X, 1, at="first")


# ---------------------------------------------------------------- baselines


def test_baselines_of_every_kind(model):
    start = lambda b, x=X: ask(model, x, 1, baseline=b).start  # noqa: E731
    torch.testing.assert_close(start(0.5), torch.full_like(X, 0.5))
    torch.testing.assert_close(start(None), torch.zeros_like(X))
    torch.testing.assert_close(start(X + 1), X + 1)
    torch.testing.assert_close(start(X[0]), X[0].expand(3, -1))
    torch.testing.assert_close(start(X[:1]), X[0].expand(3, -1))
    torch.testing.assert_close(start(np.ones(5)), torch.ones_like(X))
    torch.testing.assert_close(start("mean"), X.mean(1, keepdim=True).expand_as(X))
    noise = start("noise")
    assert ((noise >= X.amin(1, keepdim=True)) & (noise <= X.amax(1, keepdim=True))).all()
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(noise, start("noise"))


def test_baselines_of_pictures():
    model = wrap(made(Residual))
    start = lambda b: ask(model, PICTURES, 1, baseline=b).start  # noqa: E731
    torch.testing.assert_close(start("mean"), PICTURES.mean((2, 3), keepdim=True).expand_as(PICTURES))
    torch.testing.assert_close(start("blur"), blur(PICTURES))
    flat = torch.full_like(PICTURES, 0.7)
    torch.testing.assert_close(blur(flat), flat, rtol=1e-6, atol=1e-6)
    assert blur(PICTURES, 2.0).var() < blur(PICTURES, 0.5).var() < PICTURES.var()


def test_a_baseline_lives_in_input_space_and_is_carried_to_the_layer(net, model):
    q = ask(model, X, 1, at="first", baseline=0.5)
    torch.testing.assert_close(q.start, net.first(torch.full_like(X, 0.5)).detach())


def test_many_baselines_are_averaged(model):
    pool = normal(3, 5, seed=4)
    e = InputXGradient(against_baseline=True)(ask(model, X, 1, baseline=Samples(pool)))
    want = torch.stack([InputXGradient(against_baseline=True)(ask(model, X, 1, baseline=b)).values for b in pool])
    torch.testing.assert_close(e.values, want.mean(0))
    torch.testing.assert_close(e.error, want.std(0) / 3**0.5)
    assert e.baseline == "3 samples"
    with pytest.raises(NotApplicable, match="many samples"):
        _ = ask(model, X, 1, baseline=Samples(pool)).start


BASELINES = [("fog", "blur, mean, noise"), (True, "True"), (normal(4, 5), r"\(3, 5\)"), (torch.full((5,), float("nan")), "finite"), ((X, X), "got 2"), ("blur", "pictures")]


@pytest.mark.parametrize(("baseline", "says"), BASELINES, ids=["name", "bool", "shape", "nan", "count", "blur of columns"])
def test_baselines_that_are_refused(model, baseline, says):
    with pytest.raises(UsageError, match=says):
        _ = ask(model, X, 1, baseline=baseline).start


# ---------------------------------------------------------------- inputs


def test_several_inputs_and_one_explained():
    net, a, b = made(TwoInputs), normal(3, 4), normal(3, 3, seed=2)
    q = ask(wrap(net), (a, b), 1)
    ga, gb = q.grad()
    torch.testing.assert_close(ga, plain_grad(lambda v: net(v, b)[:, 1], a))
    torch.testing.assert_close(gb, plain_grad(lambda v: net(a, v)[:, 1], b))
    only = ask(wrap(net), (a, shared(b[:1])), 1)
    torch.testing.assert_close(only.grad(), plain_grad(lambda v: net(v, b[:1])[:, 1], a))


def test_keywords_shared_and_optional():
    net, a, b = made(KeywordOnly), normal(3, 4), normal(3, 3, seed=2)
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    q = ask(wrap(net), {"a": a, "b": b, "scale": shared(scale)}, 1)
    assert list(q.point) == ["a", "b"]
    torch.testing.assert_close(q.grad()["b"], plain_grad(lambda v: net(a=a, b=v, scale=scale)[:, 1], b))
    e = IntegratedGradients()(q)
    assert list(e.values) == ["a", "b"]


def test_integers_are_explained_at_the_embedding():
    net, ids = made(Words), torch.tensor([[1, 2, 3], [4, 0, 9]])
    q = ask(wrap(net), ids, 1)
    assert q.at == "emb"
    torch.testing.assert_close(q.point, net.emb(ids).detach())
    e = Saliency()(q)
    assert any("emb" in n for n in e.provenance["notes"])
    assert e.values.shape == (2, 3, 4)
    with pytest.raises(NotApplicable, match="at="):
        ask(wrap(nn.Sequential(nn.Flatten()).eval()), ids, 1)


def test_baselines_of_integer_inputs():
    """One row of tokens serves all rows; many are averaged over; a baseline that is none says so."""
    net, ids = made(Words), torch.tensor([[1, 2, 3], [4, 0, 9]])
    others = torch.tensor([[0, 0, 0], [5, 6, 7]])
    model = wrap(net)
    torch.testing.assert_close(ask(model, ids, 1, baseline=others[1]).start, net.emb(others[[1, 1]]).detach())
    one = [IntegratedGradients(steps=5)(ask(model, ids, 1, baseline=b)).values for b in others]
    torch.testing.assert_close(IntegratedGradients(steps=5)(ask(model, ids, 1, baseline=Samples(others))).values, torch.stack(one).mean(0))
    for bad in ("blur", (others, others)):
        with pytest.raises(UsageError, match="integer inputs"):
            _ = ask(model, ids, 1, baseline=bad).start


def test_arrays_and_other_precisions_come_in_as_the_model_takes_them(net, model):
    want = ask(model, X, 1).target_values()
    for x in (X.numpy(), X.float().double(), X.float()):
        q = ask(model, x, 1)
        assert q.point.dtype == torch.float64
        torch.testing.assert_close(q.target_values(), want, rtol=1e-5, atol=1e-5)


INPUTS = [
    (torch.full((3, 5), float("nan")), "finite numbers; got nan"), (torch.full((3, 5), float("inf")), "got inf"), (torch.zeros(0, 5), "at least one row"),
    ((X, X[:2]), "same number of rows"), ((), "at least one input tensor"), ("cat.jpg", "preprocess="), (torch.tensor(1.0), "batch axis"),
]


@pytest.mark.parametrize(("x", "says"), INPUTS, ids=["nan", "inf", "empty", "rows", "nothing", "file", "scalar"])
def test_inputs_that_are_refused(model, x, says):
    with pytest.raises(UsageError, match=says):
        ask(model, x, 1)


def test_names_and_chunks_that_are_refused(model):
    with pytest.raises(UsageError, match="2 for 3 rows"):
        ask(model, X, 1, ids=("a", "b"))
    with pytest.raises(UsageError, match=r"at least 1.*got 0"):
        ask(model, X, 1, batch_size=0)
    with pytest.raises(UsageError, match="2 targets for 3 rows"):
        ask(model, X, torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="each one named"):
        ask(model, X, [None, Label(1)])


# ---------------------------------------------------------------- models that cannot be asked


class Broken(nn.Module):
    """Does what it should not, at one place."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.inner = kind, Reused()

    def forward(self, x):
        y = self.inner(x)
        kinds = {
            "raises": lambda: x @ x, "nan": lambda: y * float("nan"), "argmax": lambda: y.argmax(1, keepdim=True).double(),
            "no grad": lambda: y.detach(), "one row": lambda: y[:1], "text": lambda: "cat",
        }
        return kinds[self.kind]()


BROKEN = [
    ("raises", ModelError, r"raised RuntimeError on inputs of shape \(3, 5\) float64"), ("nan", CannotComplete, "finite outputs; .* gave nan for row 0"), ("argmax", NotApplicable, "differentiably"),
    ("no grad", NotApplicable, "differentiably"), ("one row", ModelError, r"gave shape \(1, 3\)"), ("text", ModelError, "str"),
]


@pytest.mark.parametrize(("kind", "error", "says"), BROKEN, ids=[k for k, _, _ in BROKEN])
def test_models_that_do_what_they_should_not(kind, error, says):
    for method in (Saliency(), IntegratedGradients(), IntegratedGradients(steps=2)):
        with pytest.raises(error, match=says):
            method(ask(wrap(made(lambda: Broken(kind))), X, 0))


def test_values_of_what_has_no_gradient():
    """Occlusion asks for values alone."""
    e = Occlusion()(ask(wrap(made(lambda: Broken("no grad"))), X, 0))
    assert e.values.abs().max() > 0


@pytest.mark.parametrize("kind", ["single", "dict", "dataclass", "ModelOutput"])
def test_outputs_of_which_one_is_meant(kind):
    if kind == "ModelOutput":
        pytest.importorskip("transformers")
    net = made(lambda: Wrapped(kind))
    model = wrap(net)
    want = ask(wrap(net.inner), X, 1).grad()
    torch.testing.assert_close(ask(model, X, 1).grad(), want)


def test_outputs_of_which_any_may_be_meant():
    net = made(lambda: Wrapped("tuple"))
    with pytest.raises(ModelError, match=r"tuple with 2 .*output=0"):
        ask(wrap(net), X, 1).grad()
    torch.testing.assert_close(ask(wrap(net, output=1), X, 4).value(X), net.inner.first(X)[:, 4].detach())
    with pytest.raises(ModelError, match="output=5"):
        ask(wrap(net, output=5), X, 1).grad()
    torch.testing.assert_close(ask(wrap(made(lambda: Wrapped("dict")), output="hidden"), X, 4).grad(), net.inner.first.weight[4].detach().expand(3, -1))


def test_a_layer_that_the_target_does_not_depend_on():
    """A target read before the place, a layer beside the road, a layer that is never called."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.beside, self.never = nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            self.beside(x)
            return self.main(x)

    model = wrap(made(Beside))
    for method in (Saliency(), IntegratedGradients(), IntegratedGradients(steps=20)):
        with pytest.raises(NotApplicable, match="depends"):
            method(ask(model, X, 1, at="beside"))
        with pytest.raises(PellucidError, match=r"depends|does not come after"):
            method(ask(wrap(made(Residual)), PICTURES, Neuron("stem", (0, 0, 0)), at="b"))
        with pytest.raises(UsageError, match="never called"):
            method(ask(model, X, 1, at="never"))


def test_targets_out_of_range_and_unknown(model):
    for method in (Saliency(), Occlusion()):
        with pytest.raises(UsageError, match="got 3"):
            method(ask(model, X, 3))
        with pytest.raises(UsageError, match=r"unit|position"):
            method(ask(model, X, Neuron("out", 3)))
    with pytest.raises(UnknownName, match="layer"):
        Saliency()(ask(model, X, Neuron("nowhere", 3)))


def test_wrong_shapes_come_back_in_the_models_own_words(model):
    with pytest.raises(ModelError, match=r"\(3, 4\) float64"):
        Saliency()(ask(model, normal(3, 4), 1))
    with pytest.raises(ModelError, match="raised"):
        ask(wrap(made(Words)), torch.tensor([[99]]), 1)


# ---------------------------------------------------------------- questions made from questions


def test_take_keeps_rows_targets_names_and_baselines(model):
    q = ask(model, X, [0, 1, 2], baseline=X + 1, ids="abc")
    part = q.take(torch.tensor([2, 0, 2]))
    assert part.ids == ("c", "a", "c")
    torch.testing.assert_close(part.point, X[[2, 0, 2]])
    torch.testing.assert_close(part.start, X[[2, 0, 2]] + 1)
    torch.testing.assert_close(part.grad(), q.grad()[[2, 0, 2]])
    rows = torch.arange(3)
    assert torch.equal(part.noise(rows * 0, rows), q.noise(torch.zeros(3, dtype=torch.long), torch.tensor([2, 0, 2])))


@pytest.mark.parametrize("at", [None, "first"])
def test_with_point_asks_there(net, model, at):
    """The prediction that is explained stays the one at the rows themselves."""
    q = ask(model, X, None, at=at)
    z = q.point + 3 * normal(*q.point.shape, seed=8)
    moved = q.with_point(z)
    torch.testing.assert_close(moved.point, z)
    torch.testing.assert_close(moved.target_values(), q.value(z))
    torch.testing.assert_close(moved.grad(), q.grad(z))
    assert (moved.target_values() - q.target_values()).abs().min() > 1e-3


def test_with_target_and_with_model(net, model):
    q = ask(model, X, 0)
    torch.testing.assert_close(q.with_target(2).target_values(), net(X)[:, 2].detach())
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.out.bias += 1
    torch.testing.assert_close(q.with_model(wrap(other)).target_values(), q.target_values() + 1)


def test_noise_is_standard_and_belongs_to_seed_row_and_sample(model):
    q = ask(model, X, 0, ids=("a", "b", "c"), seed=3)
    s, rows = torch.arange(3000) // 3, torch.arange(3000) % 3
    noise = q.noise(s, rows)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    assert noise.unique(dim=0).shape == noise.shape
    assert torch.equal(q.noise(s[7:9], rows[7:9]), noise[7:9])
    assert not torch.equal(ask(model, X, 0, ids=("a", "b", "c"), seed=4).noise(s, rows), noise)


def test_the_models_own_prediction(net, model):
    q = ask(model, X)
    want = net(X).argmax(1)
    assert q.target_names() == tuple(str(int(i)) for i in want)
    torch.testing.assert_close(Saliency()(q).values, Saliency()(ask(model, X, want)).values)
    assert ask(wrap(net, labels=["a", "b", "c"]), X, "b").target_names() == ("b (1)",) * 3


def test_the_layers_of_a_model():
    layers = {i.name: i for i in wrap(made(MiniViT)).layers(PICTURES)}
    assert layers["patch"].shape == (8, 3, 3)
    assert layers["mlp"].shape == (10, 8)
    assert layers["mlp.0"].kind == "Linear"
    twice = {i.name: i.calls for i in wrap(made(Reused)).layers(X)}
    assert twice == {"first": 1, "twice": 2, "out": 1}
    assert [i.name for i in wrap(made(Reused)).layers()] == ["first", "twice", "out"]


@pytest.mark.parametrize(("kind", "at"), [("smooth", None), ("pictures", "a"), ("vision transformer", "norm"), ("two inputs", None)])
def test_the_curvature_is_the_change_of_the_gradient(kind, at):
    """The Hessian times a direction against central differences, fused attention included; at a point that was moved, too."""
    s = subjects()[kind]
    q = ask(wrap(s.net()), s.x, [0, 1, 2], at=at)
    v = each(lambda p: torch.sin(7 * p), q.point)
    for asked in (q, q.with_point(each(lambda p: p + 0.1, q.point))):
        g, bent = asked.curvature(v)
        up, down = (leaves(asked.grad(each(lambda p, d, e=e: p + e * d, asked.point, v))) for e in (1e-5, -1e-5))
        for slope, b, one, two in zip(leaves(g), leaves(bent), up, down, strict=True):
            torch.testing.assert_close(b, (one - two) / 2e-5, rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(slope, (one + two) / 2, rtol=1e-6, atol=1e-8)
            assert b.abs().max() > 1e-4
    alone = ask(wrap(s.net()), s.x, [0, 1, 2], at=at)
    for one, two in zip(leaves(alone.curvature()[1]), leaves(q.curvature(q.point)[1]), strict=True):
        torch.testing.assert_close(one, two)
    assert (alone.cost().forward, alone.cost().backward) == (3, 6), "one forward and two backward a row"
