"""Training with explanations: closed forms, slow twins, gradients against finite differences, and small proofs that each one works."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid as pel
from models import made, normal
from pellucid import training
from pellucid.core.errors import UsageError

PICTURES, ROWS = 5, 4


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
