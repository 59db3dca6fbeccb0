"""The numbers of captum 0.9.0, to rounding: at the input, at a layer, of a neuron; residual sums, reused modules, several inputs."""

import copy
import dataclasses
import warnings

import pytest
import torch
from torch import nn

from models import SUBJECT_TARGETS, Subject, subjects
from pellucid.attribution import GradCAM, InputXGradient, IntegratedGradients, Occlusion, Saliency
from pellucid.backends import wrap
from pellucid.core.question import ask
from pellucid.core.target import Neuron
from pellucid.core.tree import leaves

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr", reason="captum is in the dependency group tests")

NAMES = ("pictures", "columns", "two inputs", "smooth")
SUBJECTS = {k: v for k, v in subjects().items() if k in NAMES}
PLACES = ("input", "layer", "neuron")
STEPS = 7
BASELINE = 0.25
every = pytest.mark.parametrize("subject", SUBJECTS)
places = pytest.mark.parametrize("place", PLACES)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _captum_in_double(request, monkeypatch):
    """captum rounds its step sizes and its occlusions to float32, whatever it is given: for float64 its `.float()` is made to keep them."""
    if request.node.callspec.params["dtype"] == torch.float64:
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class NeuronOf(nn.Module):
    """A unit of a layer as the model's only output, read by a plain forward hook."""

    def __init__(self, net, unit):
        super().__init__()
        self.net, self.unit = net, unit

    def forward(self, *args):
        box = []
        name, index = self.unit
        handle = self.net.get_submodule(name).register_forward_hook(lambda m, i, o: box.append(o))
        try:
            self.net(*args)
        finally:
            handle.remove()
        return box[0][(slice(None), *(index if isinstance(index, tuple) else (index,)))]


class Case:
    """One subject at one place: our question, and what captum needs for the same."""

    def __init__(self, name: str, place: str, dtype: torch.dtype) -> None:
        s: Subject = SUBJECTS[name]
        self.net = s.net(dtype)
        self.x = tuple(t.to(dtype) for t in leaves(s.x))
        self.inputs = self.x[0] if len(self.x) == 1 else self.x
        self.base = tuple(torch.full_like(t, BASELINE) for t in self.x)
        self.layer = self.net.get_submodule(s.layer)
        self.dtype, self.place, self.unit = dtype, place, s.unit
        self.target = torch.tensor(SUBJECT_TARGETS)
        asked = Neuron(*s.unit) if place == "neuron" else self.target
        self.q = ask(wrap(copy.deepcopy(self.net)), self.inputs, asked, at=s.layer if place == "layer" else None, baseline=BASELINE, batch_size=16)

    def inner(self, kind, *args, **kwargs):
        """captum's method on the network, or on the neuron as a network of its own."""
        if self.place == "neuron":
            return kind(NeuronOf(self.net, self.unit), *args, **kwargs), {}
        return kind(self.net, *args, **kwargs), {"target": self.target}

    def same(self, ours, theirs):
        ours, theirs = leaves(ours), leaves(theirs)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype == self.dtype
            size = float(b.abs().max())
            assert size > 1e-3, "a reference of zeros proves nothing"
            assert b.unique().numel() > b.numel() // 10, "a constant reference proves little"
            assert float((a - b).abs().max()) <= (1e-9 if self.dtype == torch.float64 else 1e-5) * size


@every
@places
@dtypes
def test_saliency(subject, place, dtype):
    c = Case(subject, place, dtype)
    if place == "layer":
        theirs = captum.LayerGradientXActivation(c.net, c.layer, multiply_by_inputs=False).attribute(c.inputs, target=c.target)
        c.same(Saliency(absolute=False)(c.q).values, theirs)
        return
    method, target = c.inner(captum.Saliency)
    c.same(Saliency()(c.q).values, method.attribute(c.x, abs=True, **target))
    if place == "neuron":
        theirs = captum.NeuronGradient(c.net, c.net.get_submodule(c.unit[0])).attribute(c.x, neuron_selector=c.unit[1])
        c.same(Saliency(absolute=False)(c.q).values, theirs)


@every
@places
@dtypes
def test_input_x_gradient(subject, place, dtype):
    c = Case(subject, place, dtype)
    if place == "layer":
        theirs = captum.LayerGradientXActivation(c.net, c.layer).attribute(c.inputs, target=c.target)
    else:
        method, target = c.inner(captum.InputXGradient)
        theirs = method.attribute(c.x, **target)
    c.same(InputXGradient()(c.q).values, theirs)


@every
@places
@dtypes
@pytest.mark.parametrize(("rule", "theirs"), [("gauss-legendre", "gausslegendre"), ("midpoint", "riemann_middle")])
def test_integrated_gradients(subject, place, dtype, rule, theirs):
    c = Case(subject, place, dtype)
    settings = {"baselines": c.base, "n_steps": STEPS, "method": theirs}
    if place == "layer":
        want = captum.LayerIntegratedGradients(c.net, c.layer).attribute(c.x, target=c.target, **settings)
    elif place == "neuron":
        want = captum.NeuronIntegratedGradients(c.net, c.net.get_submodule(c.unit[0])).attribute(c.x, neuron_selector=c.unit[1], **settings)
    else:
        want = captum.IntegratedGradients(c.net).attribute(c.x, target=c.target, **settings)
    c.same(IntegratedGradients(steps=STEPS, rule=rule)(c.q).values, want)


@dtypes
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["a", "norm"])
def test_grad_cam_at_a_layer(dtype, relu, layer):
    c = Case("pictures", "input", dtype)
    theirs = captum.LayerGradCam(c.net, c.net.get_submodule(layer)).attribute(c.inputs, target=c.target, relu_attributions=relu)
    ours = GradCAM(relu=relu)(dataclasses.replace(c.q, places=ask(c.q.model, c.inputs, 0, layer).places))
    c.same(ours.values, theirs)


@dtypes
def test_grad_cam_of_a_neuron(dtype):
    c = Case("pictures", "neuron", dtype)
    theirs = captum.LayerGradCam(NeuronOf(c.net, c.unit), c.net.get_submodule("stem")).attribute(c.inputs)
    q = ask(c.q.model, c.inputs, Neuron(*c.unit), at="stem")
    c.same(GradCAM(relu=False)(q).values, theirs)


@dtypes
def test_grad_cam_at_the_input_is_the_last_layers_enlarged(dtype):
    """captum enlarges with `LayerAttribution.interpolate`; the last layer before this network's average is `b`."""
    c = Case("pictures", "input", dtype)
    net = nn.Sequential(c.net.stem, nn.Tanh(), nn.Conv2d(4, 4, 3, stride=2, padding=1, dtype=dtype), nn.Flatten(), nn.Linear(36, 3, dtype=dtype)).eval()
    maps = captum.LayerGradCam(net, net[2]).attribute(c.inputs, target=c.target, relu_attributions=True)
    theirs = captum.LayerAttribution.interpolate(maps, (6, 6), interpolate_mode="bilinear")
    e = GradCAM()(ask(wrap(net), c.inputs, c.target))
    assert e.at == "2"
    c.same(e.values, theirs)


WINDOWS = {"pictures": ((2, 3), (2, 1)), "columns": ((2,), (1,)), "smooth": ((2,), (2,)), "two inputs": ((2,), (1,))}


def _sizes(name, shape):
    """captum's windows span the channels of a picture by themselves being said to."""
    window, stride = WINDOWS[name]
    lead = tuple(shape[1 : len(shape) - len(window)])
    return lead + window, lead + stride


@every
@pytest.mark.parametrize("place", ["input", "neuron"])
@dtypes
def test_occlusion(subject, place, dtype):
    c = Case(subject, place, dtype)
    windows, strides = zip(*(_sizes(subject, t.shape) for t in c.x), strict=True)
    method, target = c.inner(captum.Occlusion)
    theirs = method.attribute(c.x, windows, strides=strides, baselines=c.base, **target)
    window, stride = WINDOWS[subject]
    c.same(Occlusion(window=window, stride=stride)(c.q).values, theirs)


@every
@dtypes
def test_occlusion_at_a_layer(subject, dtype):
    """captum has no Occlusion at a layer: an independent copy with a forward hook, one window at a time."""
    c = Case(subject, "layer", dtype)
    name = SUBJECTS[subject].layer
    twin = copy.deepcopy(c.net)
    held = {}
    twin.get_submodule(name).register_forward_hook(lambda m, i, o: held.__setitem__("own", o) if "put" not in held else held["put"])
    with torch.no_grad():
        twin(*c.base)
        start = held["own"]
        out = twin(*c.x)
        z = held["own"]
        total, count = torch.zeros_like(z), torch.zeros_like(z)
        windows, strides = _sizes(subject, z.shape)
        for mask in _windows(z.shape[1:], windows, strides):
            held["put"] = torch.where(mask, start, z)
            drop = (out - twin(*c.x)).gather(1, c.target[:, None]).reshape(-1, *[1] * (z.ndim - 1))
            total, count = total + drop * mask, count + mask
    window, stride = WINDOWS[subject]
    c.same(Occlusion(window=window, stride=stride)(c.q).values, total / count)


def _windows(shape, windows, strides):
    """Masks of all windows, slid as captum does: the last one along an axis is cut."""
    axes = [[(i, min(i + w, n)) for i in range(0, -(-(n - w) // s) * s + 1, s)] for n, w, s in zip(shape, windows, strides, strict=True)]
    for box in torch.cartesian_prod(*(torch.arange(len(a)) for a in axes)).reshape(-1, len(axes)).tolist():
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[tuple(slice(*axes[d][i]) for d, i in enumerate(box))] = True
        yield mask
