"""LRP: every rule derived again with plain matrices, zennit's numbers, and an account that closes on every network."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid as pel
from models import SUBJECT_TARGETS, made, normal, subjects
from pellucid.attribution import LRP, ContrastiveExcitationBackprop, DeepTaylor, ExcitationBackprop, InputXGradient
from pellucid.attribution._relevance import NOBODY, box
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.question import ask
from pellucid.core.rules import Rules
from pellucid.core.target import Label
from pellucid.core.tree import leaves
from pellucid.metrics import Conservation
from pellucid.modalities.image import ImagePreprocess

EXACT = {"rtol": 1e-9, "atol": 1e-12}


# ---------------------------------------------------------------- plain matrices


def mlp():
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))


def p(t):
    return t.clamp(min=0)


def n(t):
    return t.clamp(max=0)


def divided(r, h):
    return torch.where(h == 0, 0, r / torch.where(h == 0, 1, h))


def by_messages(x, messages, constants, r):
    """R_j of one row: every message z_ij as its share of the sum of messages and constants into i."""
    return (messages * divided(r, messages.sum(1) + constants)[:, None]).sum(0)


def lrp0(x, w, b, r):
    return by_messages(x, w * x, b, r)


def epsilon(x, w, b, r, eps=0.1):
    z = w @ x + b
    return (w * x * (r / (z + eps * z.sign()))[:, None]).sum(0)


def z_plus(x, w, b, r):
    return by_messages(x, p(w * x), p(b), r)


def excitation(x, w, b, r):
    return by_messages(x, p(w * x), 0 * b, r)


def alpha_beta(x, w, b, r):
    return 2 * by_messages(x, p(w * x), p(b), r) - by_messages(x, n(w * x), n(b), r)


def gamma(x, w, b, r, g=0.25):
    up = (w @ x + b > 0)[:, None]
    favoured = torch.where(up, p(w * x), n(w * x))
    more = torch.where(up[:, 0], p(b), n(b))
    return by_messages(x, w * x + g * favoured, b + g * more, r)


def flat(x, w, b, r):
    return by_messages(x, torch.ones_like(w), 0 * b, r)


def w_square(x, w, b, r):
    return by_messages(x, w * w, b * b, r)


def z_box(x, w, b, r):
    return by_messages(x, w * x - p(w) * x.min() - n(w) * x.max(), 0 * b, r)


def down(net, x, target, rule, first=None):
    """Relevance of one row through a network of linear layers and ReLUs, layer by layer."""
    inputs = [x]
    for layer in net:
        inputs.append(layer(inputs[-1]))
    r = torch.zeros_like(inputs[-1])
    r[target] = inputs[-1][target]
    for i in (4, 2, 0):
        r = (first or rule if i == 0 else rule)(inputs[i], net[i].weight, net[i].bias, r)
    return r


CASES = {
    "lrp-0": (lrp0, {"composite": "lrp-0"}),
    "epsilon": (epsilon, {"composite": "epsilon", "epsilon": 0.1}),
    "z-plus": (z_plus, {"over": {"linear": "z-plus"}}),
    "gamma": (gamma, {"over": {"linear": "gamma"}}),
    "alpha-beta": (alpha_beta, {"over": {"linear": "alpha-beta"}}),
    "excitation": (excitation, {"over": {"linear": "excitation"}}),
    "flat": (flat, {"over": {"linear": "flat"}}),
    "w-square": (w_square, {"over": {"linear": "w-square"}}),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    rule, parameters = CASES[name]
    net, x, y = made(mlp, seed=3), normal(4, 5), [0, 1, 2, 1]
    with torch.no_grad():
        want = torch.stack([down(net, x[i], y[i], rule) for i in range(4)])
    e = LRP(**parameters)(ask(wrap(net), x, y))
    torch.testing.assert_close(e.values, want, **EXACT)
    torch.testing.assert_close((1 - e.absorbed) * e.total, want.sum(1), **EXACT)
    assert (want.abs().amax(1) > 1e-4).any()
    assert want.isfinite().all()


class Rectified(nn.Module):
    """Weights, a norm or none, and a rectifier of which other parts of the network see what goes in. `apart` keeps rules from joining."""

    def __init__(self, act, norm, apart):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.act, self.apart = act, apart

    def rectified(self, z):
        return self.act(z.clone() if self.apart else z)

    def forward(self, x):
        z = self.norm(self.a(x))
        h = self.rectified(self.b(self.rectified(z) + 0.3 * z))
        return self.out(h.mean((2, 3)))


@pytest.mark.parametrize("act", [F.relu, F.relu6, lambda z: F.hardtanh(z, 0.0, 0.5)])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", ["lrp-0", "epsilon", "gamma", "z-plus", "alpha2-beta1", "excitation-backprop", "last", "no bias"])
def test_a_rectifier_joins_the_rule_of_the_weights_before_it(act, norm, name):
    """Relevance and what is absorbed are the same where the two rules follow one after the other."""
    x = 3 * normal(2, 2, 6, 6)
    rule = {"last": LRP(composite="z-plus", over={"last": "epsilon"}, epsilon=0.2), "no bias": LRP(composite="epsilon", bias=False, epsilon=0.1), "excitation-backprop": ExcitationBackprop()}
    found = []
    for apart in (False, True):
        q = ask(wrap(made(lambda apart=apart: Rectified(act, norm, apart), seed=5)), x, 1)
        found.append(rule.get(name, LRP(composite=name if name not in rule else "lrp-0", epsilon=0.2))(q))
    joined, alone = found
    assert alone.values.abs().max() > 1e-4
    torch.testing.assert_close(joined.values, alone.values, **EXACT)
    torch.testing.assert_close(joined.absorbed, alone.absorbed, **EXACT)
    torch.testing.assert_close(joined.unaccounted, alone.unaccounted, rtol=0, atol=1e-9)


class Apart(nn.Module):
    """Between weights and a rectifier: nothing that any value shows."""

    def forward(self, x):
        return x.clone()


@pytest.mark.parametrize("method", [LRP(composite="z-plus", over={"first": "gamma"}), ContrastiveExcitationBackprop()])
def test_the_first_and_the_last_weights_are_found_through_joined_rules(method):
    def net(*between):
        return nn.Sequential(nn.Linear(5, 6), *between, nn.ReLU(), nn.Linear(6, 6), *between, nn.ReLU(), nn.Linear(6, 3), *between, nn.ReLU())

    x = normal(6, 5)
    found = [method(ask(wrap(made(lambda between=between: net(*between), seed=4)), x, 0)) for between in ((), (Apart(),))]
    assert found[1].values.abs().max() > 1e-3
    torch.testing.assert_close(found[0].values, found[1].values, **EXACT)
    torch.testing.assert_close(found[0].absorbed, found[1].absorbed, **EXACT)


class Conditioned(nn.Module):
    """A BatchNorm whose scale and shift depend on the input."""

    def __init__(self, spelt):
        super().__init__()
        self.a, self.w, self.out, self.spelt = nn.Linear(4, 3), nn.Linear(4, 6), nn.Linear(3, 2), spelt
        self.register_buffer("mean", normal(3))
        self.register_buffer("var", normal(3).square() + 0.5)

    def forward(self, x):
        w, b = self.w(x.mean(0)).chunk(2)
        z = self.a(x)
        z = (z - self.mean) * (self.var + 1e-5).rsqrt() * w + b if self.spelt else F.batch_norm(z, self.mean, self.var, w, b)
        return self.out(z.relu())


@pytest.mark.parametrize("method", [LRP(composite="lrp-0"), LRP(composite="epsilon", epsilon=0.1), pel.attribution.DeepLift(), pel.attribution.DeepLift(rule="reveal-cancel")])
def test_a_batch_norm_whose_weights_depend_on_the_point(method):
    one, other = (method(ask(wrap(made(lambda spelt=spelt: Conditioned(spelt), seed=2)), normal(1, 4), 0)) for spelt in (False, True))
    assert other.values.abs().max() > 1e-3
    torch.testing.assert_close(one.values, other.values, **EXACT)
    torch.testing.assert_close(other.gap if other.gap is not None else other.unaccounted, torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "first"), [("z-box", z_box), ("w-square", w_square), ("flat", flat)])
def test_rules_of_the_first_weights_by_hand(name, first):
    """A first rule above which gamma holds; one input is zero, and gets its share all the same."""
    net, x = made(mlp, seed=3), normal(4, 5)
    x[:, 2] = 0
    with torch.no_grad():
        want = torch.stack([down(net, x[i], i % 3, gamma, first) for i in range(4)])
    e = LRP(over={"first": name, "linear": "gamma"})(ask(wrap(net), x, [0, 1, 2, 0]))
    torch.testing.assert_close(e.values, want, **EXACT)
    assert want[:, 2].abs().max() > 1e-3
    assert e.unaccounted.abs().max() < 1e-12


@pytest.mark.parametrize("shape", ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"])
@pytest.mark.parametrize("rule", ["epsilon", "z-plus", "gamma", "alpha-beta", "z-box", "w-square"])
def test_convolutions_are_their_matrices(shape, rule):
    """A convolution, grouped, with BatchNorm after it or with bias, does what a linear layer with its matrix does."""
    dim = int(shape[-2])
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d} if "transpose" not in shape else {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dim]

    def build():
        after = norm(4)
        for t in (after.running_mean, after.bias):
            nn.init.uniform_(t, -1, 1)
        for t in (after.running_var, after.weight):
            nn.init.uniform_(t, 0.5, 2)
        return nn.Sequential(conv[dim](2, 4, 2, stride=2, groups=2), after, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))

    x = normal(3, 2, *[4] * dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build().double().eval()
        net(x)
    inner = net[:2]
    zero = inner(torch.zeros_like(x[:1])).flatten()
    eye = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    matrix = nn.Linear(x[0].numel(), len(zero)).double()
    with torch.no_grad():
        matrix.weight.copy_((inner(eye).flatten(1) - zero).T)
        matrix.bias.copy_(zero)
    twin = nn.Sequential(matrix, nn.ReLU(), net[4]).eval()
    over = {"first": rule, "linear": "epsilon"}
    got = LRP(over=over)(ask(wrap(net), x, [0, 1, 2])).values
    want = LRP(over=over)(ask(wrap(twin), x.flatten(1), [0, 1, 2])).values
    torch.testing.assert_close(got.flatten(1), want, **EXACT)
    assert want.abs().max() > 1e-4


@pytest.mark.parametrize("build", [lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2, padding=1), lambda: nn.ConvTranspose2d(2, 4, 3, stride=2)])
def test_flat_is_by_squares_where_all_weights_are_one(build):
    net = made(lambda: nn.Sequential(build(), nn.Flatten(), nn.Linear(36 if isinstance(build(), nn.Conv2d) else 676, 3)))
    with torch.no_grad():
        net[0].weight.sign_()
    q = ask(wrap(net), normal(3, 2, 6, 6), [0, 1, 2])
    one, two = (LRP(composite="lrp-0", bias=False, over={"first": r})(q).values for r in ("flat", "w-square"))
    torch.testing.assert_close(one, two, **EXACT)
    assert one.abs().min() > 1e-6


# ---------------------------------------------------------------- zennit


def pictures():
    """Convolutions, ReLUs, max-pooling and linear layers: what zennit knows whole."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)
    )  # fmt: skip


EVERYWHERE = {"z-plus": {"conv2d": "z-plus", "linear": "z-plus"}, "gamma": {"conv2d": "gamma", "linear": "gamma"}, "flat": {"conv2d": "flat", "linear": "flat"}}
# zennit 0.5.1, stabilizer 1e-12, float64: each row's sum, its sum weighted with normal(2, 2, 6, 6, seed=7), and the relevance of black pixels.
ZENNIT = {
    "lrp-0": (LRP(composite="lrp-0"), [0.0970294298248, 0.0157162768449], [0.00960954191524, -0.0110842296649], 0.0),
    "epsilon 0.1": (LRP(composite="epsilon", epsilon=0.1), [0.0211900345605, 0.00399103319462], [0.0105952912399, -0.00343468360377], 0.0),
    "epsilon-plus": (LRP(), [0.0808598758169, -0.00547963033408], [0.0314340778326, 0.00124318578716], 0.0),
    "epsilon-plus-flat": (LRP(composite="epsilon-plus-flat"), [0.0839149141008, -0.00568119855235], [-0.00822091667939, -0.000576792339109], 0.00635117675443),
    "epsilon-gamma-box": (LRP(composite="epsilon-gamma-box", over={"first": box(-3.0, 3.0)}), [0.0890157670797, 0.00463882934754], [-0.0144750282535, 0.00195290044289], 0.00577423477923),
    "alpha2-beta1": (LRP(composite="alpha2-beta1"), [0.115772635848, 0.00417979851514], [0.0644432443763, -0.0103304741122], 0.0),
    "alpha2-beta1-flat": (LRP(composite="alpha2-beta1-flat"), [0.0891139686989, 0.00548652762533], [-0.0221406300765, 0.00528028884721], 0.0091177021517),
    "w-square, gamma": (LRP(composite="epsilon-gamma-box", over={"first": "w-square"}), [0.0842195385982, 0.00448135753726], [-0.0218598735719, 0.00264779432143], 0.00649432708599),
    "flat everywhere": (LRP(over=EVERYWHERE["flat"]), [0.187605753318, 0.672930091935], [-0.000353711847917, 0.100150264758], 0.155075927049),
    "z+ everywhere": (LRP(over=EVERYWHERE["z-plus"]), [0.0248395094412, 0.0108579732018], [0.00968608918956, -0.00300922037277], 0.0),
    "z+ without biases": (LRP(over=EVERYWHERE["z-plus"], bias=False), [0.187605753288, 0.412244174507], [0.0745267624631, -0.122070817742], 0.0),
    "gamma 0.4 everywhere": (LRP(over=EVERYWHERE["gamma"], gamma=0.4), [0.0549572502602, 0.00416735468623], [0.0249333014135, -0.00463939372065], 0.0),
}


@pytest.mark.parametrize("name", ZENNIT)
def test_zennit(name):
    method, total, weighted, black = ZENNIT[name]
    x = normal(2, 2, 6, 6)
    x[:, :, :2, :3] = 0
    e = method(ask(wrap(made(pictures, seed=4)), x, [1, 2]))
    close = {"rtol": 1e-8, "atol": 1e-13}
    torch.testing.assert_close(e.values.sum((1, 2, 3)), torch.tensor(total, dtype=torch.float64), **close)
    torch.testing.assert_close((e.values * normal(2, 2, 6, 6, seed=7)).sum((1, 2, 3)), torch.tensor(weighted, dtype=torch.float64), **close)
    torch.testing.assert_close(e.values[:, :, :2, :3].abs().sum(), torch.tensor(black, dtype=torch.float64), **close)
    assert e.unaccounted.abs().max() < 1e-12


# ---------------------------------------------------------------- the account

COMPOSITES = [LRP(composite=c, epsilon=0.0) for c in ("lrp-0", "epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box", "alpha2-beta1", "alpha2-beta1-flat")]
METHODS = {f"lrp {m.composite}": m for m in COMPOSITES} | {f"lrp {r}": LRP(over=dict.fromkeys(("conv2d", "linear"), r)) for r in ("z-plus", "gamma", "alpha-beta", "excitation")}
METHODS |= {"lrp without biases": LRP(bias=False), "deep-taylor": DeepTaylor(), "excitation-backprop": ExcitationBackprop()}


@pytest.mark.parametrize("at", ["input", "layer"])
@pytest.mark.parametrize("subject", subjects())
@pytest.mark.parametrize("name", METHODS)
def test_values_and_account_make_up_the_answer(name, subject, at):
    s = subjects()[subject]
    q = ask(wrap(s.net()), s.x, list(SUBJECT_TARGETS), at=s.layer if at == "layer" else None)
    e = METHODS[name](q)
    assert e.unaccounted.abs().max() < 1e-9
    assert e.absorbed.isfinite().all()
    whole = sum(v.flatten(1).sum(1) for v in leaves(e.values)) if name == "excitation-backprop" else sum(v.flatten(1).sum(1) for v in leaves(e.values)) / e.total
    if any("first axis" in note for note in e.provenance["notes"]):
        assert subject == "vision transformer"
        assert (name == "excitation-backprop") or float((e.total * (1 - whole)).sum()) == pytest.approx(float(e.total.sum() * e.absorbed[0]), rel=1e-8, abs=1e-10)
    else:
        torch.testing.assert_close(whole + e.absorbed.to(whole), torch.ones_like(whole), rtol=1e-8, atol=1e-8)


class Sum(nn.Module):
    """A residual sum written in the forward: module hooks see two relevances where there is one."""

    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x):
        x = x + F.relu(self.a(x))
        x += F.relu(self.a(x))
        return self.out(x)


@pytest.mark.parametrize("rule", ["lrp-0", "epsilon", "gamma"])
def test_residual_sums_do_not_double_relevance(rule):
    e = LRP(composite="lrp-0", over={"linear": rule}, epsilon=0.0)(ask(wrap(made(Sum)), normal(3, 4), [0, 1, 0]))
    torch.testing.assert_close(e.values.sum(1), e.total, **EXACT)
    assert e.absorbed.abs().max() < 1e-12


def test_what_nobody_can_take_is_told():
    """The first unit gets nothing positive, so that z+ has nobody to give its relevance to, and alpha-beta gives twice of nothing."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -2.0], [1.0, 1.0]]))
        net[0].bias.zero_()
        net[1].weight.copy_(torch.tensor([[-1.0, 1.0]]))
        net[1].bias.zero_()
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    q = ask(wrap(net), x, pel.Output())  # hidden (-5, 3): the answer 8 is 5 from the first unit, 3 from the second
    e = LRP(over={"linear": "z-plus"})(q)
    assert e.values.tolist() == [[1.0, 2.0]]
    assert float(e.absorbed) == pytest.approx(5 / 8)
    assert e.provenance["notes"][:2] == ["biases, shifts and constants kept none of the answer", "62.5 % of the answer arrived where no input takes part, and stayed there"]
    ruled = q.with_rules(Rules(weights=lambda c: positive_rule(c)))
    ruled.grad()
    assert ruled.absorbed()["0", NOBODY].tolist() == [5.0]
    e = LRP(over={"linear": "alpha-beta"})(q)
    assert "nobody" not in str(e.provenance["notes"])
    assert float(e.unaccounted.abs()) < 1e-12
    # last: 2 * 8 by parts (5, 3), nothing negative: -8 lost; first: unit one has only negatives, unit two only positives
    assert e.values.sum().item() == pytest.approx(8 * (1 - float(e.absorbed)))


def positive_rule(c):
    from pellucid.attribution._relevance import positive

    return positive()(c)


def test_the_metric_says_what_is_missing():
    q = ask(wrap(made(pictures, seed=4)), normal(2, 2, 6, 6), [1, 2])
    e = LRP()(q)
    assert (Conservation()(e).values < 1e-12).all()
    found = pel.explain(q.model, q.x, target=[1, 2], method="lrp", evidence="basic")
    (reading,) = [r for r in found.evidence.readings if r.name == "conservation"]
    assert reading.verdict == "fact"
    assert "make up the answer" in reading.sentence
    assert not any(r.name == "conservation" for r in pel.explain(q.model, q.x, target=[1, 2], method="saliency").evidence.readings)
    with pytest.raises(NotApplicable, match="account"):
        Conservation()(InputXGradient()(q))
    bad = e.with_(unaccounted=torch.tensor([0.5, 0.0]))
    assert "lost or made" in Conservation()(bad).sentence


def test_a_rule_that_changes_nothing_says_so():
    """LRP-0 on a ReLU network is input x gradient."""
    q = ask(wrap(made(mlp)), normal(3, 5), [0, 1, 2])
    e = LRP(composite="lrp-0")(q)
    torch.testing.assert_close(e.values, InputXGradient()(q).values, **EXACT)
    assert any("point x gradient" in note for note in e.provenance["notes"])
    assert not any("point x gradient" in note for note in LRP(composite="epsilon")(q).provenance["notes"])


# ---------------------------------------------------------------- exceptions


def test_exceptions_by_layer_position_operation_pattern_and_predicate():
    net, x, y = made(mlp, seed=3), normal(4, 5), [0, 1, 2, 1]
    q = ask(wrap(net), x, y)

    def by_hand(rules):
        with torch.no_grad():
            rows = []
            for i in range(4):
                inputs = [x[i]]
                for layer in net:
                    inputs.append(layer(inputs[-1]))
                r = torch.zeros(3, dtype=x.dtype)
                r[y[i]] = inputs[-1][y[i]]
                for k in (4, 2, 0):
                    r = rules[k](inputs[k], net[k].weight, net[k].bias, r)
                rows.append(r)
            return torch.stack(rows)

    base = {0: lrp0, 2: lrp0, 4: lrp0}
    for over, changed in (
        ({"first": "gamma"}, {0: gamma}),
        ({"last": "gamma"}, {4: gamma}),
        ({"2": "gamma"}, {2: gamma}),
        ({"[02]": "gamma"}, {0: gamma, 2: gamma}),
        ({lambda c: c.name == "linear" and c.bound[1].shape[0] == 3: gamma_rule()}, {4: gamma}),
        ({"last": "gamma", "linear": "alpha-beta"}, {0: alpha_beta, 2: alpha_beta, 4: gamma}),
        ((("2", "z-plus"), ("linear", "gamma")), {0: gamma, 2: z_plus, 4: gamma}),
    ):
        e = LRP(composite="lrp-0", over=over)(q)
        torch.testing.assert_close(e.values, by_hand(base | changed), **EXACT)
        assert (e.values - by_hand(base)).abs().max() > 1e-4
        assert e.unaccounted.abs().max() < 1e-12


def gamma_rule():
    from pellucid.attribution._relevance import gamma as rule

    return rule(0.25)


def test_exceptions_that_mean_nothing_are_refused():
    q = ask(wrap(made(mlp)), normal(3, 5), 0)
    for over, word in (({"third": "gamma"}, "third"), ({"first": "gama"}, "gama"), ("first=gamma", "where -> rule")):
        with pytest.raises(UsageError, match=word):
            LRP(over=over)(q)
    with pytest.raises(UsageError, match="Rules"):
        LRP(rules=3)(q)


def test_a_composite_of_ones_own():
    q = ask(wrap(made(mlp, seed=3)), normal(4, 5), [0, 1, 2, 1])
    own = LRP(rules=Rules(weights=gamma_rule()))(q)
    torch.testing.assert_close(own.values, LRP(over={"linear": "gamma"})(q).values, **EXACT)
    assert pickle.loads(pickle.dumps(LRP(over={"first": "flat"}))) == LRP(over={"first": "flat"})


class Framed(nn.Module):
    """Zeros put around the picture by an operation of their own, and BatchNorm after the convolution."""

    def __init__(self):
        super().__init__()
        self.pad, self.a, self.n, self.out = nn.ZeroPad2d(1), nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(F.relu6(self.n(self.a(self.pad(x)))).mean((2, 3)))


class Padded(Framed):
    """The same function, padded by the convolution itself."""

    def forward(self, x):
        return self.out(F.relu6(self.n(F.conv2d(x, self.a.weight, self.a.bias, padding=1))).mean((2, 3)))


@pytest.mark.parametrize("name", ["epsilon-plus-flat", "epsilon-gamma-box"])
def test_a_frame_of_zeros_gets_nothing(name):
    x = normal(3, 2, 5, 5)
    x[:, :, :2] = 0
    one, two = (LRP(composite=name)(ask(wrap(made(build)), x, [0, 1, 2])) for build in (Framed, Padded))
    torch.testing.assert_close(one.values, two.values, **EXACT)
    assert one.values[:, :, :2].abs().min() > 0
    assert one.unaccounted.abs().max() < 1e-12


def test_the_box_is_the_range_that_the_preprocessing_tells():
    net, x = made(pictures, seed=4), normal(2, 2, 6, 6).clamp(-1, 1)
    told = wrap(net, preprocess=ImagePreprocess(6, mean=[0.5, 0.4], std=[0.25, 0.2]))
    e = LRP(composite="epsilon-gamma-box")(ask(told, x, [1, 2]))
    low, high = torch.tensor([-2.0, -2.0])[:, None, None], torch.tensor([2.0, 3.0])[:, None, None]
    want = LRP(composite="epsilon-gamma-box", over={"first": box(low, high)})(ask(wrap(net), x, [1, 2]))
    torch.testing.assert_close(e.values, want.values, rtol=1e-6, atol=1e-9)
    own = LRP(composite="epsilon-gamma-box")(ask(wrap(net), x, [1, 2]))
    assert (own.values - e.values).abs().max() > 1e-4


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x):
        return self.a(x.transpose(0, 1)).sum(0)


def test_the_box_needs_rows_or_a_range():
    with pytest.raises(NotApplicable, match="z-box"):
        LRP(composite="epsilon-gamma-box")(ask(wrap(made(TimeFirst)), normal(3, 5, 4), 0))


class Softmax(nn.Module):
    def forward(self, x):
        return (2 * x).softmax(1)


def test_a_softmax_takes_its_higher_orders_and_says_so():
    x = normal(3, 4)
    e = LRP()(ask(wrap(Softmax().eval()), x, [0, 1, 2]))
    s = (2 * x).softmax(1)
    y = s.gather(1, torch.tensor([[0], [1], [2]]))
    want = 2 * x * (torch.eye(4, dtype=x.dtype)[:3] - s) * y
    torch.testing.assert_close(e.values, want, **EXACT)
    assert e.unaccounted.abs().max() < 1e-12


# ---------------------------------------------------------------- excitation


def test_contrast_by_hand():
    """Excitation of the class less that of the class with its last weights turned round; the positive part, at the input or at a layer."""
    net, x, y = made(mlp, seed=3), normal(6, 5), [0, 1, 2, 1, 0, 2]

    def walk(row, target, sign, stop=None, start=None):
        h = [row]
        for layer in net:
            h.append(layer(h[-1]))
        r = start
        if r is None:
            r = torch.zeros(3, dtype=x.dtype)
            r[target] = 1
        for i in (4, 2, 0):
            if start is not None and i > 2:
                continue
            r = excitation(h[i], net[i].weight * (sign if i == 4 else 1), net[i].bias, r)
            if i == stop:
                return r
        return r

    with torch.no_grad():
        want = torch.stack([(walk(x[i], y[i], 1) - walk(x[i], y[i], -1)).clamp(min=0) for i in range(6)])
        at_3 = [(walk(x[i], y[i], 1, 4) - walk(x[i], y[i], -1, 4)).clamp(min=0) for i in range(6)]
        through = torch.stack([walk(x[i], y[i], 1, start=at_3[i]) for i in range(6)])
    q = ask(wrap(net), x, y)
    torch.testing.assert_close(ContrastiveExcitationBackprop()(q).values, want, **EXACT)
    torch.testing.assert_close(ContrastiveExcitationBackprop(contrast="3")(q).values, through, **EXACT)
    assert want.abs().max() > 0.01
    assert (want - through).abs().max() > 0.01


def test_excitation_is_a_chance():
    net = made(mlp, seed=3)
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.abs_()
    x = normal(4, 5).abs()
    e = ExcitationBackprop()(ask(wrap(net), x, [0, 1, 2, 0]))
    assert (e.values >= 0).all()
    torch.testing.assert_close(e.values.sum(1), torch.ones(4, dtype=x.dtype), **EXACT)


def test_deep_taylor_by_hand():
    net, x = made(mlp, seed=3), normal(4, 5)
    for first, rule in (("w-square", lambda x, w, b, r: by_messages(x, w * w, b * b, r)), ("z-box", z_box)):
        with torch.no_grad():
            want = torch.stack([down(net, x[i], i % 3, excitation, rule) for i in range(4)])
        torch.testing.assert_close(DeepTaylor(first=first)(ask(wrap(net), x, [0, 1, 2, 0])).values, want, **EXACT)
    torch.testing.assert_close(DeepTaylor()(ask(wrap(net), x, [0, 1, 2, 0])).values, DeepTaylor(first="w-square")(ask(wrap(net), x, [0, 1, 2, 0])).values, **EXACT)


# ---------------------------------------------------------------- a real network


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["lrp-0", "epsilon", "z-plus", "gamma", "alpha-beta"])
def test_efficientnet_accounts_for_all(rule):
    """ReLU6, residual sums in the forward, zeros put around by modules: what module hooks lose or double."""
    net = pel.load("efficientnet-lite0")
    x = net.prepare("sample:chelsea").double()
    model = wrap(net.module.double().eval(), preprocess=net.preprocess)
    e = LRP(composite="lrp-0", epsilon=0.0, over={"conv2d": rule, "linear": rule})(ask(model, x, Label(285)))
    values = e.values.sum()
    assert float((values + e.absorbed * e.total - e.total).abs()) < 1e-6
    assert float(e.absorbed) > 0.9, "BatchNorm's shifts hold most of the answer"
    assert float(e.total) == pytest.approx(9.0, abs=0.5)
