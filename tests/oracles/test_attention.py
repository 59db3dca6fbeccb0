"""Transformers: relevance against LXT 2.1's rules and against relevance carried by hand, rollout and flow against loops, fused attention against written-out."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from architectures import ARCHITECTURES, Block, Llama, ViT, network, turned
from models import made, normal
from pellucid.attribution import AttentionFlow, AttentionRollout, AttnLRP, GradientRollout, SmoothGrad
from pellucid.attribution._attention import ATTN_LRP, CP_LRP, read
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask
from pellucid.core.target import Label, Neuron

IDS = ARCHITECTURES["llama"][1]
EXACT = {"rtol": 1e-9, "atol": 1e-12}
ROLLS = [AttentionRollout(), AttentionRollout(heads="max"), AttentionRollout(heads="min"), AttentionFlow(), GradientRollout()]
rolls = pytest.mark.parametrize("method", ROLLS, ids=["rollout", "rollout max", "rollout min", "flow", "gradient"])

# ---------------------------------------------------------------- relevance

LXT = {
    # lxt 2.1, lxt/efficient/rules.py applied to this Llama by hand: its patches do not load with transformers 5.23. Sums a token.
    "shared": [[0.0077823029, -0.0078387427, 0.0394280705, 0.0667985762, 0.0399109695, -0.6057119652],
               [0.1706614791, 0.0677431545, -0.0065471864, -0.0451575261, -0.0574608174, -0.2929680206],
               [-0.0861895972, 0.140281295, -0.0737144796, -0.0447232546, 0.1617477076, 0.4323283276]],
    "constant": [[0.0058528883, -0.0200282324, 0.0617862728, 0.0996889882, 0.0638742407, -0.6411145346],
                 [0.2624805129, 0.1305640316, 0.0160439043, -0.0840732468, -0.0371803068, -0.3176001845],
                 [-0.1474998766, 0.1341608313, -0.1384637535, -0.0942369998, 0.2326945764, 0.3186035613]],
}
attentions = pytest.mark.parametrize("attention", ["shared", "constant"])


@attentions
def test_attn_lrp_is_lxt(attention):
    values = AttnLRP(attention=attention)(ask(wrap(network("llama")), IDS, [0, 1, 2])).by("position")
    torch.testing.assert_close(values, torch.tensor(LXT[attention], dtype=torch.float64), rtol=0, atol=1e-9)


def linear(w, x, r):
    """Relevance `r` (T, out) of x @ w.T, shared by z: (T, in)."""
    z = x[:, None, :] * w[None]
    return (z / z.sum(2, keepdim=True) * r[:, :, None]).sum(1)


def rms(norm, t):
    return norm.weight * t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def split(a, b, r):
    """Relevance of a sum, for each of its two parts."""
    return r * a / (a + b), r * b / (a + b)


def rotary(z):
    """(T, d) rotated, and its cosines and sines."""
    angle = torch.arange(len(z), dtype=z.dtype)[:, None] * torch.ones(z.shape[1], dtype=z.dtype)
    return z * angle.cos() + turned(z) * angle.sin(), angle.cos(), angle.sin()


def unrotated(z, r):
    """Relevance of a rotated vector, back at the vector: two summands, each a number of `z` times a constant."""
    _, cos, sin = rotary(z)
    own, other = split(z * cos, turned(z) * sin, r)
    back = torch.zeros_like(z)
    half = z.shape[1] // 2
    for i in range(z.shape[1]):
        back[:, i] += own[:, i]
        back[:, (i + half) % (2 * half)] += other[:, i]
    return back


def attended(layer, h, r, constant):
    """Relevance (T, width) of a layer's attention output before its last projection, at what its three projections give: (q, k, v)."""
    d, many = 2, layer.heads // layer.groups
    q, k, v = (f(h) for f in (layer.q, layer.k, layer.v))
    rq, rk, rv = (torch.zeros_like(t) for t in (q, k, v))
    for head in range(layer.heads):
        mine, group = slice(head * d, head * d + d), slice(head // many * d, head // many * d + d)
        (qh, _, _), (kh, _, _), vh, ro = rotary(q[:, mine]), rotary(k[:, group]), v[:, group], r[:, mine]
        s = qh @ kh.T / d**0.5
        s = s.masked_fill(torch.ones_like(s).triu(1).bool(), float("-inf"))
        a = s.softmax(-1)
        z = a[:, :, None] * vh[None]
        share = z / z.sum(1, keepdim=True) * ro[:, None, :]
        rv[:, group] += share.sum(0) * (1 if constant else 0.5)
        if constant:
            continue
        ra = share.sum(2) / 2
        rs = torch.where(a > 0, s * (ra - a * ra.sum(1, keepdim=True)), 0)
        z = qh[:, None] * kh[None]
        share = torch.where((a > 0)[:, :, None], z / z.sum(2, keepdim=True) * rs[:, :, None], 0) / 2
        rq[:, mine] += unrotated(q[:, mine], share.sum(1))
        rk[:, group] += unrotated(k[:, group], share.sum(0))
    return rq, rk, rv


def carried(net, ids, label, constant):
    """(T, width) relevance at the embeddings of one row, carried down layer by layer with divisions written out."""
    t, held = net.emb(ids), []
    angle = torch.arange(len(ids), dtype=t.dtype)[:, None] * torch.ones(2, dtype=t.dtype)
    for layer in net.layers:
        h = rms(layer.n, t)
        o = layer.attend(h[None], angle.cos(), angle.sin()).transpose(1, 2).flatten(2)[0]
        held.append((layer, t, h, o, t + layer.o(o)))
        t = layer(t[None], angle.cos(), angle.sin())[0]
    last = rms(net.norm, t)
    r = torch.zeros_like(t)
    r[-1] = last[-1] * net.head.weight[label]
    for layer, below, h, o, mid in reversed(held):
        m = rms(layer.m, mid)
        gate, up = layer.gate(m), layer.up(m)
        product = F.silu(gate) * up
        r, rm = split(mid, layer.down(product), r)
        rp = linear(layer.down.weight, product, rm) / 2
        r = r + linear(layer.gate.weight, m, rp) + linear(layer.up.weight, m, rp)
        r, ra = split(below, layer.o(o), r)
        for f, rf in zip((layer.q, layer.k, layer.v), attended(layer, h, linear(layer.o.weight, o, ra), constant), strict=True):
            r = r + linear(f.weight, h, rf)
    return r


@attentions
@torch.no_grad()
def test_attn_lrp_is_relevance_carried_by_hand(attention):
    net = network("llama")
    want = torch.stack([carried(net, ids, label, attention == "constant") for ids, label in zip(IDS, [0, 1, 2], strict=True)])
    torch.testing.assert_close(AttnLRP(attention=attention)(ask(wrap(net), IDS, [0, 1, 2])).values, want, rtol=1e-8, atol=1e-11)


@attentions
@pytest.mark.parametrize("at", [None, "layers.0", "layers.1.gate"])
def test_relevance_is_conserved_or_accounted_for(attention, at):
    q = ask(wrap(network("llama")), IDS, [0, 1, 2], at=at).with_rules(CP_LRP if attention == "constant" else ATTN_LRP)
    there = (q.grad() * q.point).flatten(1).sum(1)
    torch.testing.assert_close(there + sum(q.absorbed().values()), q.target_values(), **EXACT)
    kept = {name for (_, name), amount in q.absorbed().items() if amount.abs().max() > 1e-9}
    past = {"add"} if at == "layers.1.gate" else {"softmax"} if attention == "shared" else set()
    assert kept == past, "a Llama has no biases; past a gate the residual road is a constant that is added"


def test_a_product_by_a_softmax_that_is_no_attention_is_shared():
    """A mixture of experts weighs by a softmax; it is no attention, and with constant attention too its weights take their half."""

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.a = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return (self.gate(x).softmax(-1) * self.a(x)).sum(1, keepdim=True)

    one, two = (AttnLRP(attention=a)(ask(wrap(made(Experts)), normal(3, 4), 0)).values for a in ("shared", "constant"))
    assert torch.equal(one, two)
    assert one.abs().max() > 1e-3


# ---------------------------------------------------------------- fused and written out


def from_torch(block):
    """nn.MultiheadAttention with a block's weights."""
    attn = nn.MultiheadAttention(8, block.heads, batch_first=True).double().eval()
    attn.load_state_dict({"in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias, "out_proj.weight": block.out.weight, "out_proj.bias": block.out.bias})
    return attn


class Stock(nn.Module):
    """A block with PyTorch's own attention in the place of the one by hand."""

    def __init__(self, block, need_weights, time_first=False):
        super().__init__()
        self.block, self.attn, self.need, self.turn = block, from_torch(block), need_weights, time_first
        self.attn.batch_first = not time_first

    def forward(self, t):
        h = self.block.n(t)
        h = h.transpose(0, 1) if self.turn else h
        o = self.attn(h, h, h, need_weights=self.need)[0]
        t = t + (o.transpose(0, 1) if self.turn else o)
        return t + self.block.down(F.gelu(self.block.up(self.block.m(t))))


METHODS = [AttnLRP(), AttnLRP(attention="constant"), *ROLLS]
every = pytest.mark.parametrize("method", METHODS, ids=["attn-lrp", "cp-lrp", "rollout", "rollout max", "rollout min", "flow", "gradient"])


@every
@pytest.mark.parametrize("need_weights", [True, False], ids=["bmm", "fused"])
@pytest.mark.parametrize("time_first", [False, True])
def test_multihead_attention_is_attention_by_hand(method, need_weights, time_first):
    hand, stock = network("vit"), network("vit")
    for name in ("first", "twice"):
        setattr(stock, name, Stock(getattr(stock, name), need_weights, time_first).eval())
    x = ARCHITECTURES["vit"][1]
    one, two = (method(ask(wrap(net), x, [0, 1, 2])).values for net in (hand, stock))
    torch.testing.assert_close(two, one, **EXACT)
    assert one.abs().max() > 1e-3


@every
def test_fused_grouped_attention_is_attention_by_hand(method):
    one, two = (method(ask(wrap(made(lambda e=e: Llama(eager=e))), IDS, [0, 1, 2])).values for e in (False, True))
    torch.testing.assert_close(two, one, **EXACT)
    assert one.abs().max() > 1e-3


def einsum(q, k, v):
    return torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).mul(q.shape[-1] ** -0.5).softmax(-1, dtype=torch.float64).type_as(q), v)


def dropped(q, k, v):
    return torch.matmul(F.dropout(F.softmax(q.matmul(k.mT) / q.shape[-1] ** 0.5, dim=3), 0.5, training=False), v)


def flat(q, k, v):
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    return torch.bmm((torch.bmm(q, k.mT) * q.shape[-1] ** -0.5).softmax(2), v).unflatten(0, (3, -1))


def turned_about(q, k, v):
    """Heads last, as some code has them, and put back before the values."""
    a = (q @ k.mT * q.shape[-1] ** -0.5).permute(0, 2, 1, 3).softmax(-1)
    return a.transpose(1, 2) @ v


@every
@pytest.mark.parametrize("attend", [einsum, dropped, flat, turned_about])
def test_other_spellings(method, attend):
    class Spelled(Block):
        def forward(self, t):
            q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.n(t)).chunk(3, -1))
            t = t + self.out(attend(q, k, v).transpose(1, 2).flatten(2))
            return t + self.down(F.gelu(self.up(self.m(t))))

    other = network("vit")
    for block in (other.first, other.twice):
        block.__class__ = Spelled
    one, two = (method(ask(wrap(net), ARCHITECTURES["vit"][1], [0, 1, 2], batch_size=8)).values for net in (network("vit"), other))
    torch.testing.assert_close(two, one, **EXACT)


def hugging_face(kind, attention, dtype=torch.float32):
    """A tiny BERT or Llama with random weights of one seed."""
    import transformers as hf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "bert":
            sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32, "initializer_range": 0.3}
            net = hf.BertForSequenceClassification(hf.BertConfig(**sizes, attn_implementation=attention))
        else:
            sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "initializer_range": 0.3}
            net = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, attn_implementation=attention))
    return net.to(dtype).eval()


def batch():
    """Three rows of seven tokens; one is padded at its end, one at its beginning."""
    ids = torch.randint(1, 30, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:], mask[2, :2] = 0, 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def target(kind):
    return [0, 1, 0] if kind == "bert" else Label([(6, 3), (4, 5), (6, 7)])


@pytest.mark.parametrize("kind", ["bert", "llama"])
@every
def test_hugging_face_sdpa_is_eager(kind, method):
    one, two = (method(ask(wrap(hugging_face(kind, a)), batch(), target(kind))).values for a in ("sdpa", "eager"))
    assert (one - two).abs().max() <= 1e-6 * max(1, one.abs().max())
    assert one.abs().max() > 1e-3
    assert one.isfinite().all()


# ---------------------------------------------------------------- what was read


def attentions_of(net, inputs):
    """(layers, B, H, T, T) as transformers gives them."""
    with torch.no_grad():
        return torch.stack(net(**inputs, output_attentions=True).attentions)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_probabilities_are_those_that_transformers_gives(kind):
    dtype, box = torch.float64 if kind == "bert" else torch.float32, []  # in float64 its eager Llama is NaN where a text begins with padding
    want = attentions_of(hugging_face(kind, "eager", dtype), batch())
    q = ask(wrap(hugging_face(kind, "sdpa", dtype)), batch(), target(kind), batch_size=8)
    read(q, lambda layers: box.append(layers) or layers[0].a[:, 0, 0], "a test")
    (layers,) = box
    real = batch()["attention_mask"].bool()
    for f, a in zip(layers, want, strict=True):
        for row in range(3):
            torch.testing.assert_close(f.a[row][:, real[row]], a[row][:, real[row]], rtol=0, atol=1e-12 if kind == "bert" else 1e-6)
    assert ["".join(filter(str.isdigit, f.module)) for f in layers] == ["0", "1", "2"], "named by the modules that hold them"
    assert all(f.g.abs().max() > 0 for f in layers[:-1])


def test_gradients_are_those_of_autograd():
    """The gradient of the target at each probability, by hand on the network that is written out."""
    net, x = network("vit"), ARCHITECTURES["vit"][1]
    held, box = [], []
    want = chefer(net, x, [0, 1, 2], held)
    read(ask(wrap(network("vit")), x, [0, 1, 2], batch_size=8), lambda layers: box.append(layers) or layers[0].a[:, 0, 0], "a test")
    for f, a in zip(box[0], held, strict=True):
        torch.testing.assert_close(f.a, a.detach(), **EXACT)
        torch.testing.assert_close(f.g, a.grad, **EXACT)
    assert want.abs().max() > 0


def chefer(net, x, labels, held):
    """(B, T, T) relevance by gradient-weighted attention, with autograd on the attention tensors of a ViT by hand."""
    t = torch.cat([net.extra.expand(len(x), -1, -1), net.patch(x).flatten(2).transpose(1, 2)], 1) + net.place
    for block in (net.first, net.twice, net.twice):
        q, k, v = (p.unflatten(-1, (block.heads, -1)).transpose(1, 2) for p in block.qkv(block.n(t)).chunk(3, -1))
        a = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        a.retain_grad()
        held.append(a)
        t = t + block.out((a @ v).transpose(1, 2).flatten(2))
        t = t + block.down(F.gelu(block.up(block.m(t))))
    net.head(net.norm(t)[:, 0])[range(len(x)), labels].sum().backward()
    out = []
    for b in range(len(x)):
        r = torch.eye(11, dtype=torch.float64)
        for a in held:
            mean = torch.zeros(11, 11, dtype=torch.float64)
            for head in range(a.shape[1]):
                mean += (a.grad[b, head] * a[b, head].detach()).clamp(min=0) / a.shape[1]
            r = r + mean @ r
        out.append(r)
    return torch.stack(out)


def test_gradient_rollout_is_chefers_relevance():
    x = ARCHITECTURES["vit"][1]
    want = chefer(network("vit"), x, [0, 1, 2], [])
    at_tokens = GradientRollout()(ask(wrap(network("vit")), x, [0, 1, 2], at="first.n", batch_size=2))
    assert at_tokens.values.shape == (3, 11, 1)
    cleared = want[:, 0].clone()
    cleared[:, 0] -= 1
    torch.testing.assert_close(at_tokens.values[:, :, 0], cleared, **EXACT)
    picture = GradientRollout()(ask(wrap(network("vit")), x, [0, 1, 2]))
    enlarged = F.interpolate(cleared[:, 2:].reshape(3, 1, 3, 3), size=(6, 6), mode="bilinear")
    torch.testing.assert_close(picture.values, enlarged, **EXACT)
    assert "3 x 3 tokens, 2 before them left out" in picture.provenance["notes"]


# ---------------------------------------------------------------- rollout and flow


def rolled(attentions, heads):
    """(T, T) of one row: the product of all layers, one at a time."""
    r = np.eye(attentions.shape[-1])
    for a in attentions:
        mixed = getattr(a, heads)(axis=0) + np.eye(len(r))
        r = mixed / mixed.sum(1, keepdims=True) @ r
    return r


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
@pytest.mark.parametrize("query", ["auto", "first", "last", "mean"])
def test_rollout_is_a_product_in_numpy(heads, query):
    a = attentions_of(hugging_face("bert", "eager", torch.float64), batch()).numpy()
    values = AttentionRollout(heads=heads, query=query)(ask(wrap(hugging_face("bert", "sdpa", torch.float64)), batch(), [0, 1, 0])).values
    for row in range(3):
        r = rolled(a[:, row], heads)
        want = {"auto": r[0], "first": r[0], "last": r[-1], "mean": r.mean(0)}[query]
        np.testing.assert_allclose(values[row, :, 0].numpy(), want, rtol=1e-9)
    np.testing.assert_allclose(values.sum(1).numpy(), 1)


def test_the_mean_of_heads_is_half_attention_half_identity():
    a = attentions_of(hugging_face("bert", "eager", torch.float64), batch())[:, 0].mean(1)
    r = torch.eye(7, dtype=torch.float64)
    for layer in a:
        r = (0.5 * layer + 0.5 * torch.eye(7, dtype=torch.float64)) @ r
    np.testing.assert_allclose(rolled(attentions_of(hugging_face("bert", "eager", torch.float64), batch())[:, 0].numpy(), "mean"), r.numpy(), rtol=1e-12)


def cut(caps, source, sink):
    """The smallest cut between a token at the top and one at the bottom, every cut tried: by the theorem of Ford and Fulkerson the maximum flow."""
    depth, t, _ = caps.shape
    inner = [(layer, i) for layer in range(1, depth) for i in range(t)]
    best = float("inf")
    for side in itertools.product((0, 1), repeat=len(inner)):
        with_source = {n for n, s in zip(inner, side, strict=True) if s} | {(depth, source)}
        rest = lambda n, mine=with_source: n not in mine and (n[0] > 0 or n[1] == sink)  # noqa: E731 - other tokens at the bottom lead nowhere
        best = min(best, sum(caps[n[0] - 1, n[1], j] for n in with_source for j in range(t) if rest((n[0] - 1, j))))
    return best


@pytest.mark.parametrize("query", ["auto", "first", "mean"])
def test_flow_is_the_smallest_cut(query):
    ids = {"input_ids": torch.tensor([[3, 8, 2], [1, 4, 9]])}
    a = attentions_of(hugging_face("bert", "eager", torch.float64), ids).numpy()
    values = AttentionFlow(query=query)(ask(wrap(hugging_face("bert", "sdpa", torch.float64)), ids, [0, 1])).values
    for row in range(2):
        caps = 0.5 * a[:, row].mean(1) + 0.5 * np.eye(3)
        sources = range(3) if query == "mean" else [0]
        want = [np.mean([cut(caps, s, j) for s in sources]) for j in range(3)]
        np.testing.assert_allclose(values[row, :, 0].numpy(), want, atol=1e-7)
    assert values.std() > 1e-2


# ---------------------------------------------------------------- where the answer is read, and where it is asked for


@rolls
@pytest.mark.parametrize("t", [2, 4, 6])
def test_a_decoder_is_read_at_the_token_that_the_target_names(method, t):
    """Nothing comes from tokens after it."""
    e = method(ask(wrap(hugging_face("llama", "sdpa")), batch()["input_ids"], Label((t, 3))))
    assert e.values[:, t + 1 :].abs().max() == 0 if t < 6 else True
    assert (e.values[:, : t + 1].abs() > 0).all()


def test_a_mean_over_tokens_is_read_at_all_but_the_padding():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = hugging_face("bert", "sdpa", torch.float64).bert

        def forward(self, input_ids, attention_mask):
            h = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return (h * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)

    a = attentions_of(hugging_face("bert", "eager", torch.float64), batch()).numpy()
    values = AttentionRollout()(ask(wrap(Pooled().eval()), batch(), 0)).values
    for row, real in enumerate(batch()["attention_mask"].bool()):
        np.testing.assert_allclose(values[row, :, 0].numpy(), rolled(a[:, row], "mean")[real.numpy()].mean(0), rtol=1e-9)


@rolls
def test_at_a_layer_only_what_comes_after_counts(method):
    """At the last block's input one attention is left: its own rows."""
    x = ARCHITECTURES["vit"][1]
    held: list = []
    chefer(network("vit"), x, [0, 1, 2], held)
    e = method(ask(wrap(network("vit")), x, [0, 1, 2], at="twice#0"))
    a, g = held[-1].detach(), held[-1].grad
    mixed = torch.eye(11, dtype=torch.float64) + {"max": a.amax(1), "min": a.amin(1)}.get(getattr(method, "heads", ""), a.mean(1))
    want = (a * g).clamp(min=0).mean(1)[:, 0] if isinstance(method, GradientRollout) else (mixed / mixed.sum(-1, keepdim=True))[:, 0]
    torch.testing.assert_close(e.values[:, :, 0], want, rtol=1e-6, atol=1e-7)


@rolls
def test_what_follows_the_unit_that_is_asked_for_counts_for_nothing(method):
    """Some passes run it and others stop before."""
    x, unit = ARCHITECTURES["vit"][1], Neuron("first", (0, 3))
    one, many = (method(ask(wrap(network("vit")), x, unit, batch_size=n)).values for n in (3, 1))
    torch.testing.assert_close(many, one, **EXACT)
    box: list = []
    read(ask(wrap(network("vit")), x, unit, batch_size=3), lambda layers: box.append(len(layers)) or layers[0].a[:, 0, 0], "a test")
    assert box == [1]


@rolls
def test_several_targets_share_a_pass_and_moved_points_are_asked_alone(method):
    model, x = wrap(network("vit")), ARCHITECTURES["vit"][1]
    both = method(ask(model, x, [0, 1, 2])).values
    several = method(ask(model, x, [Label(0), Label(1)])).values
    for k in (0, 1):
        torch.testing.assert_close(several[k::2], method(ask(model, x, [k] * 3)).values, **EXACT)
    moved = ask(model, 0 * x, [0, 1, 2]).with_point(x)
    torch.testing.assert_close(method(moved).values, both, **EXACT)
    smooth = SmoothGrad(method=method, samples=3, noise=0)
    torch.testing.assert_close(smooth(ask(model, x, [0, 1, 2])).values, both, **EXACT)


# ---------------------------------------------------------------- refusals


class Windows(ViT):
    """Attention in two halves of the tokens each."""

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)[:, :8]
        return self.head(self.first(t.reshape(-1, 4, 8)).reshape(-1, 8, 8).mean(1))


class Slots(ViT):
    """A softmax over the queries: what each key gives away, not what each query takes."""

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(((t @ t.mT).softmax(-1).mT @ t).mean(1))


class Decoder(nn.Module):
    """Attends to its own tokens, then to two others."""

    def __init__(self):
        super().__init__()
        self.layer, self.memory, self.head = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True, dropout=0), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x, self.memory(x[:, :2])).mean(1))


@rolls
@pytest.mark.parametrize(
    ("build", "x", "told"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 3)), normal(3, 5), "needs softmax attention between the input and the target; Sequential shows none"),
        (Slots, normal(3, 2, 6, 6), "needs softmax attention between the input and the target; Slots shows none"),
        (Windows, normal(3, 2, 6, 6), "whole sequences, a row each; that in module 'first' has shape"),
        (Decoder, normal(3, 5, 8), "goes from 2 to 5"),
    ],
    ids=["none", "over queries", "windows", "cross"],
)
def test_refusals(method, build, x, told):
    with pytest.raises(NotApplicable, match=told):
        method(ask(wrap(made(build)), x, 0))


def test_long_sequences_are_refused_by_flow():
    with pytest.raises(NotApplicable, match=r"at most 10 tokens.*got 11.*tokens=11"):
        AttentionFlow(tokens=10)(ask(wrap(network("vit")), ARCHITECTURES["vit"][1], 0))


@rolls
def test_places_without_tokens_are_refused(method):
    class Squeezed(ViT):
        def forward(self, x):
            return super().forward(x.unflatten(2, (5, 6)).sum(2))

    with pytest.raises(NotApplicable, match=r"one value to each of 11 tokens; the input has shape \(2, 30, 6\)"):
        method(ask(wrap(made(Squeezed)), normal(3, 2, 30, 6), 0))


@rolls
def test_tokens_that_see_nothing_are_no_trouble(method):
    """A text that is padded at its beginning: the first queries of a decoder see no key at all."""

    class Masked(Llama):
        def forward(self, ids):
            seen = (ids != 0)[:, None, None] & torch.ones(6, 6, dtype=torch.bool).tril()
            for layer in self.layers:
                layer.attend = lambda h, cos, sin, layer=layer: F.scaled_dot_product_attention(
                    *(f(h).unflatten(-1, (n, -1)).transpose(1, 2) for f, n in ((layer.q, 4), (layer.k, 2), (layer.v, 2))), attn_mask=seen, enable_gqa=True)
            return super().forward(ids)

    ids = torch.tensor([[0, 0, 3, 4, 7, 5]])
    e = method(ask(wrap(made(Masked)), ids, 3))
    assert e.values[:, 2:].abs().max() > 1e-3
    assert e.values[:, :2].abs().max() == 0
    q = ask(wrap(made(Masked)), ids, 3).with_rules(ATTN_LRP)
    assert q.grad().isfinite().all()
