"""Training with explanations: closed forms, slow twins, gradients against finite differences, and small proofs that each one works."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid as pel
from house.source import ROOT
from house.test_docs import FENCE
from models import made, normal
from pellucid import training
from pellucid.core.errors import UsageError
from pellucid.training.dual_net import favourite_mask, masked_losses

ROWS = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def linear(classes: int = 3, wide: int = 5) -> nn.Linear:
    return made(lambda: nn.Linear(wide, classes))


def fitted(model: nn.Module, loss: Callable[[int], Tensor], steps: int, lr: float = 0.01) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()


# Expected gradients.


def test_expected_gradients_of_a_linear_model() -> None:
    """w (x - the mean reference), for each row's own class, exactly where every reference is drawn once."""
    model, x, references = linear(), normal(ROWS, 5), normal(7, 5, seed=2)
    y = torch.tensor([2, 0, 1, 2])
    phi = training.expected_gradients(model, x, references, y, k=7, generator=seeded())
    torch.testing.assert_close(phi, model.weight[y] * (x - references.mean(0)), rtol=1e-12, atol=1e-12)


def test_expected_gradients_of_a_quadratic_model() -> None:
    """f = sum of z^2: the mean over t and x' of 2 (x' + t (x - x')) (x - x') is x^2 - E x'^2, and one call is unbiased."""
    x, references = normal(1, 3), normal(6, 3, seed=2)
    calls = torch.stack([training.expected_gradients(lambda z: z.square().sum(1), x, references, pel.Output(), k=2, generator=g) for g in map(seeded, range(400))])
    expected = x.square() - references.square().mean(0)
    off = (calls.mean(0) - expected) / (calls.std(0) / math.sqrt(len(calls)))
    assert off.abs().max() < 3.5
    assert calls.std(0).min() > 0.05


def test_many_draws_agree_with_integrated_gradients_over_the_references() -> None:
    model, x, references = made(smooth), normal(2, 5), normal(3, 5, seed=2)
    t = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    way = x[:, None, None] - references[:, None]
    points = (references[:, None] + t[:, None] * way).requires_grad_()
    grads = torch.autograd.grad(model(points)[..., 1].sum(), points)[0]
    expected = (grads * way).mean((1, 2))
    calls = torch.stack([training.expected_gradients(model, x, references, 1, k=3, generator=g) for g in map(seeded, range(300))]).detach()
    off = (calls.mean(0) - expected) / (calls.std(0) / math.sqrt(len(calls)))
    assert off.abs().max() < 3.5
    torch.testing.assert_close(expected.sum(1), (model(x) - model(references).mean(0))[:, 1].detach(), rtol=0, atol=1e-4)


def test_spread_draws_are_less_noisy_than_independent_ones() -> None:
    """Cells of t and different references for a row, against the mean of single draws."""
    model, x, references = made(smooth), normal(1, 5), normal(4, 5, seed=2)
    spread = torch.stack([training.expected_gradients(model, x, references, 0, k=4, generator=g) for g in map(seeded, range(200))])
    singles = torch.stack([training.expected_gradients(model, x.expand(4, -1), references[torch.randint(4, (1,), generator=g)], 0, generator=g).mean(0) for g in map(seeded, range(200))])
    assert spread.std(0).mean() < 0.5 * singles.std(0).mean()


@pytest.mark.parametrize("target", [None, 1, pel.Contrast(0, 2), lambda out: out.logsumexp(1)], ids=["own", "class", "contrast", "callable"])
def test_targets_are_those_of_every_question(target: object) -> None:
    model, x, references = made(smooth), normal(ROWS, 5), normal(3, 5, seed=2)
    one = training.expected_gradients(model, x, references, target, k=3, generator=seeded())
    twin = model(x).argmax(1) if target is None else target
    assert torch.equal(one, training.expected_gradients(model, x, references, twin, k=3, generator=seeded()))
    assert one.shape == x.shape
    assert one.requires_grad


def test_leaves_no_trace_and_repeats_itself() -> None:
    model, x, references = made(smooth), normal(ROWS, 5), normal(3, 5, seed=2)
    before, copy = torch.get_rng_state(), x.clone()
    calls = [training.expected_gradients(model, x, references, 1, k=2, generator=seeded(s)) for s in (0, 0, 1)]
    with torch.no_grad():
        plain = training.expected_gradients(model, x, references, 1, k=2, generator=seeded())
    assert torch.equal(calls[0], calls[1])
    assert not torch.equal(calls[0], calls[2])
    assert torch.equal(plain, calls[0])
    assert not plain.requires_grad
    assert not x.requires_grad
    assert torch.equal(x, copy)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_expected_gradients_refuses() -> None:
    model, x = linear(), normal(ROWS, 5)
    with pytest.raises(UsageError, match="at least k references"):
        training.expected_gradients(model, x, x, 0, k=5, generator=seeded())
    with pytest.raises(UsageError, match="shaped like a row"):
        training.expected_gradients(model, x, normal(3, 4), 0, generator=seeded())
    with pytest.raises(UsageError, match="one a row"):
        training.expected_gradients(model, x, x, torch.tensor([0, 1]), generator=seeded())
    with pytest.raises(UsageError, match="read the model's output"):
        training.expected_gradients(model, x, x, pel.Neuron("0", 1), generator=seeded())


# Penalties on attributions.


def test_total_variation_is_the_sum_over_neighbours() -> None:
    phi = normal(2, 3, 4, 5)
    twin = 0.0
    for b, c, i, j in np.ndindex(2, 3, 4, 5):
        twin += abs(phi[b, c, i, j] - phi[b, c, i + 1, j]) if i < 3 else 0
        twin += abs(phi[b, c, i, j] - phi[b, c, i, j + 1]) if j < 4 else 0
    torch.testing.assert_close(training.total_variation(phi), torch.as_tensor(twin / 2))
    assert training.total_variation(torch.ones(2, 3, 4, 5)) == 0
    with pytest.raises(UsageError, match="pictures"):
        training.total_variation(normal(2, 3))


def test_gini_is_the_double_sum() -> None:
    phi = normal(6, 7)
    g = phi.abs().mean(0)
    torch.testing.assert_close(training.gini_sparsity(phi), -(g[:, None] - g).abs().sum() / (7 * g.sum()))
    torch.testing.assert_close(training.gini_sparsity(5 * phi), training.gini_sparsity(phi))
    torch.testing.assert_close(training.gini_sparsity(torch.eye(7)[:1]), torch.tensor(2 / 7 - 2))
    assert training.gini_sparsity(torch.ones(3, 7)).abs() < 1e-6
    assert training.gini_sparsity(torch.zeros(3, 7)) == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_graph_smoothness_is_the_sum_over_edges(sparse: bool) -> None:
    phi, weights = normal(3, 2, 2), normal(4, 4, seed=2).abs()
    g = phi.flatten(1).abs().mean(0)
    twin = sum(weights[i, j] * (g[i] - g[j]) ** 2 for i in range(4) for j in range(4)) / 2
    torch.testing.assert_close(training.graph_smoothness(phi, weights.to_sparse() if sparse else weights), twin)
    assert twin > 0.01
    with pytest.raises(UsageError, match="every pair of the 4 features"):
        training.graph_smoothness(phi, normal(5, 5))


# ExpO.


def neighbours(x: Tensor, samples: int, scale: float) -> Tensor:
    """What the first draw of the generator gives."""
    return x[:, None] + scale * torch.randn(len(x), samples, *x.shape[1:], generator=seeded(), dtype=x.dtype)


def test_fidelity_is_what_least_squares_leaves() -> None:
    model, x = made(smooth), normal(ROWS, 5)
    left = []
    for z in neighbours(x, 20, 0.7).numpy():
        design, out = np.c_[z, np.ones(20)], model(torch.from_numpy(z)).detach().numpy()
        left.append(out - design @ np.linalg.lstsq(design, out, rcond=None)[0])
    ours = training.expo_fidelity(model, x, scale=0.7, samples=20, generator=seeded())
    assert ours.item() == pytest.approx(np.square(left).mean(), rel=1e-9)
    assert ours > 1e-4


def test_fidelity_of_known_functions() -> None:
    """None for a linear model; of f = z^2 a line leaves the variance of the squared noise, 2 scale^4."""
    model, x = linear(), normal(ROWS, 5)
    assert training.expo_fidelity(model, x, generator=seeded()) < 1e-20
    assert training.expo_1d_fidelity(model, x, generator=seeded()) < 1e-20
    square = lambda z: z.square().sum(1)  # noqa: E731
    for penalty in (training.expo_fidelity, training.expo_1d_fidelity):
        found = penalty(square, normal(400, 1), scale=0.5, samples=200, generator=seeded())
        assert found.item() == pytest.approx(2 * 0.5**4, rel=0.05)


def test_one_dimensional_fidelity_sees_one_feature_at_a_time() -> None:
    """f = a b is linear in either: nothing is left; fidelity in both at once sees the product, of variance scale^4."""
    product = lambda z: z[:, 0] * z[:, 1]  # noqa: E731
    x = normal(400, 2)
    assert training.expo_1d_fidelity(product, x, scale=0.5, generator=seeded()) < 1e-20
    assert training.expo_fidelity(product, x, scale=0.5, samples=200, generator=seeded()).item() == pytest.approx(0.5**4, rel=0.05)


def test_one_scale_a_feature() -> None:
    square = lambda z: z.square().sum((1, 2))  # noqa: E731
    x, scale = normal(300, 1, 2), torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    found = training.expo_1d_fidelity(square, x, scale=scale, samples=100, generator=seeded())
    assert found.item() == pytest.approx(0.5**4, rel=0.2)  # half of the rows move the feature that counts


def test_stability_of_a_linear_model() -> None:
    """scale^2 |w|^2, the mean over the outputs; and the plain loop over the neighbours."""
    model, x = linear(), normal(300, 5)
    expected = 0.3**2 * model.weight.square().sum(1).mean()
    assert training.expo_stability(model, x, scale=0.3, samples=20, generator=seeded()).item() == pytest.approx(expected.item(), rel=0.05)
    bent, few = made(smooth), normal(ROWS, 5)
    twin = torch.stack([(bent(z) - bent(x[None])).square() for z, x in zip(neighbours(few, 6, 0.3), few, strict=True)]).mean()
    torch.testing.assert_close(training.expo_stability(bent, few, scale=0.3, samples=6, generator=seeded()), twin)


def test_half_precision_models_are_fitted_in_single() -> None:
    model, x = made(smooth), normal(ROWS, 5)
    half = made(smooth, dtype=torch.bfloat16)
    for penalty in (training.expo_fidelity, training.expo_1d_fidelity, training.expo_stability):
        low, high = (penalty(m, z, scale=2.0, samples=20, generator=seeded()) for m, z in ((half, x.bfloat16()), (model, x)))
        assert low.item() == pytest.approx(high.item(), rel=0.5)
        assert low.isfinite()


def test_expo_refuses_what_always_fits() -> None:
    model, x = linear(), normal(ROWS, 5)
    with pytest.raises(UsageError, match="7 or more, or use expo_1d_fidelity"):
        training.expo_fidelity(model, x, samples=6, generator=seeded())
    with pytest.raises(UsageError, match="a line fits any two"):
        training.expo_1d_fidelity(model, x, samples=2, generator=seeded())
    with pytest.raises(UsageError, match="1 neighbour"):
        training.expo_stability(model, x, samples=0, generator=seeded())


# Every penalty trains the model: its gradient in the weights is that of finite differences.


def _attributions(model: Callable[[Tensor], Tensor]) -> Tensor:
    return training.expected_gradients(model, normal(3, 5), normal(4, 5, seed=2), torch.tensor([0, 2, 1]), k=2, generator=seeded())


def _as_pictures(phi: Tensor) -> Tensor:
    return phi.reshape(-1, 1, 5, 1).expand(-1, 1, 5, 2) * torch.tensor([1.0, 2.0], dtype=phi.dtype)


PENALTIES: dict[str, Callable[[Callable[[Tensor], Tensor]], Tensor]] = {
    "total variation": lambda m: training.total_variation(_as_pictures(_attributions(m))),
    "gini": lambda m: training.gini_sparsity(_attributions(m)),
    "graph": lambda m: training.graph_smoothness(_attributions(m), normal(5, 5, seed=3).abs()),
    "deep prior": lambda m: training.deep_attribution_prior(_attributions(m), lambda about: about.sum(1), normal(5, 2, seed=3).abs()),
    "fidelity": lambda m: training.expo_fidelity(m, normal(3, 5), scale=0.5, generator=seeded()),
    "1d fidelity": lambda m: training.expo_1d_fidelity(m, normal(3, 5), scale=0.5, generator=seeded()),
    "stability": lambda m: training.expo_stability(m, normal(3, 5), scale=0.5, generator=seeded()),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    net = made(smooth)
    names, values = zip(*net.named_parameters(), strict=True)

    def penalty(*weights: Tensor) -> Tensor:
        return PENALTIES[name](lambda z: torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (z,)))

    assert torch.autograd.gradcheck(penalty, values, eps=1e-6, atol=1e-6, rtol=1e-4)
    grads = torch.autograd.grad(penalty(*values), values, allow_unused=True)
    assert sum(g.abs().sum() for g in grads if g is not None) > 1e-4


# Deep attribution prior.


def test_deep_prior_is_the_mean_distance() -> None:
    phi, about = normal(3, 2, 2), normal(4, 3, seed=2)
    prior = made(lambda: nn.Linear(3, 1))
    twin = sum(abs(abs(phi[b].flatten()[i]) - prior(about[i])[0]) for b in range(3) for i in range(4)) / 12
    torch.testing.assert_close(training.deep_attribution_prior(phi, prior, about), twin)
    with pytest.raises(UsageError, match="each of the 4 features"):
        training.deep_attribution_prior(phi, prior, about[:3])


# LFI-CAM.


def attending(seed: int = 0, channels: int = 8) -> training.LFICAM:
    conv = lambda wide: (nn.Conv2d(wide, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())  # noqa: E731
    trunk = lambda: nn.Sequential(*conv(1), *conv(channels), nn.MaxPool2d(2), *conv(channels))  # noqa: E731
    head = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))  # noqa: E731
    parts = made(trunk, seed, torch.float32), made(head, seed, torch.float32)
    return training.LFICAM(parts[0], channels, parts[1], generator=seeded(seed)).eval()


def test_map_is_the_weighted_sum_of_channels() -> None:
    net, x = attending().double(), normal(ROWS, 1, 8, 8)
    logits, maps, importance = net(x)
    h = net.trunk(x)
    for b in range(ROWS):
        scaled = (h[b] - h[b].min()) / (h[b].max() - h[b].min())
        torch.testing.assert_close(importance[b], net.importance((scaled * F.avg_pool2d(x[b], 2))[None])[0])
        total = sum(importance[b, c] * scaled[c] for c in range(8))
        torch.testing.assert_close(maps[b, 0], (total - total.min()) / (total.max() - total.min()))
    torch.testing.assert_close(logits, net.head(h + maps * h))
    torch.testing.assert_close(importance.sum(1), torch.ones(ROWS, dtype=torch.float64))
    assert maps.shape == (ROWS, 1, 4, 4)
    assert importance.std() > 1e-3


def test_no_row_depends_on_its_neighbours() -> None:
    net, x = attending().double(), normal(ROWS, 1, 8, 8)
    for together, alone in zip(net(x), net(torch.cat([x[:1], 100 * x[1:]])), strict=True):
        torch.testing.assert_close(together[0], alone[0])


def test_the_loss_teaches_the_importances() -> None:
    """The map carries its graph: without it the importance network would stay as it was drawn."""
    net, x = attending().train(), normal(ROWS, 1, 8, 8, dtype=torch.float32)
    F.cross_entropy(net(x).logits, torch.tensor([0, 1, 1, 0])).backward()
    assert all(p.grad.abs().sum() > 1e-9 for p in net.parameters())


def test_attention_of_nothing_is_nothing() -> None:
    """A row on which every channel is constant has no map, and no division by zero."""
    net = attending()
    with torch.no_grad():
        net.trunk[-3].weight.zero_()
        out = net(normal(2, 1, 8, 8, dtype=torch.float32))
    assert (out.map == 0).all()
    assert all(t.isfinite().all() for t in out)
    with pytest.raises(UsageError, match="needs pictures"):
        training.LFICAM(nn.Flatten(), 8, nn.Identity(), generator=seeded())(normal(2, 1, 8, 8, dtype=torch.float32))


def test_every_method_explains_it_too() -> None:
    net, x = attending().double(), normal(2, 1, 8, 8)
    e = pel.explain(pel.wrap(net), x, target=1, method="saliency", evidence="none")
    z = x.clone().requires_grad_()
    torch.testing.assert_close(e.values, torch.autograd.grad(net(z).logits[:, 1].sum(), z)[0].abs())


# Dual net.


def columns(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four classes by the products of signs of columns 1, 4 and 7 of ten: each alone says nothing.

    The 3-dimensional XOR of Chen, Stern, Wainwright, Jordan 2017, arXiv:1707.01164, which Wojtas and Chen use.
    """
    g = seeded(seed)
    corners = torch.tensor([[1.0, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    y = torch.randint(4, (n,), generator=g)
    x = torch.randn(n, 10, generator=g)
    x[:, [1, 4, 7]] = x[:, [1, 4, 7]] * 0.5**0.5 + corners[y] * (2 * torch.randint(2, (n, 1), generator=g) - 1)
    return x, y


def class_loss(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out, y, reduction="none")


def test_ranking_finds_the_three_features_of_xor() -> None:
    x, y = columns(1024, 1)
    before = torch.get_rng_state()
    found = training.rank_features(x, y, 3, outputs=4, loss=class_loss, generator=seeded(), steps=250)
    assert set(found.features.tolist()) == {1, 4, 7}
    assert found.mask.nonzero()[:, 0].tolist() == [1, 4, 7]
    assert found.importance[found.features].tolist() == sorted(found.importance[found.features].tolist(), reverse=True)
    assert abs(found.importance.mean()) < 1e-6
    fresh, labels = columns(500, 2)
    said = found.operator(torch.cat([fresh * found.mask, found.mask.expand(500, -1)], 1)).argmax(1)
    assert (said == labels).float().mean() > 0.6  # chance is 0.25; the best possible rule with these three, below 0.8
    assert torch.equal(torch.get_rng_state(), before)


def test_ranking_orders_by_what_features_explain() -> None:
    """Of 3 a + 2 sign(b) + c they explain 9, 4 and 1 of the variance."""
    x = torch.randn(600, 8, generator=seeded(3))
    y = (3 * x[:, 5] + 2 * x[:, 2].sign() + x[:, 6])[:, None]
    calls = [training.rank_features(x, y, 3, outputs=1, loss=lambda out, y: (out - y).square().mean(1), generator=seeded(5), steps=200) for _ in range(2)]
    assert calls[0].features.tolist() == [5, 2, 6]
    assert torch.equal(calls[0].importance, calls[1].importance)


def test_masked_losses_are_those_of_every_mask_alone() -> None:
    operator, x, y = made(lambda: nn.Linear(10, 4)), normal(6, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    masks = torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.float64)
    found = masked_losses(operator, x, y, masks, class_loss)
    for m, one in zip(masks, found, strict=True):
        torch.testing.assert_close(one, F.cross_entropy(operator(torch.cat([x * m, m.expand(6, -1)], 1)), y))


def test_favourite_is_the_best_subset_of_a_known_selector() -> None:
    """A selector that is a sum has its best subset at the smallest terms; a pair that helps only together is reached by a swap."""
    cost = torch.tensor([3.0, -1, 2, -5, 0, -2])
    mask = favourite_mask(lambda m: m @ cost[:, None], 3, torch.zeros(1, 6))
    assert mask.nonzero()[:, 0].tolist() == [1, 3, 5]
    pair = lambda m: m @ torch.tensor([-1.0, -0.9, -0.8, 0.5, 0, 0])[:, None] - 2 * m[:, :1] * m[:, 3:4]  # noqa: E731
    assert favourite_mask(pair, 2, torch.zeros(1, 6), swaps=0).nonzero()[:, 0].tolist() == [0, 1]
    assert favourite_mask(pair, 2, torch.zeros(1, 6)).nonzero()[:, 0].tolist() == [0, 3]


def test_ranking_refuses() -> None:
    x, y = columns(50, 0)
    with pytest.raises(UsageError, match="a size below their number"):
        training.rank_features(x, y, 10, outputs=4, loss=class_loss, generator=seeded())
    with pytest.raises(UsageError, match="reduction='none'"):
        training.rank_features(x, y, 3, outputs=4, loss=F.cross_entropy, generator=seeded())


# They work: each lowers what it is for, at no loss of accuracy that anybody would see.


def test_total_variation_prior_makes_digits_smooth() -> None:
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    seen, unseen = slice(0, 1200), slice(1200, None)

    def outcome(weight: float) -> tuple[float, float]:
        g, net = seeded(), made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 10)), 0, torch.float32)

        def loss(_: int) -> Tensor:
            i = torch.randint(1200, (64,), generator=g)
            phi = training.expected_gradients(net, x[i], x[seen], y[i], generator=g)
            return F.cross_entropy(net(x[i]), y[i]) + weight * training.total_variation(phi)

        fitted(net, loss, 150, lr=5e-3)
        with torch.no_grad():
            phi = training.expected_gradients(net, x[unseen], x[seen], y[unseen], k=20, generator=g)
            return (net(x[unseen]).argmax(1) == y[unseen]).float().mean().item(), training.total_variation(phi).item()

    plain, smoothed = outcome(0.0), outcome(0.02)
    assert plain[0] > 0.85
    assert smoothed[0] > plain[0] - 0.02
    assert smoothed[1] < 0.65 * plain[1]


def test_fidelity_makes_a_model_linear_around_each_row() -> None:
    """A hundred noisy rows that a network overfits: the penalty makes it a quarter as bent, and better on new rows."""
    g = seeded()
    truth = lambda z: torch.tanh(2 * z[:, 0]) + z[:, 1] * z[:, 2] / 2 + z[:, 3] / 2  # noqa: E731
    x, new = torch.randn(100, 4, generator=g), torch.randn(1000, 4, generator=g)
    y = truth(x) + 0.5 * torch.randn(100, generator=g)

    def outcome(weight: float) -> tuple[float, float]:
        g, net = seeded(), made(lambda: nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)), 0, torch.float32)

        def loss(_: int) -> Tensor:
            i = torch.randint(100, (32,), generator=g)
            return F.mse_loss(net(x[i])[:, 0], y[i]) + weight * training.expo_fidelity(net, x[i], scale=0.5, generator=g)

        fitted(net, loss, 200)
        with torch.no_grad():
            return F.mse_loss(net(new)[:, 0], truth(new)).item(), training.expo_fidelity(net, new, scale=0.5, samples=40, generator=g).item()

    plain, straight = outcome(0.0), outcome(10.0)
    assert straight[1] < plain[1] / 3
    assert straight[0] < plain[0]


def test_deep_prior_learns_what_marks_important_features() -> None:
    """8 of 60 columns count, and a noisy meta-feature marks them: 80 rows become enough to do better on new ones."""
    g = seeded()
    counts = torch.zeros(60).index_fill(0, torch.randperm(60, generator=g)[:8], 1)
    about = torch.stack([counts + 0.3 * torch.randn(60, generator=g), torch.randn(60, generator=g)], 1)
    x = torch.randn(1080, 60, generator=g)
    y = torch.tanh(x) @ counts + 0.2 * torch.randn(1080, generator=g)

    def outcome(weight: float) -> tuple[float, nn.Module]:
        g = seeded()
        both = nn.ModuleList(made(lambda n=n: nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 1)), 0, torch.float32) for n in (60, 2))

        def loss(_: int) -> Tensor:
            i = torch.randint(80, (32,), generator=g)
            phi = training.expected_gradients(both[0], x[i], x[:80], pel.Output(), generator=g)
            return F.mse_loss(both[0](x[i])[:, 0], y[i]) + weight * training.deep_attribution_prior(phi, both[1], about)

        fitted(both, loss, 200, lr=5e-3)
        with torch.no_grad():
            return F.mse_loss(both[0](x[80:])[:, 0], y[80:]).item(), both[1]

    (plain, _), (guided, prior) = outcome(0.0), outcome(1.0)
    assert guided < 0.9 * plain
    never_seen = prior(torch.tensor([[1.0, 0], [0, 0]]))[:, 0]
    assert never_seen[0] > 3 * never_seen[1].clamp(min=0)


def test_lfi_cam_looks_at_the_shape() -> None:
    """A cross or a ring of 5 x 5 somewhere in noise of 12 x 12: of a map that knows nothing, 17% would lie on it."""
    g = seeded()
    shapes = torch.zeros(2, 5, 5)
    shapes[0, 2], shapes[0, :, 2], shapes[1, [0, 4]], shapes[1, :, [0, 4]] = 1, 1, 1, 1
    y, corner = torch.randint(2, (500,), generator=g), torch.randint(8, (500, 2), generator=g)
    x, inside = 0.3 * torch.rand(500, 1, 12, 12, generator=g), torch.zeros(500, 12, 12)
    for n, (i, j) in enumerate(corner.tolist()):
        x[n, 0, i : i + 5, j : j + 5] += shapes[y[n]]
        inside[n, i : i + 5, j : j + 5] = 1
    net = attending()

    def outcome() -> tuple[float, float]:
        with torch.no_grad():
            said = net.eval()(x[400:])
        maps = F.interpolate(said.map, size=(12, 12), mode="bilinear")[:, 0]
        return (said.logits.argmax(1) == y[400:]).float().mean().item(), ((maps * inside[400:]).sum() / maps.sum()).item()

    def loss(_: int) -> Tensor:
        i = torch.randint(400, (32,), generator=g)
        return F.cross_entropy(net.train()(x[i]).logits, y[i])

    untrained = outcome()
    fitted(net, loss, 120)
    trained = outcome()
    assert trained[0] > 0.95
    assert trained[1] > max(0.3, untrained[1] + 0.05)


@pytest.mark.slow
def test_how_to_page_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word, and the numbers within a twentieth: another processor may round its way to a neighbouring network."""
    page = (ROOT / "docs" / "how-to" / "train-with-explanations.md").read_text(encoding="utf-8")
    shown = "".join(re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    names: dict[str, object] = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        for block in FENCE.findall(page):
            exec(block, names)
    printed = capsys.readouterr().out
    number = re.compile(r"\d+(?:\.\d+)?")
    lines = len(shown.splitlines())
    assert number.sub("", shown).splitlines() == number.sub("", printed).splitlines()[:lines]
    assert [float(n) for n in number.findall(printed)][: len(number.findall(shown))] == pytest.approx([float(n) for n in number.findall(shown)], rel=0.05)
    assert printed.splitlines()[lines:] in (["doubtful"], ["contradicted"])
