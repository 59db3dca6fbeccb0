"""A BatchNorm in the shadow: the value that PyTorch gives to the bit, and gradients by its scale."""

import copy

import pytest
import torch
from torch import nn

from models import normal
from pellucid.core import _norms
from pellucid.core._norms import frugal
from pellucid.core.shadow import Shadow

KINDS = {nn.BatchNorm1d: (3, 4), nn.BatchNorm2d: (3, 4, 5, 5), nn.BatchNorm3d: (3, 4, 2, 3, 3)}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """However few the numbers."""
    monkeypatch.setattr(_norms, "FEW", 0)


def norm(kind, affine=True, dtype=torch.float64):
    torch.manual_seed(1)
    m = kind(4, affine=affine).to(dtype)
    m.running_mean.normal_()
    m.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.normal_(m.weight)
        nn.init.normal_(m.bias)
    return m.eval().requires_grad_(False)


def thrifty(m):
    m = copy.deepcopy(m)
    frugal(m)
    return m


def pulled(m, x):
    x = x.clone().requires_grad_()
    y = m(x)
    (g,) = torch.autograd.grad((y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape)).sum(), x)
    return y.detach(), g, y.grad_fn.name()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_value_to_the_bit_and_gradient(kind, affine, dtype):
    m, x = norm(kind, affine, dtype), normal(*KINDS[kind]).to(dtype)
    (y, g, name), (y0, g0, _) = pulled(thrifty(m), x), pulled(m, x)
    assert "Scaled" in name
    assert torch.equal(y, y0)
    torch.testing.assert_close(g, g0, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0)


def test_a_second_derivative():
    m, x = nn.Sequential(norm(nn.BatchNorm1d), nn.Tanh()), normal(3, 4).requires_grad_()
    bent = []
    for n in (m, nn.Sequential(thrifty(m[0]), nn.Tanh())):
        (g,) = torch.autograd.grad(n(x).sum(), x, create_graph=True)
        bent.append(torch.autograd.grad(g.square().sum(), x)[0])
    assert bent[0].abs().max() > 1e-3
    torch.testing.assert_close(*bent)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch itself, when it first meets a dual
def test_transforms_of_functions_and_duals():
    m, x = norm(nn.BatchNorm1d), normal(3, 4)
    n = thrifty(m)
    torch.testing.assert_close(torch.func.grad(lambda t: n(t).square().sum())(x), torch.func.grad(lambda t: m(t).square().sum())(x))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.clone().requires_grad_(), normal(3, 4, seed=1))
        tangents = [torch.autograd.forward_ad.unpack_dual(k(dual)).tangent for k in (m, n)]
    torch.testing.assert_close(*tangents)


@pytest.mark.parametrize("how", ["training", "live weight", "no statistics", "another dtype", "forward of its own"])
def test_what_is_more_than_a_scale_is_left_to_pytorch(how):
    m, x = norm(nn.BatchNorm1d), normal(3, 4)
    if how == "no statistics":
        m = nn.BatchNorm1d(4, track_running_stats=False, dtype=torch.float64).eval()
    if how == "another dtype":
        m, x = m.float(), x.bfloat16()
    if how == "forward of its own":
        m.forward = lambda x: nn.BatchNorm1d.forward(m, x) * 2
    n = thrifty(m)
    for k in (m, n):
        k.train(how == "training").requires_grad_(how == "live weight")
    (y, g, name), (y0, g0, name0) = pulled(n, x), pulled(m, x)
    assert name == name0
    assert torch.equal(y, y0)
    assert torch.equal(g, g0)


def test_few_numbers_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(_norms, "FEW", 13)
    m = thrifty(norm(nn.BatchNorm1d))
    assert "Scaled" not in pulled(m, normal(3, 4))[2]
    assert "Scaled" in pulled(m, normal(4, 4))[2]


def test_wrong_shapes_are_refused_as_ever():
    with pytest.raises(ValueError, match="expected 4D input"):
        thrifty(norm(nn.BatchNorm2d))(normal(3, 4).requires_grad_())


def test_the_users_module_is_left_as_it_was():
    m = nn.Sequential(norm(nn.BatchNorm1d))
    twin = Shadow(m)
    assert "forward" in vars(twin.module[0])
    assert "forward" not in vars(m[0])
