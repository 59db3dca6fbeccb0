"""Five kinds of network, every method that acts by rules: relevance and what operations absorbed make up the answer, or a sentence says why not."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from architectures import ARCHITECTURES, network
from pellucid.backends import wrap
from pellucid.core import catalogue
from pellucid.core._ledger import Ledger
from pellucid.core.card import Promise
from pellucid.core.errors import NotApplicable
from pellucid.core.procedure import Method, sum_of
from pellucid.core.question import Question, ask

MAPS = {"full-grad"}
"""Methods that draw a map of their own grid and whose map is an account of the whole answer."""
SHARES = {"excitation-backprop"}
"""Methods whose values are shares of the answer."""
ALWAYS = {"attn-lrp", "deep-lift", "lrp"}
"""Methods that owe every one of these networks an answer."""


def by_rules(name):
    """Whether a method asks its question under rules, itself or in the shared file it imports, and gives what comes back."""
    if name == "guided-grad-cam":  # a product of two maps: its gradient is guided-backprop's
        return False
    cls = catalogue.load("methods", name)
    path = Path(inspect.getfile(cls))
    near = [path.with_name(f"{m}.py") for m in re.findall(r"^from \.(_\w+) import", path.read_text(encoding="utf-8"), re.MULTILINE)]
    return any("with_rules(" in p.read_text(encoding="utf-8") for p in (path, *near)) and (cls.shaped is Method.shaped or name in MAPS)


def variants():
    """Each method as it comes, and once for every choice and switch."""
    found = {}
    for name, entry in catalogue.entries("methods").items():
        if by_rules(name):
            found[name] = catalogue.make("methods", name)
            for f in entry.fields:
                others = [not f.default] if isinstance(f.default, bool) else [c for c in f.choices or () if c != f.default]
                found |= {f"{name} {f.name}={v}": catalogue.make("methods", name, **{f.name: v}) for v in others}
    return found


VARIANTS = variants()


def test_the_rules_are_all_here():
    assert set(VARIANTS) >= {"attn-lrp", "attn-lrp attention=constant", "deconvnet", "deep-lift", "deep-lift rule=reveal-cancel", "full-grad", "guided-backprop"}
    assert not {"integrated-gradients", "grad-cam", "attention-rollout"} & set(VARIANTS)


def stripes(masks):
    """How striped a mask is: a target of both signs, so that rules that keep one of them keep something."""
    return masks[:, ::2].sum((1, 2)) - masks[:, 1::2].sum((1, 2))


def explained(method, name, monkeypatch):
    """(explanation, the question under rules that it asked last)."""
    asked, plain = [], Question.with_rules

    def watched(self, *args, **kwargs):
        asked.append(plain(self, *args, **kwargs))
        return asked[-1]

    monkeypatch.setattr(Question, "with_rules", watched)
    target = stripes if name == "unet" else [0, 1, 2]
    return method(ask(wrap(network(name)), ARCHITECTURES[name][1], target)), asked[-1]


def adds_up(parts, q, f):
    """Whether relevance and what was absorbed sum to the answer: a row, or over all rows where an operation holds them on another axis."""
    absorbed = list(q.absorbed().values())
    total, size = parts + sum(absorbed), max(float(t.abs().max()) for t in (f, parts, *absorbed))
    if not q.engine.account.by_row:
        total, f = total.sum(), f.sum()
    torch.testing.assert_close(total, f, rtol=0, atol=1e-8 * size)


@pytest.mark.parametrize("net", ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_conserves_or_says_why_not(name, net, monkeypatch):
    method = VARIANTS[name]
    try:
        e, q = explained(method, net, monkeypatch)
    except NotApplicable as sentence:
        refusal = str(sentence)
    else:
        refusal = ""
    if refusal:
        assert name not in ALWAYS
        assert re.search(r"operation '|module '|rectifier|spatial grid", refusal), "what is lacking, and where"
        assert re.search(r"\b(Use|Give|Call|Put|at=)", refusal), "and what to do"
        return
    assert sum_of(torch.as_tensor(e.values).abs()).min() > 1e-9
    if Promise.COMPLETE in method.card.promises:
        assert e.gap.abs().max() <= 1e-8 * float(e.values.abs().max())
    elif method.name in MAPS:
        assert not e.signed or (sum_of(e.values) - e.total).abs().max() <= 1e-8 * float(e.values.abs().max())
    elif q.rules.counted and q.rules.ledger is Ledger:
        adds_up(sum_of(e.values) * (e.total if method.name in SHARES else 1), q, e.total)
    else:
        told = " ".join(type(method).__doc__.split())
        assert "sum to nothing" in told or "sum to 1 at the most" in told, "a method that shares no relevance says so"
        if net == "resnet" and "at the most" in told:
            assert (sum_of(e.values) < 1 + 1e-9).all(), "probabilities, where all units are rectifiers"


@pytest.mark.parametrize("net", ARCHITECTURES)
def test_the_networks_are_not_trivial(net):
    """Every parameter that could matter does, and the answer moves with every input."""
    model, x = network(net), ARCHITECTURES[net][1]
    out = model(x)
    assert out.flatten(1).std(0).max() > 1e-3
    (out * torch.arange(out[0].numel()).reshape(out.shape[1:])).sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_modules_are_used_again_and_activations_are_functional():
    """What hooks on modules cannot see: there is no activation module in any of them, and some modules run twice in a pass."""
    for name, (build, x) in ARCHITECTURES.items():
        kinds = {type(m).__name__ for m in network(name).modules()}
        assert not kinds & {"ReLU", "GELU", "SiLU", "LeakyReLU", "Softmax", "Tanh", "Sigmoid"}, build
        calls = {i.name: i.calls for i in wrap(network(name)).layers(x)}
        assert name in ("llama",) or max(calls.values()) > 1, name
