"""A shadow answers as the user's module does, over the same weights, and leaves no trace on it."""

import copy
import functools
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from models import made, normal
from pellucid.backends import wrap
from pellucid.core.direct import Direct
from pellucid.core.errors import UsageError
from pellucid.core.question import ask
from pellucid.core.shadow import Shadow, Stop, fingerprint, unwrap


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# ---------------------------------------------------------------- models


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        h += x
        return self.relu(h)


class ResNet(nn.Module):
    """A residual net with in-place and reused activations; its batch norms have seen data."""

    def __init__(self, c=4):
        super().__init__()
        self.stem, self.layer1, self.layer2, self.fc = nn.Conv2d(3, c, 3, padding=1), Block(c), Block(c), nn.Linear(c, 5)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.running_mean, -1, 1)
                nn.init.uniform_(m.running_var, 0.5, 2)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, i):
        return self.head(self.emb(i))


class Closures(nn.Module):
    """Calls its layers through lambdas, defaults, bound methods, partials and lists."""

    def __init__(self):
        super().__init__()
        self.fc, self.fc2, self.loose = nn.Linear(6, 6), nn.Linear(6, 6), [nn.Parameter(torch.ones(6))]
        fc = self.fc
        self.closed = lambda x: fc(x)
        self.default = lambda x, layer=self.fc2: layer(x)
        self.bound = self.fc.forward
        self.partial = functools.partial(torch.mul, self.loose[0])
        self.steps = [lambda x: self.closed(x) + 1, {"f": self.default}]

    def forward(self, x):
        return self.partial(self.steps[1]["f"](self.steps[0](x))) + self.bound(x)


class Uncopyable(nn.Module):
    """Keeps a lock and a running iterator."""

    def __init__(self):
        super().__init__()
        self.fc, self.lock, self.count, self.names = nn.Linear(6, 3), threading.Lock(), (i for i in range(9)), {"lock": threading.RLock()}

    def forward(self, x):
        with self.lock, self.names["lock"]:
            return self.fc(x)


class NonLeaf(nn.Module):
    """Keeps a tensor that autograd computed."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.product = self.fc.weight @ self.fc.weight.T
        self.holder = type("Holder", (), {})()
        self.holder.double = self.fc.weight * 2

    def forward(self, x):
        return self.fc(x) @ self.product @ self.holder.double


class KeywordsOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, *, x, scale):
        return {"y": self.fc(x) * scale}


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(6, 5)), torch.nn.utils.spectral_norm(nn.Linear(5, 3)))


def old_int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), {nn.Linear})


def exported():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), (torch.randn(4, 6),)).module()


def encoder(batch_first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first), 2)


def vectors():
    return (torch.randn(4, 6),)


def pictures():
    return (torch.randn(2, 3, 6, 6),)


def sequences():
    return (torch.randn(2, 5, 8),)


MODELS = {
    "resnet": (ResNet, pictures),
    "fx": (lambda: torch.fx.symbolic_trace(ResNet()), pictures),
    "attention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), lambda: sequences() * 3),
    "encoder": (lambda: encoder(True), sequences),
    "encoder, sequence first": (lambda: encoder(False), sequences),
    "gru": (lambda: nn.GRU(8, 6, batch_first=True), sequences),
    "lstm": (lambda: nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True), sequences),
    "tied": (Tied, lambda: (torch.randint(11, (2, 4)),)),
    "parametrized": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 5)), parametrizations.spectral_norm(nn.Linear(5, 3))), vectors),
    "old weight norm": (old_weight_norm, vectors),
    "closures": (Closures, vectors),
    "uncopyable": (Uncopyable, vectors),
    "non-leaf": (NonLeaf, vectors),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU()).bfloat16(), lambda: (torch.randn(4, 6).bfloat16(),)),
    "float64": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU()).double(), lambda: (torch.randn(4, 6).double(),)),
    "int8": (old_int8, vectors),
    "exported": (exported, vectors),
}


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


def trace(module):
    """All that must be as it was: the fingerprint, the values, the flags, the gradients, the hooks."""
    module = unwrap(module)
    state = {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    asks = [(p.requires_grad, p.grad) for p in module.parameters()]
    hooks = [(m.training, *(tuple(vars(m)[h].items()) for h in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))) for m in module.modules()]
    slots = [vars(m).get("_compiled_call_impl") for m in module.modules()]
    return fingerprint(module), state, asks, hooks, slots


def same_trace(a, b):
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    assert all(torch.equal(a[1][k], b[1][k]) for k in a[1])
    assert a[2:] == b[2:]


def close(a, b, tol=0.0):
    a, b = leaves(a), leaves(b)
    assert len(a) == len(b)
    for p, q in zip(a, b, strict=True):
        if isinstance(q, torch.Tensor):
            assert q.float().abs().max() > 0
            assert torch.allclose(p, q, rtol=tol, atol=tol)


# ---------------------------------------------------------------- what a shadow is


@pytest.mark.filterwarnings("ignore::FutureWarning:torch.*", "ignore::FutureWarning:copy")  # torch.export copies its own deprecated specs
@pytest.mark.parametrize("kind", MODELS)
def test_same_answer_same_storage_no_trace(kind):
    make, draw = MODELS[kind]
    net, args = make(), draw()
    if kind != "exported":
        net.eval()
    before = trace(net)
    shadow = Shadow(net)
    seen = []

    def watch(module, a, k):
        seen.append(module)
        return module._call_impl(*a, **k)

    with torch.no_grad():
        first, second = shadow.run(watch, args, {}), shadow.run(None, args, {})
        assert shadow.fresh(net)
        same_trace(before, trace(net))
        want = net(*args)
    close(first, want, 1e-6)
    close(second, want, 1e-6)
    assert len(seen) >= 1
    assert seen[0] is shadow.module
    assert all(m in set(shadow.module.modules()) for m in seen)
    mine, theirs = dict(shadow.module.named_parameters()), dict(net.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, p in theirs.items():
        assert mine[name] is not p
        assert mine[name].data_ptr() == p.data_ptr()
        assert not mine[name].requires_grad
    for b, c in zip(shadow.module.buffers(), net.buffers(), strict=True):
        assert b.data_ptr() == c.data_ptr()


def test_layers_called_through_closures_are_seen():
    net = Closures().eval()
    shadow, names = Shadow(net), []

    def watch(module, a, k):
        names.extend(n for n, m in shadow.names.items() if m is module)
        return module._call_impl(*a, **k)

    shadow.run(watch, vectors(), {})
    assert names == ["", "fc", "fc2"]


def test_objects_of_the_user_are_copied_and_their_tensors_aliased():
    net = NonLeaf()
    twin = Shadow(net).module
    assert twin.holder is not net.holder
    assert twin.holder.double.data_ptr() == net.holder.double.data_ptr()
    assert not twin.holder.double.requires_grad


def test_tied_weights_stay_tied():
    shadow = Shadow(Tied())
    assert shadow.module.head.weight is shadow.module.emb.weight


def test_user_later_writes_are_seen_through_the_alias():
    net = nn.Linear(3, 2)
    shadow = Shadow(net)
    net.weight.data.mul_(2)
    assert torch.equal(shadow.module.weight, net.weight)


def test_generator_is_not_consumed():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.source = torch.Generator().manual_seed(3)

        def forward(self, x):
            return x + torch.randn(x.shape, generator=self.source)

    net = Noisy()
    before = net.source.get_state()
    Shadow(net).run(None, vectors(), {})
    assert torch.equal(net.source.get_state(), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from importing the compiler
def test_compiled_modules_are_unwrapped():
    inner = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    outer = torch.compile(nn.Sequential(torch.compile(inner), nn.Linear(5, 3)))
    x = vectors()
    shadow = Shadow(outer)
    assert set(shadow.names) == {"", "0", "0.0", "0.1", "1"}
    assert torch.equal(shadow.run(None, x, {}), outer._orig_mod[1](inner(*x)))
    inner.compile()  # replaces the call in place
    assert torch.equal(Shadow(inner).run(None, x, {}), inner._call_impl(*x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from importing the compiler
def test_compiled_forward_functions_are_unwrapped():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    net.forward = torch.compile(net.forward)
    shadow, seen = Shadow(net), []

    def watch(module, a, k):
        seen.append(module)
        return module._call_impl(*a, **k)

    shadow.run(watch, vectors(), {})
    assert seen == [shadow.module, shadow.module[0], shadow.module[1]]


def test_what_cannot_be_shadowed_is_refused():
    class Own(nn.Linear):
        def __call__(self, x):
            return x

    class Heavy(nn.Linear):
        def __deepcopy__(self, memo):
            twin = nn.Linear(3, 2)
            twin.weight = nn.Parameter(self.weight.detach().clone())
            return twin

    class Forbids(nn.Linear):
        def __deepcopy__(self, memo):
            raise NotImplementedError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(3, 2))
    for net in (scripted, nn.Sequential(scripted), Own(3, 2), Heavy(3, 2), Forbids(3, 2)):
        with pytest.raises(TypeError):
            Shadow(net)
    with pytest.raises(UsageError, match="run it once"):
        Shadow(nn.LazyLinear(2))


def test_inference_tensors_can_be_shadowed():
    with torch.inference_mode():
        net = ResNet().eval()
        shadow = Shadow(net)
        x = pictures()
        want = net(*x)
        assert torch.equal(shadow.run(None, x, {}), want)
    assert shadow.fresh(net)


def test_made_in_inference_mode_then_differentiated():
    net, (x,) = ResNet().eval(), pictures()
    with torch.inference_mode():
        shadow = Shadow(net)
        shadow.run(None, (x,), {})
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(shadow.run(None, (x,), {}).sum(), x)
    (want,) = torch.autograd.grad(net(x).sum(), x)
    assert torch.allclose(g, want, atol=1e-6)
    assert want.abs().max() > 0


# ---------------------------------------------------------------- hooks, modes, buffers


def test_forward_hooks_are_part_of_the_function_and_backward_hooks_are_not():
    net, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True)), vectors()[0].requires_grad_()
    net[0].register_forward_hook(lambda m, a, out: out * 3)
    fired = []
    net[0].register_full_backward_hook(lambda *a: fired.append(1))
    shadow = Shadow(net)
    (g,) = torch.autograd.grad(shadow.run(None, (x,), {}).sum(), x)
    reference = nn.functional.relu(net[0].forward(x) * 3).sum()
    assert torch.allclose(g, torch.autograd.grad(reference, x)[0])
    assert not fired


def test_hooks_that_close_over_the_model_see_the_shadow():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    log = []
    net[0].register_forward_hook(lambda m, a, out: log.append((m is net[0], net[1].weight.requires_grad)))
    Shadow(net).run(None, vectors(), {})
    assert log in ([(True, False)], [])


def test_train_mode_batch_norm_statistics_are_not_corrupted():
    net, x = ResNet().train(), pictures()
    before, twin = trace(net), copy.deepcopy(net)
    shadow = Shadow(net)
    outs = [shadow.run(None, x, {}) for _ in range(3)]
    same_trace(before, trace(net))
    want = twin(*x)
    assert not torch.equal(twin.layer1.bn1.running_mean, net.layer1.bn1.running_mean)
    for out in outs:
        assert torch.allclose(out, want, atol=1e-6)


def test_buffers_written_in_eval_mode_are_lent_anew_for_each_pass():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("mean", torch.zeros(1))
            self.register_buffer("still", torch.ones(1))

        def forward(self, x):
            self.calls += 1
            self.mean = self.mean + x.mean()
            return x * self.calls + self.still + self.mean

    net, x = Counts().eval(), vectors()
    before, shadow = trace(net), Shadow(net)
    outs = [shadow.run(None, x, {}) for _ in range(3)]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    same_trace(before, trace(net))
    assert shadow.module.still.data_ptr() == net.still.data_ptr()
    assert shadow.fresh(net)
    assert torch.equal(outs[0], net(*x))


def test_tensors_in_plain_attributes_are_not_written():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.still, self.last = torch.zeros(6), torch.ones(6), torch.zeros(6)

        def forward(self, x):
            self.state += 1
            self.last = self.last + 1
            return x * self.state + self.last + self.still

    net, x = Keeps().eval(), vectors()
    before, shadow = trace(net), Shadow(net)
    outs = [shadow.run(None, x, {}) for _ in range(3)]
    assert not net.state.any()
    same_trace(before, trace(net))
    assert shadow.module.still.data_ptr() == net.still.data_ptr()
    assert torch.equal(outs[2], net(*x))


def test_embeddings_that_rescale_themselves_do_so_on_a_copy():
    net, i = nn.Embedding(9, 4, max_norm=0.1), torch.arange(9)
    before, shadow = trace(net), Shadow(net)
    out = shadow.run(None, (i,), {})
    same_trace(before, trace(net))
    assert net.weight.norm(dim=1).min() > 0.1
    assert torch.equal(out, net(i))


def test_parameters_keep_their_marks_and_strange_ones_are_refused():
    class Strange(nn.Parameter):
        pass

    net = nn.Linear(3, 2)
    net.weight.mark = "kept"
    assert Shadow(net).module.weight.mark == "kept"
    net.weight = Strange(torch.ones(2, 3))
    with pytest.raises(TypeError, match="Strange"):
        Shadow(net)


def test_changes_on_the_shadow_stay_there():
    net = ResNet().eval()
    before, shadow = trace(net), Shadow(net)
    shadow.module.to(memory_format=torch.channels_last).train()
    shadow.module.fc.weight.requires_grad_(True)
    shadow.module.fc.register_forward_hook(lambda *a: None)
    shadow.run(None, pictures(), {})
    same_trace(before, trace(net))
    half = Shadow(net)
    half.module.half()
    assert half.run(None, (pictures()[0].half(),), {}).dtype == torch.float16
    same_trace(before, trace(net))


def test_weights_channels_last_and_back():
    """Copies of our own, made once, tied where they were tied; the user's lie as they lay."""
    net = ResNet().eval()
    net.layer2.conv1.weight = net.layer1.conv1.weight
    strides = [p.stride() for p in net.parameters()]
    shadow, x = Shadow(net), torch.randn(2, 3, 5, 5)
    want, conv = shadow.run(None, (x,), {}), shadow.names["layer1.conv1"]
    seen = []
    for last in (True, False, True):
        shadow.lay(last)
        assert conv.weight is shadow.names["layer2.conv1"].weight
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) is last
        assert (conv.weight.data_ptr() == net.layer1.conv1.weight.data_ptr()) is not last
        torch.testing.assert_close(shadow.run(None, (x,), {}), want)
        seen.append(conv.weight)
    assert seen[0] is seen[2]
    assert [p.stride() for p in net.parameters()] == strides
    assert shadow.fresh(net)


def test_everything_is_put_back_when_the_model_raises():
    net = ResNet().train()
    before, shadow = trace(net), Shadow(net)
    with pytest.raises(RuntimeError):
        shadow.run(lambda m, a, k: m._call_impl(*a, **k), (torch.randn(2, 7, 6, 6),), {})
    assert shadow.handler is None
    same_trace(before, trace(net))

    def stop(module, a, k):
        raise Stop

    with pytest.raises(Stop):
        shadow.run(stop, pictures(), {})
    assert torch.allclose(shadow.run(None, (x := pictures()[0],), {}), copy.deepcopy(net)(x), atol=1e-6)
    same_trace(before, trace(net))


# ---------------------------------------------------------------- staleness


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.bn, self.scale, self.steps = nn.Linear(4, 4), nn.BatchNorm1d(4), 1.0, [1, 2]
        self.settings = type("Settings", (), {})()
        self.settings.deep = 1

    def forward(self, x):
        return self.bn(self.fc(x)) * self.scale


def _step(net):
    net(torch.randn(3, 4)).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()


def _swap(net):
    net.fc = nn.Linear(4, 4)


def _retype(net):
    old = net.bn
    net.bn = nn.BatchNorm1d(4)
    net.bn.__dict__.update(old.__dict__)


def _rebind(net):
    net.fc.weight.data = net.fc.weight.data.clone()


STALE = {
    "load_state_dict": lambda net: net.load_state_dict(net.state_dict()),
    "optimizer step": _step,
    "train": lambda net: net.train(),
    "one layer in train mode": lambda net: net.bn.train(),
    "double": lambda net: net.double(),
    "data rebound": _rebind,
    "module replaced": _swap,
    "module replaced by its like": _retype,
    "module added": lambda net: net.add_module("more", nn.ReLU()),
    "hook": lambda net: net.fc.register_forward_hook(lambda *a: None),
    "pre-hook": lambda net: net.register_forward_pre_hook(lambda *a: None),
    "attribute": lambda net: setattr(net, "scale", 2.0),
    "list grown": lambda net: net.steps.append(3),
    "settings changed": lambda net: setattr(net.settings, "deep", 2),
    "forward replaced": lambda net: setattr(net, "forward", lambda x: x),
    "in-place write": lambda net: net.fc.weight.detach().mul_(2),
    "buffer write": lambda net: net.bn.running_mean.add_(1),
    "parametrized": lambda net: parametrizations.weight_norm(net.fc),
}
FRESH = {
    "nothing": lambda net: None,
    "forward": lambda net: net(torch.randn(3, 4)),
    "backward": lambda net: net(torch.randn(3, 4)).sum().backward(),
    "requires_grad": lambda net: net.fc.weight.requires_grad_(False),
    "zero_grad": lambda net: net.zero_grad(),
    "state_dict": lambda net: net.state_dict(),
}


@pytest.mark.parametrize("change", STALE)
def test_stale_after(change):
    net = Plain().eval()
    shadow = Shadow(net)
    STALE[change](net)
    assert not shadow.fresh(net)


@pytest.mark.parametrize("change", FRESH)
def test_fresh_after(change):
    net = Plain().eval()
    shadow = Shadow(net)
    FRESH[change](net)
    assert shadow.fresh(net)


def test_fingerprint_is_hashable_and_of_one_object():
    net = ResNet()
    assert hash(fingerprint(net)) == hash(fingerprint(net))
    assert fingerprint(net) != fingerprint(copy.deepcopy(net))


# ---------------------------------------------------------------- threads


def test_two_threads_with_two_shadows():
    net, (x,) = ResNet().eval(), pictures()
    before, results = trace(net), {}
    want = [torch.autograd.grad(copy.deepcopy(net)(y := x.clone().requires_grad_())[:, t].sum(), y)[0] for t in (0, 1)]

    def work(t):
        shadow, found = Shadow(net), []
        for _ in range(4):
            y = x.clone().requires_grad_()
            out = shadow.run(lambda m, a, k: m._call_impl(*a, **k), (y,), {})
            found.append(torch.autograd.grad(out[:, t].sum(), y)[0])
        results[t] = found

    threads = [threading.Thread(target=work, args=(t,)) for t in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not torch.allclose(want[0], want[1])
    for t in (0, 1):
        assert all(torch.allclose(g, want[t], atol=1e-6) for g in results[t])
    same_trace(before, trace(net))


# ---------------------------------------------------------------- the user's own object


def scripted_net():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())).eval()


class Locked(ResNet):
    def __deepcopy__(self, memo):
        raise NotImplementedError


def test_direct_runs_scripts():
    net, (x,) = scripted_net(), vectors()
    with torch.no_grad():
        want = net(x)
    before = [p.clone() for p in net.state_dict().values()]
    direct, y = Direct(net), x.clone().requires_grad_()
    seen = []

    def watch(module, a, k):
        seen.append(module)
        return module._call_impl(*a, **k)

    out = direct.run(watch, (y,), {})
    assert torch.allclose(out, want, atol=1e-6)
    assert torch.autograd.grad(out.sum(), y)[0].abs().max() > 0
    assert seen == [net]
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values(), strict=True))
    assert direct.fresh(net)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_direct_leaves_no_trace(mode, fails):
    net, (x,) = Locked().train(mode), pictures()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    before = trace(net)[2:]
    direct, names = Direct(net), []

    def watch(module, a, k):
        module.training = not mode
        module.training = mode
        names.append(next(n for n, m in direct.names.items() if m is module))
        if fails and len(names) == 8:
            module.training = not mode
            raise ValueError("as asked")
        return module._call_impl(*a, **k)

    if fails:
        with pytest.raises(ValueError, match="as asked"):
            direct.run(watch, (x,), {})
    else:
        direct.run(watch, (x,), {})
        assert names.count("layer1.relu") == 2
    assert trace(net)[2:] == before
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_direct_gives_one_thread_at_a_time_and_others_plain_calls():
    net, (x,) = Locked().eval(), pictures()
    direct, inside, answers = Direct(net), threading.Event(), []
    want = net(x)

    def elsewhere():
        inside.set()
        other = threading.Thread(target=lambda: answers.append(net(x)))
        other.start()
        other.join()

    def zeros(module, a, k):
        if module is not net.fc:
            return module._call_impl(*a, **k)
        if not inside.is_set():
            elsewhere()
        return torch.zeros(2, 5)

    assert not direct.run(zeros, (x,), {}).any()
    assert inside.is_set()
    assert torch.allclose(answers[0], want, atol=1e-6)


def test_keyword_only_forwards():
    net = KeywordsOnly()
    x = torch.randn(2, 6)
    want = net(x=x, scale=2.0)["y"]
    for runner in (Shadow(net), Direct(net)):
        assert torch.allclose(runner.run(None, (), {"x": x, "scale": 2.0})["y"], want)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_function_that_a_module_holds_is_shared():
    """torch refuses to copy it with pickle's own error, not with the one that it derives."""

    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.act = torch.jit.script(_squared)

        def forward(self, x):
            return self.act(self.linear(x))

    net = made(Scripted)
    x = normal(2, 4)
    q = ask(wrap(net), x, 1)
    torch.testing.assert_close(q.grad(), torch.autograd.grad(net(x.requires_grad_())[:, 1].sum(), x)[0])


def _squared(x: torch.Tensor) -> torch.Tensor:
    return x * x
