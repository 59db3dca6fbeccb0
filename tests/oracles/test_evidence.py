"""Evidence against planted truth: models whose right map is known, and maps that are known to be wrong."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import pellucid as pel
from pellucid.core.card import Card
from pellucid.core.procedure import Method, Values
from pellucid.core.start import blur
from pellucid.metrics._controls import centre, edges


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(nn.Module):
    """Pictures to classes, each class with weights of its own in coarse patches."""

    def __init__(self, classes=6, size=28):
        super().__init__()
        w = torch.linalg.qr(normal(49, classes, seed=3)).Q.T.reshape(classes, 1, 7, 7).repeat_interleave(size // 7, 2).repeat_interleave(size // 7, 3)
        self.w = nn.Parameter(w.flatten(1))

    def forward(self, x):
        return x.flatten(1) @ self.w.T


@pytest.fixture(scope="module")
def planted():
    """The model, a picture, and for each class the map that explains its output exactly."""
    net = Linear().eval()
    x = normal(1, 1, 28, 28, seed=5).abs()
    truth = {c: net.w[c].detach().view(1, 1, 28, 28) * (x - blur(x)) for c in range(6)}
    return net, x, truth


def reading(e, name):
    return next(r for r in e.evidence.readings if r.name == name)


def test_the_exact_map_predicts_every_answer(planted):
    net, x, truth = planted
    e = pel.assess(net, x, truth[2], target=2)
    assert reading(e, "mask-fidelity").value == pytest.approx(1, abs=1e-6)
    assert reading(e, "mask-fidelity-elsewhere").value > 2
    assert e.evidence.verdict == "supported"
    assert e.evidence.note == "This tests the map against the model, not the model against the world."


def test_integrated_gradients_of_a_linear_model_is_that_map_and_changes_with_the_class(planted):
    net, x, truth = planted
    e = pel.explain(net, x, method="integrated-gradients", target=2, baseline="blur", steps=4)
    assert torch.allclose(e.values, truth[2])
    assert e.evidence.verdict == "supported"
    assert reading(e, "class-dependence").verdict == "good"
    assert reading(e, "completeness-gap").value == pytest.approx(0, abs=1e-9)
    assert reading(e, "convergence").value == pytest.approx(1)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda x, truth: -truth[2], "raises"),
        (lambda x, truth: torch.ones_like(x), "empty or constant"),
        (lambda x, truth: torch.zeros_like(x), "empty or constant"),
        (lambda x, truth: truth[2].roll((9, 13), (2, 3)).flip(3), "lower"),
        (lambda x, truth: truth[4], "lower"),
        (lambda x, truth: normal(1, 1, 28, 28, seed=1), "lower"),
    ],
    ids=["negated", "constant", "empty", "moved", "another class", "noise"],
)
def test_wrong_maps_are_not_supported(planted, wrong, word):
    net, x, truth = planted
    e = pel.assess(net, x, wrong(x, truth), target=2)
    assert e.evidence.verdict in ("contradicted", "doubtful")
    if e.evidence.verdict == "contradicted":
        assert word in e.evidence.reasons[0]


def test_negated_and_constant_maps_are_contradicted(planted):
    net, x, truth = planted
    assert [pel.assess(net, x, v, target=2).evidence.verdict for v in (-truth[2], torch.ones_like(x))] == ["contradicted"] * 2


@pytest.mark.parametrize("prior", [lambda x: edges(x)[:, None], lambda x: centre(28, 28).double()[None, None]], ids=["edges", "centre"])
def test_a_prior_says_nothing_beyond_itself(prior):
    """The net looks just where the prior does, so that the prior predicts it; it is still no explanation."""
    x = normal(1, 1, 28, 28, seed=5).abs()
    where = prior(x).flatten(1)
    e = pel.assess(lambda z: torch.stack([((z - blur(x)) / (x - blur(x)) * where.view_as(x)).flatten(1).sum(1), z.flatten(1).mean(1)], 1), x, prior(x), target=0)
    assert reading(e, "mask-fidelity").value > 0.99
    assert reading(e, "mask-fidelity-beyond").value == pytest.approx(0, abs=1e-6)
    assert e.evidence.verdict == "doubtful"
    assert "No better than edges" in " ".join(e.evidence.reasons)


@dataclass(frozen=True, kw_only=True)
class Edges(Method):
    """A method that never asks the model."""

    card = Card(title="Edges", paper="")

    def attribute(self, q):
        return Values(edges(q.point)[:, None].expand_as(q.point))


def test_a_method_that_never_asks_the_model_is_contradicted(planted):
    net, x, _ = planted
    e = pel.explain(net, x, method=Edges(), target=2)
    assert reading(e, "class-dependence").value == pytest.approx(1)
    assert e.evidence.verdict == "contradicted"
    assert e.evidence.reasons == ("The same map for every class (1.00): it shows the input, not the decision.",)


class OneNumber(nn.Module):
    """A picture to one number, with BatchNorm, so that there is no other class to ask about."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8 * 49, 1)
        for p in (self.a.weight, self.b.weight):
            nn.init.normal_(p, generator=torch.Generator().manual_seed(1))

    def forward(self, x):
        return self.b(nn.functional.adaptive_avg_pool2d(self.norm(self.a(x)).relu(), 7).flatten(1))


@pytest.mark.parametrize(("method", "verdict"), [("integrated-gradients", "good"), (Edges(), "bad")])
def test_where_there_is_no_other_class_shuffled_networks_stand_in(method, verdict):
    net = OneNumber().double().eval()
    held = {k: v.clone() for k, v in net.state_dict().items()}
    e = pel.explain(net, normal(1, 1, 28, 28, seed=2), method=method)
    found = reading(e, "network-dependence")
    assert found.verdict == verdict
    assert found.cost.forward_rows >= 3 * 22
    assert all(torch.equal(v, held[k]) for k, v in net.state_dict().items())
    if verdict == "bad":
        assert "permuted weights (1.00)" in e.evidence.reasons[0]
        assert e.evidence.verdict == "contradicted"


def test_a_bare_function_with_one_output_has_nothing_to_compare_with():
    e = pel.explain(lambda z: z.flatten(1).sum(1, keepdim=True), normal(1, 1, 28, 28, seed=2), method="occlusion", window=4, stride=4)
    assert reading(e, "class-dependence").verdict == "not applicable"
    assert "no weights that could be shuffled" in reading(e, "class-dependence").sentence


class Against(nn.Module):
    """A network whose every channel speaks against class 0, so that Grad-CAM's positive part is empty."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        nn.init.constant_(self.conv.weight, 0.1)
        nn.init.ones_(self.conv.bias)

    def forward(self, x):
        h = self.conv(x.abs()).relu().mean((2, 3)).sum(1)
        return torch.stack([-h, h, 0 * h], 1)


def test_an_empty_cam_has_its_own_sentence():
    e = pel.explain(Against().double().eval(), normal(1, 1, 28, 28, seed=2), method="grad-cam", target=0)
    assert e.evidence.verdict == "contradicted"
    assert e.evidence.reasons[0].startswith("Empty: at conv nothing raises 0")
    assert "earlier layer" in e.evidence.reasons[0]


def test_a_map_at_a_layer_is_tested_by_hiding_parts_of_the_picture(planted):
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 6)).double().eval()
    for layer in (net[0], net[3]):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(layer.bias)
    e = pel.explain(net, planted[1], method="integrated-gradients", target=1, at="1", steps=8)
    assert reading(e, "mask-fidelity").value > 0.2
    flat = pel.explain(net, planted[1], method="integrated-gradients", target=1, at="2", steps=8)
    assert reading(flat, "mask-fidelity").verdict == "not applicable"
    assert "no grid like the picture's" in flat.evidence.reasons[0]
    assert flat.evidence.verdict == "doubtful"


def test_a_table_is_tested_over_its_columns_and_against_the_size_of_its_cells():
    w = normal(12, 3, seed=1)
    x = normal(1, 12, seed=2)
    e = pel.explain(lambda z: z @ w, x, method="occlusion", target=0, window=1, stride=1)
    assert reading(e, "mask-fidelity").value == pytest.approx(1, abs=1e-6)
    assert e.evidence.verdict == "supported"
    assert "more than the size of the cells explain" in e.evidence.reasons[0]
    assert pel.assess(lambda z: z @ w, x, x.abs(), target=0).evidence.verdict != "supported"
    assert pel.assess(lambda z: z @ w, x, -e.values, target=0).evidence.verdict == "contradicted"


def test_words_are_tested_at_their_embeddings():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding.from_pretrained(normal(20, 4, seed=1))
            self.out = nn.Linear(4, 3).double()

        def forward(self, ids):
            return self.out(self.emb(ids).sum(1))

    e = pel.explain(Bag().eval(), torch.tensor([[1, 5, 3, 9, 12, 7, 2, 15]]), method="integrated-gradients", target=0, steps=4)
    assert reading(e, "mask-fidelity").value == pytest.approx(1, abs=1e-5)
    assert e.evidence.verdict == "doubtful"
