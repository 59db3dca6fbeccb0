"""FullGrad: a small network's bias terms by hand, and the sum that must come out as the answer on every network with a grid."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import made, normal, subjects
from pellucid.attribution import FullGrad
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask
from pellucid.core.target import Probability


class Two(nn.Module):
    """Convolution, ReLU, convolution, sum: no change of size, so that maps can be added by hand."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(F.silu(self.b(self.a(x).relu())).sum((2, 3)))


def by_hand(net, x, y):
    """The biases as leaves of autograd; the bias of SiLU is its value less input times slope."""
    x, tied = x.clone().requires_grad_(), {n: p for n, p in net.named_parameters() if n.endswith("bias")}
    spread = {n: p.detach().reshape(1, -1, 1, 1).expand(len(x), -1, 6, 6).clone().requires_grad_() for n, p in tied.items() if n != "out.bias"}
    h = F.conv2d(x, net.a.weight, padding=1) + spread["a.bias"]
    z = F.conv2d(h.relu(), net.b.weight, padding=1) + spread["b.bias"]
    s = F.silu(z)
    f = net.out(s.sum((2, 3)))[torch.arange(len(x)), y]
    gx, gz, gs, *gb = torch.autograd.grad(f.sum(), [x, z, s, *spread.values()])
    terms = [x * gx, *(b * g for b, g in zip(spread.values(), gb, strict=True)), s * gs - z * gz]
    maps = sum(t.detach().sum(1, keepdim=True) for t in terms)
    return maps + net.out.bias[y].reshape(-1, 1, 1, 1).detach() / 36, f.detach()


def test_by_hand():
    net, x, y = made(Two), normal(3, 2, 6, 6), torch.tensor([0, 1, 2])
    want, f = by_hand(net, x, y)
    got = FullGrad()(ask(wrap(net), x, y))
    torch.testing.assert_close(got.values, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got.values.flatten(1).sum(1), f, rtol=1e-10, atol=1e-12)
    assert want.std() > 1e-3


@pytest.mark.parametrize("name", ["pictures", "vision transformer"])
@pytest.mark.parametrize("place", ["input", "layer"])
@pytest.mark.parametrize("target", [[0, 1, 2], Probability(1)], ids=["label", "probability"])
def test_the_values_add_up_to_the_answer(name, place, target):
    s = subjects()[name]
    e = FullGrad()(ask(wrap(s.net()), s.x, target, at=s.layer if place == "layer" else None))
    torch.testing.assert_close(e.values.flatten(1).sum(1), e.total, rtol=1e-8, atol=1e-10)
    assert e.total.abs().min() > 1e-3


def test_the_papers_maps_are_magnitudes():
    e = FullGrad(aggregate="paper")(ask(wrap(made(Two)), normal(3, 2, 6, 6), 1))
    assert not e.signed
    assert e.values.min() >= 0
    assert e.values.max() > 1


def test_columns_are_refused():
    s = subjects()["columns"]
    with pytest.raises(NotApplicable, match="grid"):
        FullGrad()(ask(wrap(s.net()), s.x, 1))
