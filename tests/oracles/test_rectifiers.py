"""Guided backprop, deconvnet and the beta-smoothed gradient: by hand on small networks, and on a network on which module hooks see nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import made, normal
from pellucid.attribution import BetaSmooth, Deconvnet, GuidedBackprop, Saliency
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask


class Three(nn.Module):
    """Three layers with the same activation, as a function."""

    def __init__(self, act):
        super().__init__()
        self.a, self.b, self.c, self.act = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3), act

    def forward(self, x):
        return self.c(self.act(self.b(self.act(self.a(x)))))


def by_hand(net, x, y, back):
    """The chain rule written out; `back(g, z)` passes a rectifier with input z."""
    z1 = net.a(x)
    z2 = net.b(net.act(z1))
    g = net.c.weight[y]
    g = back(g, z2) @ net.b.weight
    return back(g, z1) @ net.a.weight


def slope(act, z):
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        return torch.autograd.grad(act(z).sum(), z)[0]


ACTIVATIONS = {"relu": F.relu, "relu6": lambda x: F.relu6(3 * x), "in place": lambda x: (x * 1).relu_(), "clamp": lambda x: x.clamp(min=0), "gelu": F.gelu, "silu": F.silu}


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("method", [GuidedBackprop, Deconvnet, BetaSmooth])
def test_by_hand(act, method):
    f = ACTIVATIONS[act]
    net, x, y = made(lambda: Three(f)), normal(4, 5), torch.tensor([0, 1, 2, 1])
    inner = 3 if act == "relu6" else 1  # what stands before the rectifier is not replaced
    own = (lambda z: slope(F.relu6, 3 * z)) if act == "relu6" else (lambda z: slope(f, z))
    rules = {
        GuidedBackprop: lambda g, z: inner * g.clamp(min=0) * own(z),
        Deconvnet: lambda g, z: inner * g.clamp(min=0),
        BetaSmooth: lambda g, z: inner * g * torch.sigmoid(4 * inner * z),
    }
    made_ = BetaSmooth(beta=4.0) if method is BetaSmooth else method()
    with torch.no_grad():
        want = by_hand(net, x, y, rules[method])
    torch.testing.assert_close(made_(ask(wrap(net), x, y)).values, want, rtol=1e-10, atol=1e-12)
    plain = Saliency(absolute=False)(ask(wrap(net), x, y)).values
    assert (want - plain).abs().max() > 1e-3, "the same as the plain gradient"


def test_many_forms_of_one_rectifier_are_one():
    """A module, a function, an in-place write: the same map."""
    maps = []
    for act in (nn.ReLU(), F.relu, torch.relu, nn.ReLU(inplace=True), lambda x: x.clamp(min=0), lambda x: F.threshold(x, 0.0, 0.0)):
        net = made(lambda act=act: Three(act))
        maps.append(GuidedBackprop()(ask(wrap(net), normal(4, 5), 1)).values)
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=1e-12, atol=1e-14)
    assert maps[0].abs().max() > 1e-3


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvnet, BetaSmooth])
def test_nothing_to_change_is_said(method):
    net = made(lambda: Three(torch.tanh))
    with pytest.raises(NotApplicable, match="rectifiers"):
        method()(ask(wrap(net), normal(4, 5), 1))


@pytest.mark.slow
def test_on_relu6_it_is_not_the_plain_gradient():
    """captum 0.9.0 gives the plain gradient here (largest difference 0): it looks for nn.ReLU, and the network has nn.ReLU6."""
    import pellucid as pel

    model = pel.load("efficientnet-lite0")
    maps = {m: pel.explain(model, "sample:chelsea", method=m, target=285, evidence="none", **k).values for m, k in (("saliency", {"absolute": False}), ("guided-backprop", {}), ("deconvnet", {}))}
    flat = {m: v.flatten() for m, v in maps.items()}
    assert torch.corrcoef(torch.stack([flat["saliency"], flat["guided-backprop"]]))[0, 1] < 0.9
    assert torch.corrcoef(torch.stack([flat["deconvnet"], flat["guided-backprop"]]))[0, 1] < 0.9
    e = pel.explain(model, "sample:chelsea", method="guided-backprop", target=285, evidence="none")
    assert "33 rectifying operations" in " ".join(e.provenance["notes"])
