"""Class activation maps against their formulas, written out with hooks and loops on plain PyTorch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import Counting, MiniViT, made, normal, subjects
from pellucid.attribution import (
    CAM,
    FEM,
    KPCACAM,
    AblationCAM,
    Augmented,
    DeepFeatureFactorization,
    EigenCAM,
    EigenGradCAM,
    EigenSmooth,
    ElementWiseCAM,
    FinerCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    LiftCAM,
    RandomCAM,
    ScoreCAM,
    ShapleyCAM,
    SmoothGrad,
    XGradCAM,
)
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.question import ask
from pellucid.core.target import Contrast, Label, Neuron

Y = torch.tensor([0, 1, 2])


class Net(nn.Module):
    """Pictures of two channels to three classes; activations of `last` are not negative. The head is linear, or bends."""

    def __init__(self, bent=False):
        super().__init__()
        self.first, self.act, self.second, self.last = nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU()
        self.head = nn.Sequential(nn.Linear(5, 8), nn.Softplus(), nn.Linear(8, 3)) if bent else nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.last(self.second(self.act(self.first(x)))).mean((2, 3)))


X = normal(3, 2, 9, 7)


def net(bent=False):
    return made(lambda: Net(bent), seed=3)


def seen(model, layer, x=X, y=Y):
    """(activations, gradients) at a layer, by a hook on the network itself."""
    held = {}

    def keep(module, inputs, out):
        held["h"] = out
        out.retain_grad()

    hook = model.get_submodule(layer).register_forward_hook(keep)
    model(x).gather(1, y[:, None]).sum().backward()
    hook.remove()
    return held["h"].detach(), held["h"].grad.detach()


def grad_cam(h, g):
    return (g.mean((2, 3), keepdim=True) * h).sum(1, keepdim=True)


def grad_cam_plus_plus(h, g):
    """The formula, position by position, in plain numbers."""
    out = torch.zeros(len(h), 1, *h.shape[2:], dtype=h.dtype)
    for b in range(len(h)):
        for c in range(h.shape[1]):
            total, weight = float(h[b, c].sum()), 0.0
            for s in g[b, c].flatten().tolist():
                below = 2 * s**2 + total * s**3
                weight += (s**2 / below if below else 0.0) * max(s, 0.0)
            out[b, 0] += weight * h[b, c]
    return out


def xgrad_cam(h, g):
    out = torch.zeros(len(h), 1, *h.shape[2:], dtype=h.dtype)
    for b in range(len(h)):
        for c in range(h.shape[1]):
            if h[b, c].sum():
                out[b, 0] += (g[b, c] * h[b, c]).sum() / h[b, c].sum() * h[b, c]
    return out


def fem(h, g):
    out = torch.zeros(len(h), 1, *h.shape[2:], dtype=h.dtype)
    for b in range(len(h)):
        for c in range(h.shape[1]):
            a = h[b, c].numpy()
            out[b, 0] += torch.from_numpy(a.mean() * (a > a.mean() + 2 * a.std()))
    return out


def whole_svd(m, h):
    """Positions by channels on the first right singular vector, in the sign that goes with the sum over channels."""
    v = torch.linalg.svd(m)[2][:, 0]
    v = v * v.sum(1, keepdim=True).sign()
    return torch.einsum("bpc,bc->bp", m, v).reshape(len(h), 1, *h.shape[2:])


def positions(t):
    m = t.flatten(2).transpose(1, 2)
    return m - m.mean(1, keepdim=True)


FORMULAS = {
    "grad-cam": (GradCAM(), grad_cam, True),
    "grad-cam-plus-plus": (GradCAMPlusPlus(), grad_cam_plus_plus, True),
    "hi-res-cam": (HiResCAM(), lambda h, g: (g * h).sum(1, keepdim=True), True),
    "element-wise-cam": (ElementWiseCAM(), lambda h, g: (g * h).clamp(min=0).sum(1, keepdim=True), True),
    "x-grad-cam": (XGradCAM(), xgrad_cam, True),
    "layer-cam": (LayerCAM(), lambda h, g: (g.clamp(min=0) * h).sum(1, keepdim=True), True),
    "fem": (FEM(), fem, False),
    "eigen-cam": (EigenCAM(), lambda h, g: whole_svd(positions(h), h), False),
    "eigen-cam, not centred": (EigenCAM(centred=False), lambda h, g: whole_svd(h.flatten(2).transpose(1, 2), h), False),
    "eigen-grad-cam": (EigenGradCAM(), lambda h, g: whole_svd(positions(g * h), h), True),
}


@pytest.mark.parametrize("layer", ["first", "last"])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula(name, layer):
    """At a layer, with ReLU as it comes and without it; `first` has more positions than channels and negative values."""
    method, formula, rectified = FORMULAS[name]
    want = formula(*seen(net(True), layer))
    assert want.abs().max() > 1e-4
    got = method(ask(wrap(net(True)), X, Y, at=layer)).values
    torch.testing.assert_close(got, want.clamp(min=0) if rectified else want)
    if "relu" in method.parameters():
        torch.testing.assert_close(type(method)(relu=False)(ask(wrap(net(True)), X, Y, at=layer)).values, want)


@pytest.mark.parametrize("name", FORMULAS)
def test_at_the_input_the_map_of_the_last_layer_is_enlarged(name):
    method, formula, rectified = FORMULAS[name]
    want = formula(*seen(net(True), "last"))
    e = method(ask(wrap(net(True)), X, Y))
    assert e.at == "last"
    torch.testing.assert_close(e.values, F.interpolate(want.clamp(min=0) if rectified else want, size=(9, 7), mode="bilinear"))
    assert any("looks at last (ReLU, 5 x 4 x 3)" in n for n in e.provenance["notes"])


def test_more_channels_than_positions():
    """The small Gram matrix of positions gives what the whole decomposition gives."""
    x, model = normal(3, 2, 4, 4), made(lambda: nn.Sequential(nn.Conv2d(2, 20, 1), nn.Tanh(), nn.Flatten(), nn.Linear(320, 3)))
    h, g = seen(model, "1", x)
    for method, m in ((EigenCAM(), h), (EigenGradCAM(relu=False), g * h)):
        torch.testing.assert_close(method(ask(wrap(model), x, Y, at="1")).values, whole_svd(positions(m), h))


def test_the_sign_of_a_component_is_fixed():
    """It goes with the sum over channels; the map of the negative layer is the negative map."""
    from pellucid.attribution._principal import first_component

    for planes in (normal(4, 9, 3, 4), normal(4, 5, 6, 4)):
        one = first_component(planes)
        m = positions(planes)
        assert ((one.flatten(1) * m.sum(2)).sum(1) > 0).all()
        torch.testing.assert_close(first_component(-planes), -one)
        torch.testing.assert_close(one.flatten(1).norm(dim=1), torch.linalg.svdvals(m)[:, 0])


# ---------------------------------------------------------------- Grad-CAM++ where the peers go wrong


def test_grad_cam_plus_plus_at_gradients_as_small_as_real_networks_have():
    """Gradients of 1e-6: a small number added to the denominator would decide the map. Scaling the target scales the map by no more than the formula says."""
    model = net(True)
    with torch.no_grad():
        for p in model.head[2].parameters():
            p.mul_(1e-6)
    h, g = seen(model, "last")
    assert 0 < g.abs().max() < 1e-5
    want = grad_cam_plus_plus(h, g)
    got = GradCAMPlusPlus(relu=False)(ask(wrap(model), X, Y, at="last")).values
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    with_eps = (((g**2 / (2 * g**2 + h.sum((2, 3), keepdim=True) * g**3 + 1e-6)) * g.clamp(min=0)).sum((2, 3), keepdim=True) * h).sum(1, keepdim=True)
    assert (with_eps - want).norm() > 0.5 * want.norm(), "pytorch-grad-cam 1.5.5 adds 1e-6"


def test_a_denominator_of_zero_gives_no_weight():
    """sum(A) g = -2 exactly: a is 0 there."""
    from pellucid.attribution._cam import Seen

    made_up = Seen.__new__(Seen)
    made_up.__dict__.update(g=torch.tensor([[[[1.0, 0.5]]]]), h=torch.tensor([[[[-3.0, 1.0]]]]), notes=[])
    got = GradCAMPlusPlus().channels(made_up)
    torch.testing.assert_close(got, 0.5 / (2 - 1) * torch.tensor([[[[-3.0, 1.0]]]]))


def test_in_half_precision_cubes_of_gradients_do_not_vanish():
    exact = GradCAMPlusPlus()(ask(wrap(net(True)), X, Y, at="last")).values
    half = GradCAMPlusPlus()(ask(wrap(made(lambda: Net(True), seed=3, dtype=torch.bfloat16)), X.bfloat16(), Y, at="last")).values
    assert half.dtype == torch.bfloat16
    assert (half.double() - exact).norm() < 0.05 * exact.norm()


# ---------------------------------------------------------------- heads that are linear


def test_cam_is_the_classifiers_weights_over_the_channels():
    model = net()
    h, _ = seen(model, "last")
    want = torch.einsum("bc,bchw->bhw", model.head.weight[Y], h)[:, None].detach()
    e = CAM()(ask(wrap(model), X, Y, at="last"))
    torch.testing.assert_close(e.values, want)
    torch.testing.assert_close(e.values.mean((1, 2, 3)), e.total - model.head.bias[Y].detach())
    cells = h.shape[2] * h.shape[3]
    torch.testing.assert_close(e.values, cells * GradCAM(relu=False)(ask(wrap(model), X, Y, at="last")).values)
    torch.testing.assert_close(CAM()(ask(wrap(model), X, Y)).values, F.interpolate(want, size=(9, 7), mode="bilinear"))
    single = CAM()(ask(wrap(made(Net, seed=3, dtype=torch.float32)), X.float(), Y, at="last")).values
    torch.testing.assert_close(single.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bent", "at", "target"), [(True, "last", None), (False, "first", None), (False, "last", "softmax"), (False, "second", None)])
def test_cam_refuses_any_other_head(bent, at, target):
    given = (lambda out: out.softmax(1)[:, 0]) if target else Y
    with pytest.raises(NotApplicable, match=r"mean over space and a linear layer.*grad-cam"):
        CAM()(ask(wrap(net(bent)), X, given, at=at))


def test_hires_cam_sums_to_the_target_less_its_bias():
    model = net()
    e = HiResCAM(relu=False)(ask(wrap(model), X, Y, at="last"))
    torch.testing.assert_close(e.values.sum((1, 2, 3)), e.total - model.head.bias[Y].detach())


def test_on_a_linear_head_the_gradient_maps_agree():
    """One gradient for all positions: Grad-CAM, HiResCAM, XGrad-CAM and Shapley-CAM say the same."""
    maps = [m(relu=False)(ask(wrap(net()), X, Y, at="last")).values for m in (GradCAM, HiResCAM, XGradCAM, ShapleyCAM)]
    assert maps[0].abs().max() > 1e-3
    for m in maps[1:]:
        torch.testing.assert_close(m, maps[0])


# ---------------------------------------------------------------- Shapley-CAM


@pytest.mark.parametrize("layer", ["first", "last"])
def test_shapley_cam_with_the_whole_hessian(layer):
    model = net(True)
    h, g = seen(model, layer)
    want = torch.zeros(3, 1, *h.shape[2:], dtype=h.dtype)

    def above(z):
        return model.head((model.last(model.second(model.act(z))) if layer == "first" else z).mean((2, 3)))

    for b in range(3):
        hessian = torch.autograd.functional.hessian(lambda z, b=b: above(z)[0, Y[b]], h[b : b + 1])
        bent = torch.einsum("xcijydkl,ydkl->xcij", hessian, h[b : b + 1])
        want[b] = grad_cam(h[b : b + 1], g[b : b + 1] - bent / 2)[0]
    e = ShapleyCAM(relu=False)(ask(wrap(model), X, Y, at=layer))
    torch.testing.assert_close(e.values, want)
    assert (want - grad_cam(h, g)).norm() > 0.01 * want.norm(), "a head without curvature proves nothing"
    assert (e.cost.forward_rows, e.cost.backward_rows) == (3, 6)


# ---------------------------------------------------------------- switching channels off


@pytest.mark.parametrize("layer", ["first", "last"])
def test_ablation_cam_against_whole_forwards(layer):
    model = net(True)
    h, _ = seen(model, layer)
    out = torch.zeros(3, 1, *h.shape[2:], dtype=h.dtype)
    with torch.no_grad():
        whole = model(X).gather(1, Y[:, None])[:, 0]
        for c in range(h.shape[1]):
            def off(module, inputs, z, c=c):
                z = z.clone()
                z[:, c] = 0
                return z

            hook = model.get_submodule(layer).register_forward_hook(off)
            left = model(X).gather(1, Y[:, None])[:, 0]
            hook.remove()
            out += (whole - left)[:, None, None, None] * h[:, c : c + 1]
    modules = list(model.modules())
    got = AblationCAM(relu=False)(ask(wrap(model), X, Y, at=layer)).values
    torch.testing.assert_close(got, out)
    assert out.abs().max() > 1e-3
    assert list(model.modules()) == modules
    assert type(model.get_submodule(layer)) in (nn.Conv2d, nn.ReLU)


def test_ablation_cam_leaves_the_class_token_alone():
    model, x = made(MiniViT), normal(3, 2, 6, 6)
    got = AblationCAM(relu=False)(ask(wrap(model), x, Y, at="norm")).values
    held = {}
    hook = model.norm.register_forward_hook(lambda m, i, o: held.update(h=o))
    with torch.no_grad():
        whole = model(x).gather(1, Y[:, None])[:, 0]
        hook.remove()
        want = torch.zeros(3, 9, dtype=x.dtype)
        for c in range(8):
            z = held["h"].clone()
            z[:, 1:, c] = 0
            hook = model.norm.register_forward_hook(lambda m, i, o, z=z: z)
            want += (whole - model(x).gather(1, Y[:, None])[:, 0])[:, None] * held["h"][:, 1:, c]
            hook.remove()
    torch.testing.assert_close(got, want.reshape(3, 1, 3, 3))
    assert want.abs().max() > 1e-3


# ---------------------------------------------------------------- pictures seen through channels


def score_cam(model, layer, keep=None, baseline=0.0):
    """One masked picture after the other; `keep` names the channels that are asked, a row."""
    h, _ = seen(model, layer)
    out = torch.zeros(3, 1, *h.shape[2:], dtype=h.dtype)
    with torch.no_grad():
        for b in range(3):
            scores, maps = [], []
            for c in range(h.shape[1]) if keep is None else keep[b]:
                up = F.interpolate(h[b, c][None, None], size=X.shape[2:], mode="bilinear")
                if h[b, c].min() == h[b, c].max():
                    continue
                mask = (up - up.min()) / (up.max() - up.min())
                scores.append(model(X[b : b + 1] * mask + baseline * (1 - mask))[0, Y[b]])
                maps.append(h[b, c])
            for w, m in zip(torch.stack(scores).softmax(0), maps, strict=True):
                out[b, 0] += w * m
    return out


@pytest.mark.parametrize("layer", ["first", "last"])
@pytest.mark.parametrize("baseline", [0, 0.4])
def test_score_cam_against_a_loop(layer, baseline):
    model = net(True)
    want = score_cam(model, layer, baseline=baseline)
    got = ScoreCAM(relu=False)(ask(wrap(model), X, Y, at=layer, baseline=baseline)).values
    torch.testing.assert_close(got, want)
    assert want.abs().max() > 1e-2


def test_score_cam_stops_at_a_share_of_the_mass_and_says_how_many_it_skipped():
    model = net(True)
    h, g = seen(model, "first")
    worth = (g.mean((2, 3)) * h.mean((2, 3))).abs()
    keep = []
    for row in worth:
        chosen, held = [], 0.0
        for c in row.argsort(descending=True).tolist():
            if held < 0.8 * float(row.sum()):
                chosen.append(c)
                held += float(row[c])
        keep.append(chosen)
    assert {len(k) for k in keep} != {6}
    e = ScoreCAM(relu=False, mass=0.8)(ask(wrap(model), X, Y, at="first"))
    torch.testing.assert_close(e.values, score_cam(model, "first", keep))
    skipped = ", ".join(str(n) for n in dict.fromkeys(6 - len(k) for k in keep))
    assert any(f"left out {skipped} of 6 channels" in n for n in e.provenance["notes"])
    assert e.cost.forward_rows == 3 + sum(map(len, keep)), "the row itself, and one a channel"


def test_score_cam_never_holds_all_masked_pictures(monkeypatch):
    """Memory is bounded by the chunk: no call makes more pictures than its chunk has rows."""
    from pellucid.attribution import score_cam as module

    made_at_once, real = [], module.resized
    monkeypatch.setattr(module, "resized", lambda maps, size: made_at_once.append(len(maps)) or real(maps, size))
    ScoreCAM()(ask(wrap(net(True)), X, Y, at="first", batch_size=4))
    assert max(made_at_once) == 4
    assert sum(made_at_once) == 18


def test_a_layer_that_is_the_same_everywhere_gives_an_empty_score_cam():
    model = net(True)
    with torch.no_grad():
        model.first.weight.zero_()
    e = ScoreCAM()(ask(wrap(model), X, Y, at="first"))
    assert e.values.abs().max() == 0
    assert any("left out 6 of 6 channels" in n for n in e.provenance["notes"])


# ---------------------------------------------------------------- kernels, controls


def test_kpca_cam_against_scikit_learn():
    from sklearn.decomposition import KernelPCA

    h, _ = seen(net(True), "first")
    want = []
    for row in h:
        m = positions(row[None])[0].numpy()
        one = torch.from_numpy(KernelPCA(n_components=1, kernel="sigmoid", eigen_solver="dense").fit_transform(m)[:, 0])
        want.append(one * (one * torch.from_numpy(m.sum(1))).sum().sign())
    got = KPCACAM()(ask(wrap(net(True)), X, Y, at="first")).values
    torch.testing.assert_close(got.flatten(1), torch.stack(want))


def test_kpca_cam_refuses_a_kernel_that_fills_the_memory():
    x = normal(1, 2, 70, 70)
    with pytest.raises(NotApplicable, match=r"at most 4096.*4900.*Eigen-CAM"):
        KPCACAM()(ask(wrap(net()), x, 0, at="first"))


def test_random_cam_draws_for_the_row_by_its_name():
    h, _ = seen(net(), "last")
    one = RandomCAM(relu=False)(ask(wrap(net()), X, Y, at="last", ids=("a", "b", "c"), seed=1)).values
    same = RandomCAM(relu=False)(ask(wrap(net()), X.flip(0), Y.flip(0), at="last", ids=("c", "b", "a"), seed=1)).values
    torch.testing.assert_close(one, same.flip(0))
    w = [torch.linalg.lstsq(h[b].flatten(1).T, one[b].flatten()[:, None]).solution for b in range(3)]
    assert max(v.abs().max() for v in w) <= 1
    assert min((w[a] - w[b]).norm() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1
    other = RandomCAM(relu=False)(ask(wrap(net()), X, Y, at="last", ids=("a", "b", "c"), seed=2)).values
    assert (one - other).norm() > 0.1 * one.norm()


def test_maps_without_a_target_are_the_same_for_every_class():
    for method in (FEM(), EigenCAM(), KPCACAM(), RandomCAM()):
        maps = [method(ask(wrap(net()), X, c)).values for c in (0, 2)]
        assert torch.equal(*maps)


# ---------------------------------------------------------------- which layer


def test_on_a_vision_transformer_the_layer_has_tokens_that_the_answer_depends_on():
    """The head reads the class token: after the last attention the patches lead nowhere, and their map would be empty."""
    model, x = made(MiniViT), normal(3, 2, 6, 6)
    e = GradCAM(relu=False)(ask(wrap(model), x, Y))
    assert e.at == "norm"
    assert e.values.abs().max() > 1e-3
    assert any("looks at norm" in n for n in e.provenance["notes"])
    torch.testing.assert_close(e.values, F.interpolate(GradCAM(relu=False)(ask(wrap(model), x, Y, at="norm")).values, size=(6, 6), mode="bilinear"))
    for at in ("mlp", "attn"):
        assert GradCAM()(ask(wrap(model), x, Y, at=at)).values.abs().max() == 0


class Towered(nn.Module):
    """A tower that gives its grid and the grid's mean, of which only the mean is read, as vision models of transformers do."""

    def __init__(self):
        super().__init__()
        self.tower, self.head = Tower(), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.tower(x)[1])


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 5, 3), nn.Tanh()

    def forward(self, x):
        h = self.norm(self.first(x))
        return h, h.mean((2, 3))


@pytest.mark.parametrize("method", [GradCAM(relu=False), AblationCAM(relu=False)], ids=lambda m: m.name)
def test_a_grid_that_is_given_beside_its_mean_leads_nowhere(method):
    model = made(Towered)
    e = method(ask(wrap(model), X, Y))
    assert e.at == "tower.norm"
    assert e.values.abs().max() > 1e-3


class Swin(nn.Module):
    """Tokens laid out as a picture, channels last, averaged at the end: no class token, a grid that is not square."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.mix, self.head = nn.Conv2d(2, 12, 2, stride=2), nn.LayerNorm(12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        t = self.patch(x).permute(0, 2, 3, 1)
        t = t + torch.tanh(self.mix(self.norm(t)))
        return self.head(t.mean((1, 2)))


def test_channels_last_and_grids_that_are_not_square():
    model, x = made(Swin), normal(3, 2, 6, 14)
    e = HiResCAM(relu=False)(ask(wrap(model), x, Y))
    assert e.at == "mix"
    h, g = seen(model, "mix", x)
    want = (h * g).sum(3)[:, None]
    assert want.shape == (3, 1, 3, 7)
    torch.testing.assert_close(e.values, F.interpolate(want, size=(6, 14), mode="bilinear"))


def test_several_layers_are_fused():
    model = net(True)
    layers = ["first", "act", "last"]
    e = LayerCAM()(ask(wrap(model), X, Y, at=layers))
    maps = []
    for layer in layers:
        h, g = seen(model, layer)
        m = (g.clamp(min=0) * h).sum(1, keepdim=True).clamp(min=0)
        maps.append(F.interpolate(m / m.amax((1, 2, 3), keepdim=True), size=(9, 7), mode="bilinear"))
    torch.testing.assert_close(e.values, torch.stack(maps).mean(0))
    assert not e.signed
    assert e.at == "first, act, last"
    assert any("mean over 3 layers" in n for n in e.provenance["notes"])
    alone = GradCAM()(ask(wrap(model), X, Y, at=["last"])).values
    assert torch.equal(alone, GradCAM()(ask(wrap(model), X, Y, at="last")).values), "a list of one is the layer itself"


def test_layer_cam_lifts_early_layers():
    h, g = seen(net(True), "first")
    m = (g.clamp(min=0) * h).sum(1, keepdim=True)
    got = LayerCAM(lift=True)(ask(wrap(net(True)), X, Y, at="first")).values
    torch.testing.assert_close(got, torch.tanh(2 * m / m.amax((1, 2, 3), keepdim=True)).clamp(min=0))


def test_sizes_of_the_subjects():
    """What the tests above compare with is not trivial."""
    for bent in (False, True):
        out = net(bent)(X)
        assert out.std() > 1e-3


# ---------------------------------------------------------------- contrasts, concepts, channels' shares


def finer(model, h, out, b, index, nearest, strength):
    """Grad-CAM of one row's contrast, from the gradient of a plain forward."""
    gaps = sorted((abs(float(out[b, k] - out[b, index])), k) for k in range(out.shape[1]) if k != index)
    near = [k for _, k in gaps[:nearest]]
    z = h[b : b + 1].clone().requires_grad_()
    y = model.head(z.mean((2, 3)))[0]
    (y[index] - strength * y[near].mean()).backward()
    return grad_cam(z.detach(), z.grad)[0], near


@pytest.mark.parametrize("target", ["given", "predicted"])
def test_finer_cam_tells_a_class_from_those_nearest(target):
    model = made(lambda: Wide(), seed=3)
    h, _ = seen(model, "last")
    out = model(X).detach()
    index = [4, 0, 6] if target == "given" else out.argmax(1).tolist()
    want, near = zip(*(finer(model, h, out, b, index[b], 2, 0.8) for b in range(3)), strict=True)
    e = FinerCAM(relu=False, nearest=2, strength=0.8)(ask(wrap(model), X, index if target == "given" else None, at="last"))
    torch.testing.assert_close(e.values, torch.stack(want))
    assert (torch.stack(want) - GradCAM(relu=False)(ask(wrap(model), X, index, at="last")).values).norm() > 0.1 * torch.stack(want).norm()
    said = "; ".join(dict.fromkeys(", ".join(map(str, n)) for n in near))
    assert any(n == f"told from the nearest outputs: {said}" for n in e.provenance["notes"])
    torch.testing.assert_close(e.total, out[range(3), index])
    assert (e.cost.forward_rows, e.cost.backward_rows) == (3, 3)


class Wide(Net):
    """Seven classes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 7)


def test_finer_cam_needs_one_output_among_several():
    for target, at in ((lambda out: out.sum(1), "last"), (Contrast(0, 1), "last")):
        with pytest.raises(NotApplicable, match=r"one output among several.*grad-cam"):
            FinerCAM()(ask(wrap(net()), X, target, at=at))
    single = made(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(105, 1)))
    with pytest.raises(NotApplicable, match="the model gives one"):
        FinerCAM()(ask(wrap(single), X, 0, at="0"))


def test_finer_cam_of_a_unit_compares_channels_at_its_place():
    s = subjects()["pictures"]
    model = s.net()
    q = ask(wrap(model), s.x, Neuron("b", (1, 2, 3)), at="a")
    got = FinerCAM(relu=False, nearest=2, strength=1.0)(q).values
    held = {}
    model.b.register_forward_hook(lambda m, i, o: held.update(out=o))
    model(s.x)
    line = held["out"][:, :, 2, 3].detach()
    for b in range(3):
        near = [k for k in (line[b] - line[b, 1]).abs().argsort().tolist() if k != 1][:2]
        units = [GradCAM(relu=False)(ask(wrap(model), s.x[b : b + 1], Neuron("b", (k, 2, 3)), at="a")).values[0] for k in (1, *near)]
        torch.testing.assert_close(got[b], units[0] - (units[1] + units[2]) / 2)


def test_lift_cam_is_exact_where_channels_only_meet_at_the_end():
    """Behind the mean a plain sum of bent functions, one a channel: Shapley values are known, and DeepLIFT finds them."""
    model = made(lambda: nn.Sequential(nn.Conv2d(2, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softplus(), nn.Linear(5, 3)), seed=4)
    with torch.no_grad():
        h = model[0](X)
        rise = (F.softplus(h.mean((2, 3))) - F.softplus(torch.zeros(3, 5, dtype=X.dtype))) * model[4].weight[Y]
    want = (rise[:, :, None, None] * h).sum(1, keepdim=True)
    torch.testing.assert_close(LiftCAM(relu=False)(ask(wrap(model), X, Y, at="0")).values, want)
    ablated = AblationCAM(relu=False)(ask(wrap(model), X, Y, at="0")).values
    torch.testing.assert_close(ablated, want, msg="each channel alone, switched off, loses the same")


def test_lift_cam_weights_sum_to_what_the_layer_does():
    model = net(True)
    h, _ = seen(model, "last")
    q = ask(wrap(model), X, Y, at="last")
    got = LiftCAM(relu=False)(q).values
    w = torch.stack([torch.linalg.lstsq(a.flatten(1).T, m.flatten()[:, None]).solution[:, 0] for a, m in zip(h, got, strict=True)])
    empty = model.head(torch.zeros(1, 5, dtype=X.dtype)).detach()[0, Y]
    torch.testing.assert_close(w.sum(1), q.target_values() - empty)
    shapley = torch.stack([shapley_of_channels(model, h[b], Y[b]) for b in range(3)])
    assert (w - shapley).norm() < 0.1 * shapley.norm(), "an estimate of the Shapley values of channels"


def shapley_of_channels(model, h, y):
    """Exact, over all 32 coalitions of five channels."""
    from itertools import combinations
    from math import factorial

    n, value = len(h), {}
    for size in range(n + 1):
        for s in combinations(range(n), size):
            z = torch.zeros_like(h)
            z[list(s)] = h[list(s)]
            value[s] = model.head(z.mean((1, 2))[None])[0, y].detach()
    phi = torch.zeros(n, dtype=h.dtype)
    for s, v in value.items():
        for c in set(range(n)) - set(s):
            phi[c] += factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n) * (value[tuple(sorted((*s, c)))] - v)
    return phi


def test_factorization_finds_parts_that_are_there():
    """Three concepts in places of their own, with directions of their own, come back whole."""
    from pellucid.attribution._concepts import factorized

    where = torch.zeros(1, 12, 3, dtype=torch.float64)
    for k in range(3):
        where[0, 4 * k : 4 * k + 4, k] = normal(4, seed=k).abs() + 0.1
    what = normal(1, 3, 9, seed=7).abs()
    w, h = factorized(where @ what, 3, 2000)
    torch.testing.assert_close(w @ h, where @ what, rtol=1e-3, atol=1e-3)
    assert w.min() >= 0
    assert h.min() >= 0


def test_factorization_is_as_good_as_scikit_learns():
    from sklearn.decomposition import NMF

    from pellucid.attribution._concepts import factorized

    v = normal(2, 30, 17).abs()
    w, h = factorized(v, 4, 200)
    for b in range(2):
        peer = NMF(4, init="nndsvda", solver="mu", max_iter=200, tol=0)
        theirs = v[b].numpy() - peer.fit_transform(v[b].numpy()) @ peer.components_
        ours = (v[b] - w[b] @ h[b]).norm()
        assert ours < 1.02 * float((theirs**2).sum() ** 0.5)


def test_concepts_are_weighted_by_what_the_answer_loses_without_them():
    from pellucid.attribution._concepts import factorized

    model = net(True)
    h, _ = seen(model, "last")
    w, d = factorized(h.flatten(2).mT, 3, 200)
    want, effects = torch.zeros(3, 12, dtype=X.dtype), torch.zeros(3, 3, dtype=X.dtype)
    with torch.no_grad():
        for b in range(3):
            for k in range(3):
                left = h[b].flatten(1) - torch.outer(d[b, k], w[b, :, k])
                effects[b, k] = model(X)[b, Y[b]] - model.head(left.mean(1)[None])[0, Y[b]]
                want[b] += effects[b, k] * w[b, :, k] / w[b, :, k].sum()
    e = DeepFeatureFactorization(concepts=3)(ask(wrap(model), X, Y, at="last"))
    torch.testing.assert_close(e.values.flatten(1), want)
    torch.testing.assert_close(e.values.sum((1, 2, 3)), effects.sum(1))
    top = DeepFeatureFactorization(concepts=3, concept=1)(ask(wrap(model), X, Y, at="last")).values
    torch.testing.assert_close(top.sum((1, 2, 3)), effects.gather(1, effects.abs().argmax(1, keepdim=True))[:, 0])
    assert any("row 0: 3 concepts hold" in n for n in e.provenance["notes"])
    with pytest.raises(UsageError, match="concept 4 of 3"):
        DeepFeatureFactorization(concepts=3, concept=4)(ask(wrap(model), X, Y, at="last"))


# ---------------------------------------------------------------- wrappers


@pytest.mark.parametrize("at", [None, "last"])
def test_augmentation_is_the_mean_over_mirrored_and_scaled_pictures(at):
    model = net(True)
    maps = []
    for gain in (0.8, 1, 1.2):
        maps.append(GradCAM()(ask(wrap(model), gain * X, Y, at=at)).values)
        maps.append(GradCAM()(ask(wrap(model), gain * X.flip(3), Y, at=at)).values.flip(3))
    e = Augmented(gain=0.2)(ask(wrap(model), X, Y, at=at))
    torch.testing.assert_close(e.values, torch.stack(maps).mean(0))
    assert e.at == "last"
    assert not e.signed
    still = Augmented(gain=0)(ask(wrap(model), X, Y, at=at)).values
    torch.testing.assert_close(still, (maps[2] + maps[3]) / 2)
    assert (still - maps[2]).norm() > 0.05 * still.norm()


def test_augmentation_mirrors_tokens_on_their_grid():
    """Values at a layer of tokens: left and right change places, the class token stays."""
    model, x = made(MiniViT), normal(3, 2, 6, 6)
    got = Augmented(gain=0, method="activations")(ask(wrap(model), x, Y, at="norm")).values
    straight, turned = (wrap_point(model, t) for t in (x, x.flip(3)))
    back = turned.clone()
    back[:, 1:] = turned[:, 1:].unflatten(1, (3, 3)).flip(2).flatten(1, 2)
    torch.testing.assert_close(got, (straight + back) / 2)


def wrap_point(model, x):
    return ask(wrap(model), x, Y, at="norm").point


def test_eigen_smooth_keeps_the_main_pattern_of_the_channels():
    h, g = seen(net(True), "last")
    q = lambda: ask(wrap(net(True)), X, Y, at="last")  # noqa: E731
    want = whole_svd(positions(g.mean((2, 3), keepdim=True) * h), h)
    torch.testing.assert_close(EigenSmooth(relu=False)(q()).values, want)
    torch.testing.assert_close(EigenSmooth(method="hi-res-cam")(q()).values, EigenGradCAM()(q()).values)
    with pytest.raises(UsageError, match="class activation map"):
        EigenSmooth(method="saliency")(q())


def test_augmentation_mirrors_a_baseline_that_is_a_picture():
    model, b = net(True), normal(3, 2, 9, 7, seed=8)
    one, two = (IntegratedGradients(steps=4)(ask(wrap(model), x, Y, baseline=s)).values for x, s in ((X, b), (X.flip(3), b.flip(3))))
    got = Augmented(gain=0, method=IntegratedGradients(steps=4))(ask(wrap(model), X, Y, baseline=b)).values
    torch.testing.assert_close(got, (one + two.flip(3)) / 2)


# ---------------------------------------------------------------- pytorch-grad-cam's own numbers

# grad-cam 1.5.5, torch 2.x, float64, layer `last` of the bent net: (largest, [1, 2], [3, 0]) of each row's map, before its scaling to 0..1.
PEER = {
    GradCAM(relu=False): [(0.0004771, -0.00155697, -0.00119413), (0.00241194, -0.0011972, -0.00116111), (0.00205473, -0.00733978, -0.00281602)],
    HiResCAM(relu=False): [(0.0004771, -0.00155697, -0.00119413), (0.00241194, -0.0011972, -0.00116111), (0.00205473, -0.00733978, -0.00281602)],
    ElementWiseCAM(): [(0.00115037, 0.00011096, 2.235e-05), (0.00247633, 0.0, 0.00071073), (0.00254377, 5.14e-05, 0.0)],
    XGradCAM(relu=False): [(0.0004771, -0.00155697, -0.00119413), (0.00241194, -0.0011972, -0.00116111), (0.00205473, -0.00733978, -0.00281602)],
    LayerCAM(relu=False): [(0.00115037, 0.00011096, 2.235e-05), (0.00247633, 0.0, 0.00071073), (0.00254377, 5.14e-05, 0.0)],
    ShapleyCAM(relu=False): [(0.00048384, -0.00159193, -0.00121673), (0.00244631, -0.0012303, -0.00116601), (0.00205246, -0.00740268, -0.00284014)],
    KPCACAM(): [(0.11037316, -0.05705567, 0.01722349), (0.10274884, 0.10274884, 0.08153739), (0.16258927, 0.16258927, 0.02200104)],
}


@pytest.mark.parametrize("method", PEER, ids=lambda m: m.name)
def test_as_pytorch_grad_cam_has_it(method):
    """Not compared: Grad-CAM++ (adds 1e-6), Eigen-CAM and EigenGrad-CAM (sign by chance), FEM (another formula), Ablation-CAM (ablates to min - 1e7 below zero, divides by the score)."""
    maps = method(ask(wrap(net(True)), X, Y, at="last")).values[:, 0]
    got = torch.stack([maps.amax((1, 2)), maps[:, 1, 2], maps[:, 3, 0]], 1)
    torch.testing.assert_close(got, torch.tensor(PEER[method], dtype=X.dtype), rtol=1e-5, atol=2e-8)


# ---------------------------------------------------------------- one algebra

FAMILY = [
    AblationCAM(), DeepFeatureFactorization(concepts=2), EigenCAM(), EigenGradCAM(), EigenSmooth(), ElementWiseCAM(), FEM(), FinerCAM(nearest=1), GradCAM(), GradCAMPlusPlus(), HiResCAM(), KPCACAM(),
    LayerCAM(), LiftCAM(), RandomCAM(), ScoreCAM(), ScoreCAM(mass=0.7), ShapleyCAM(), XGradCAM(),
]  # fmt: skip


@pytest.mark.parametrize("at", [None, "last", ["first", "last"]], ids=["input", "layer", "layers"])
@pytest.mark.parametrize("method", FAMILY, ids=repr)
def test_a_list_of_targets_a_wrapper_without_noise_and_counted_rows(method, at):
    model = wrap(net(True))
    alone = [method(ask(model, X, c, at=at)).values for c in (0, 2)]
    many = method(ask(model, X, [Label(0), Label(2)], at=at)).values
    for k in range(2):
        torch.testing.assert_close(many[k::2], alone[k])
    still = SmoothGrad(samples=2, noise=0, method=method)(ask(model, X, 0, at=at, ids=(0, 1, 2))).values
    torch.testing.assert_close(still, alone[0])
    counting = Counting(net(True))
    asked = wrap(counting)
    asked.layers(X)
    counting.tally.rows = 0
    inside = None if at is None else "inner.last" if at == "last" else ["inner.first", "inner.last"]
    e = method(ask(asked, X, Y, at=inside))
    assert e.cost.forward_rows == counting.tally.rows
