"""BatchNorm that is folded by name: the same outputs, the user's model as it was, and never where the two are not one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import Counting, Residual, Stubborn, made, normal
from pellucid.backends import load, wrap
from pellucid.core._norms import is_frugal
from pellucid.core.direct import Direct
from pellucid.core.errors import UsageError
from pellucid.core.folding import Fold, Pair, find
from pellucid.core.question import ask
from pellucid.core.shadow import Shadow
from pellucid.core.target import Neuron
from pellucid.run.explain import explain


def norm(c, kind=nn.BatchNorm2d, **settings):
    bn = kind(c, **settings)
    if bn.running_mean is not None:
        nn.init.uniform_(bn.running_mean, -1, 1)
        nn.init.uniform_(bn.running_var, 0.5, 2)
    if bn.weight is not None:
        nn.init.uniform_(bn.weight, -2, 2)
        nn.init.normal_(bn.bias)
    return bn


class Net(nn.Module):
    """Two foldable pairs: a grouped convolution without a bias, a linear layer with one; and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 3, groups=2, padding=1, stride=2, bias=False), norm(4)
        self.fc, self.bn1, self.out = nn.Linear(4, 6), norm(6, nn.BatchNorm1d, affine=False), nn.Linear(6, 3)

    def forward(self, x):
        h = F.relu6(self.bn(self.conv(x)), inplace=True)
        return self.out(torch.tanh(self.bn1(self.fc(h.mean((2, 3))))))


PAIRS = (Pair("conv", "bn"), Pair("fc", "bn1"))
X = normal(3, 2, 6, 6)


def found(net, x=X):
    shadow = Shadow(net)
    return find(shadow.names, lambda handler: shadow.run(handler, (x[:1],), {}))


def pieces(net):
    return [(id(t), t._version, t.data_ptr(), t.stride()) for t in net.state_dict(keep_vars=True).values()]


def test_the_pairs_that_are_one():
    assert found(made(Net)) == PAIRS
    assert found(made(Residual)) == (Pair("a", "norm"),)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("last", [False, True])
def test_the_same_outputs_and_gradients(dtype, tol, last):
    """`Net` has kinks, but no value of these lies on one."""
    net = made(Net, dtype=dtype)
    before, x = pieces(net), X.to(dtype).requires_grad_()
    shadow = Shadow(net)
    shadow.fold(PAIRS)
    shadow.lay(last)
    assert not is_frugal(shadow.names["bn"])
    got, want = shadow.run(None, (x,), {}), net(x)
    assert (got - want).abs().max() <= tol * want.abs().max()
    one, two = (torch.autograd.grad(y[:, 1].sum(), x)[0] for y in (got, want))
    assert (one - two).norm() <= 10 * tol * two.norm()
    assert not torch.equal(got, want), "nothing was folded"
    shadow.lay(False, ("conv", "fc"))
    assert torch.equal(shadow.run(None, (x,), {}), want)
    assert pieces(net) == before
    assert all("forward" not in vars(m) for m in net.modules())
    assert all("forward" not in vars(m) or is_frugal(m) for m in shadow.module.modules())


class Read(Net):
    """The value between the two is read by something else too."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        y = self.conv(x)
        h = self.bn(y)
        kept = y.mean((2, 3)) if self.how == "again" else h.mean((2, 3))
        if self.how == "weight":
            kept = kept * self.conv.weight.abs().sum()
        if self.how == "twice":
            kept = kept + self.bn(self.conv(-x)).mean((2, 3))
        if self.how == "item" and float(y.sum()) > 0:
            kept = kept * 2
        out = self.out(self.bn1(self.fc(h.mean((2, 3)) + kept)))
        return (out, y) if self.how == "given" else out


@pytest.mark.parametrize("how", ["again", "weight", "twice", "item", "given"])
def test_what_is_read_elsewhere_is_left(how):
    assert found(made(lambda: Read("no"))) == PAIRS
    assert found(made(lambda: Read(how))) == PAIRS[1:]


class Standard(nn.Conv2d):
    """Scales its weights itself, so that a folded scale would be lost."""

    def forward(self, x):
        return self._conv_forward(x, F.normalize(self.weight.flatten(1)).view_as(self.weight), self.bias)


class Squared(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) ** 2


def _train(net):
    net.bn.train()


def _hook(net):
    net.conv.register_forward_hook(lambda m, i, o: o + 1)


def _subclass(net):
    net.bn = Squared(4).eval()


def _standard(net):
    net.conv = Standard(2, 4, 3)


def _weightnorm(net):
    nn.utils.parametrizations.weight_norm(net.conv)


def _no_statistics(net):
    net.bn = norm(4, track_running_stats=False).eval()


@pytest.mark.parametrize("change", [_train, _hook, _subclass, _standard, _weightnorm, _no_statistics])
def test_what_is_not_as_torch_has_it_is_left(change):
    net = made(Net)
    change(net)
    assert found(net.double()) == PAIRS[1:]


@pytest.mark.parametrize(("place", "folded"), [("conv", False), ("bn", False), ("conv.x", True), ("", True), ("out", True), ("fc", True)])
def test_a_place_between_the_two_keeps_them_apart(place, folded):
    assert PAIRS[0].parted_by(place) is not folded


def test_a_block_that_holds_one_of_the_two_parts_them():
    pair = Pair("body.0.conv", "body.1")
    assert [pair.parted_by(n) for n in ("", "body", "body.0", "body.0.conv", "body.1", "body.2", "body.0.convert")] == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("at", [None, "conv", "bn", ("bn", "input"), "fc", "out"])
@pytest.mark.parametrize("method", ["saliency", "integrated-gradients"])
def test_explanations_at_every_place(at, method):
    net = made(Net, dtype=torch.float32)
    one, two = (explain(wrap(net, fold=fold), X.float(), method=method, target=[0, 1, 2], at=at, evidence="none", batch_size=4) for fold in (False, True))
    assert (two.values - one.values).abs().max() <= 1e-4 * one.values.abs().max()
    assert one.values.abs().max() > 0
    torch.testing.assert_close(two.total, one.total, rtol=1e-5, atol=1e-6)
    assert any(n.startswith("2 of 2 BatchNorms were folded") for n in two.provenance["notes"])
    assert not any("folded" in n for n in one.provenance["notes"])
    assert two.cost.forward_rows == one.cost.forward_rows + 2


def test_values_at_a_place_are_the_users_own():
    net = made(Net, dtype=torch.float32)
    x = X.float()
    for at, want in (("conv", net.conv(x)), ("bn", net.bn(net.conv(x))), (("bn", "input"), net.conv(x))):
        q = ask(wrap(net, fold=True), x, 0, at=at, batch_size=3)
        assert torch.equal(q.point, want)
        q.close()
    q = ask(wrap(net, fold=True), x, Neuron("conv", (1, 2, 2)))
    torch.testing.assert_close(q.target_values(), net.conv(x)[:, 1, 2, 2])
    child = q.at_layer("fc")
    assert child.point.shape == (3, 6)
    q.close()


def test_rows_are_counted_and_looked_at_once():
    net = Counting(made(Net))
    model = wrap(net, fold=True)
    costs = [explain(model, X, method="saliency", target=1, evidence="none", batch_size=3).cost.forward_rows for _ in range(2)]
    assert costs == [5, 3]
    assert net.tally.rows == sum(costs)


def test_writes_that_leave_no_version_are_seen():
    net = made(Net)
    model = wrap(net, fold=True)
    total = lambda: explain(model, X, method="saliency", target=1, evidence="none").total  # noqa: E731
    before = total()
    net.conv.weight.data.mul_(3)
    net.bn.bias.data.add_(1)
    torch.testing.assert_close(total(), net(X)[:, 1])
    assert not torch.allclose(total(), before)
    with torch.no_grad():
        net.fc.weight.add_(1)
    torch.testing.assert_close(total(), net(X)[:, 1])


def test_what_cannot_be_folded_says_so():
    with pytest.raises(UsageError, match=r"needs an nn\.Module"):
        wrap(lambda x: x, fold=True)
    e = explain(wrap(made(Stubborn), fold=True), X, method="saliency", target=1, evidence="none")
    assert any("no BatchNorm was folded" in n for n in e.provenance["notes"])
    assert Direct(made(Net)).lay(True) is None


def test_loaded_models_fold_too(monkeypatch, tmp_path):
    (tmp_path / "my_folding_net.py").write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))\n")
    monkeypatch.syspath_prepend(tmp_path)
    e = explain(load("my_folding_net:net", fold=True), torch.randn(2, 4), method="saliency", target=1, evidence="none")
    assert any(n.startswith("1 of 1 BatchNorms") for n in e.provenance["notes"])


def test_a_fold_turns_back():
    net = Shadow(made(Net)).module
    fold = Fold(PAIRS[0], net.conv, net.bn)
    weight = net.conv.weight
    fold.turn()
    assert net.conv.weight is not weight
    assert net.conv.bias is not None
    fold.turn()
    assert net.conv.weight is weight
    assert net.conv.bias is None
