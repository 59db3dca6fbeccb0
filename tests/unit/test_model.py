"""Models: wrapped, loaded, asked for their layers, and never changed."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models import Noisy, Residual, Reused, Wrapped, made, normal
from pellucid.attribution import GradCAM, Occlusion, Saliency
from pellucid.backends import load, wrap
from pellucid.backends.load import names
from pellucid.core.card import Needs
from pellucid.core.errors import ModelError, NotApplicable, UnknownName, UsageError
from pellucid.core.question import ask
from pellucid.core.target import Label

X = normal(3, 5)


def test_wrap_is_once():
    net = made(Reused)
    model = wrap(net)
    assert wrap(model) is model
    assert model.module is net
    assert model.name == "Reused"
    assert wrap(net, name="mine").name == "mine"
    assert model.dtype == torch.float64
    assert Needs.MODULES in model.can


def test_callables():
    f = wrap(lambda x: x * 2)
    assert f.can == Needs.VALUE
    assert f.layers() == []
    torch.testing.assert_close(ask(f, X, 1).value(X), 2 * X[:, 1])
    with pytest.raises(NotApplicable, match="differentiable=True"):
        ask(f, X, 1).grad()
    g = wrap(lambda x: x**2, differentiable=True)
    torch.testing.assert_close(ask(g, X, 1).grad()[:, 1], 2 * X[:, 1])
    assert Occlusion()(ask(f, X, 1)).values[:, 1].abs().min() > 0


def test_what_cannot_be_wrapped():
    with pytest.raises(UsageError, match="got int"):
        wrap(3)
    with pytest.raises(UsageError, match="lazy"):
        wrap(nn.Sequential(nn.LazyLinear(3)).eval())


def test_training_mode_warns_and_is_kept():
    net = made(Noisy).train()
    with pytest.warns(UserWarning, match=r"Noisy is in training mode.*model\.eval\(\)"):
        model = wrap(net)
    Saliency()(ask(model, X, 1))
    assert all(m.training for m in net.modules())
    net.eval()
    one, two = (ask(model, X, 1, seed=s).target_values() for s in (0, 1))
    assert torch.equal(one, two), "the mode is the net's own, whenever it is changed"


def test_weights_changed_after_wrapping_are_seen():
    net = made(Reused)
    model = wrap(net)
    q = ask(model, X, 1)
    before = q.target_values()
    with torch.no_grad():
        net.out.bias += 1
    torch.testing.assert_close(ask(model, X, 1).target_values(), before + 1)
    torch.testing.assert_close(q.fresh().target_values(), before + 1)
    net.out = nn.Linear(6, 3).double()
    torch.testing.assert_close(ask(model, X, 1).target_values(), net(X)[:, 1].detach())
    net.float()
    assert ask(model, X, 1).grad().dtype == torch.float32


def test_the_digest_is_of_the_weights():
    one, two = wrap(made(Reused)), wrap(made(Reused))
    assert one.digest() == two.digest()
    assert len(one.digest()) == 16
    with torch.no_grad():
        two.module.out.bias += 1
    assert one.digest() != two.digest()
    assert wrap(made(Reused, dtype=torch.bfloat16)).digest()


def test_layers_by_their_own_order_and_shape():
    layers = wrap(made(Residual)).layers(normal(3, 2, 6, 6))
    assert [(i.name, i.shape, i.calls) for i in layers] == [("stem", (4, 6, 6), 1), ("act", (4, 6, 6), 3), ("a", (4, 6, 6), 1), ("norm", (4, 6, 6), 1), ("b", (4, 6, 6), 1), ("out", (3,), 1)]
    assert [i.name for i in wrap(made(lambda: Wrapped("dict"))).layers()] == ["inner", "inner.first", "inner.twice", "inner.out"]


def test_the_name_of_a_layer():
    net = made(Residual)
    assert wrap(net).layer_name(net.a) == "a"
    assert wrap(net).layer_name(nn.Linear(1, 1)) is None


def test_labels_are_used_and_arrays_taken():
    model = wrap(made(Reused), labels=("cat", "dog", "newt, eft"))
    e = Saliency()(ask(model, X.numpy(), "eft"))
    assert e.target == ("newt (2)",) * 3
    assert e.predictions[0][0][0] in ("cat", "dog", "newt")
    assert sum(p for _, p in e.predictions[0]) == pytest.approx(1, abs=1e-5)
    assert torch.equal(e.values, Saliency()(ask(model, np.asarray(X), 2)).values)


# ---------------------------------------------------------------- pel.load


NETS = """
from models import Reused
from torch import nn

def make():
    return Reused().double()

def needs(width, depth):
    return nn.Linear(width, depth)

def doubled(x):
    return 2 * x

net = make()
answer = 42
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A module of the user's, beside which the command is run."""
    (tmp_path / "my_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    yield tmp_path
    __import__("sys").modules.pop("my_nets", None)


def test_a_factory_with_weights(factory):
    net = made(Reused)
    save_file(net.state_dict(), factory / "w.safetensors")
    torch.save(net.state_dict(), factory / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        model = load("my_nets:make", weights=factory / file)
        assert model.digest() == wrap(net).digest()
        assert not model.training
        assert model.spec == "my_nets:make"
        assert model.name == "make"
    assert load("my_nets:net").name == "net"


def test_a_function_of_one_argument_is_the_model_itself(factory):
    model = load("my_nets:doubled")
    assert (model.name, model.can) == ("doubled", Needs.VALUE)
    torch.testing.assert_close(ask(model, X, 1).target_values(), 2 * X[:, 1])


def test_specs_that_cannot_be_loaded(factory):
    with pytest.raises(UnknownName, match="efficientnet-lite0"):
        load("efficientnet-lite")
    with pytest.raises(UsageError, match="'not_there'"):
        load("not_there:make")
    with pytest.raises(UnknownName, match="'make'"):
        load("my_nets:makes")
    with pytest.raises(UsageError, match="asks for width, depth"):
        load("my_nets:needs")
    with pytest.raises(UsageError, match="got int"):
        load("my_nets:answer")
    assert "efficientnet-lite0" in names()


def test_weights_that_cannot_be_read(factory):
    with pytest.raises(UsageError, match=r"no weights file"):
        load("my_nets:make", weights="gone.safetensors")
    save_file({"other": torch.ones(1)}, factory / "other.safetensors")
    with pytest.raises(ModelError, match="do not fit Reused"):
        load("my_nets:make", weights=factory / "other.safetensors")
    (factory / "bad.safetensors").write_bytes(b"not at all")
    with pytest.raises(UsageError, match=r"bad\.safetensors"):
        load("my_nets:make", weights=factory / "bad.safetensors")


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return (exec, ("open('left', 'w')",))


def test_weights_run_no_code(factory):
    torch.save({"w": Evil()}, factory / "evil.pt")
    with pytest.raises(UsageError, match="without running code"):
        load("my_nets:make", weights=factory / "evil.pt")
    assert not (factory / "left").exists()


def test_the_layer_of_a_map_is_not_the_answer_itself():
    """On a network that answers with a picture, Grad-CAM looks below its last layer."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).double().eval()
    x = torch.rand(1, 1, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    e = GradCAM()(ask(wrap(net), x, Label((1, 2, 2))))
    assert e.at == "1"
