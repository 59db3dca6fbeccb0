"""Dual-net feature ranking: one network learns the task from few features, another learns which few are worth it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ._draws import dense, integers, uniform


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best subset found, its features from most to least important, and the two networks that say so."""

    features: Tensor
    """(size,) positions of the chosen features, the most important first."""
    importance: Tensor
    """(P,) how fast the expected loss falls as each feature is let in, at the chosen subset, less the mean of all."""
    mask: Tensor
    """(P,) ones at the chosen features."""
    operator: nn.Module
    """Answers the task from (rows, 2 P): the masked features, then the mask."""
    selector: nn.Module
    """Expects the operator's loss from (masks, P)."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, y) to one loss a row."""


def rank_features(
    x: Tensor,
    y: Tensor,
    size: int,
    *,
    outputs: int,
    loss: Loss,
    generator: torch.Generator,
    steps: int = 600,
    explore: float = 0.5,
    rows: int = 32,
    masks: int = 32,
    hidden: tuple[int, ...] = (64,),
    lr: float = 0.01,
) -> Ranking:
    """Which `size` features does a network learn most from, and in which order?

    How: the operator learns the task on x times mask, the selector learns to expect the operator's loss of a mask. While
    exploring, masks are random; then half are random and half lie about the selector's favourite, found by following its
    gradient and by swaps that it expects to help, and the mask that did best last. Importance is minus the selector's
    gradient at the favourite; its mean is taken off, for masks of one size teach nothing of letting all features in.
    Units: loss a feature; they rank, and sum to nothing in particular.
    Misleads when: too short: read the operator's loss. Features that stand in for one another share one place.
    Source: Wojtas, Chen 2020, arXiv:2010.08973.
    """
    P = x.shape[1]
    if x.ndim != 2 or not 0 < size < P or masks < 8:
        raise UsageError(f"Ranking features needs columns, (rows, features), a size below their number and 8 masks or more; got {tuple(x.shape)}, size {size}, {masks} masks.")
    operator, selector = dense((2 * P, *hidden, outputs), x, generator), dense((P, *hidden, 1), x, generator)
    optimizers = [torch.optim.Adam(n.parameters(), lr=lr) for n in (operator, selector)]
    favourite, best = _random_masks(2, size, x, generator)
    for step in range(steps):
        tried = _random_masks(masks, size, x, generator)
        if step >= explore * steps:
            favourite = favourite_mask(selector, size, x)
            tried = _about(tried, favourite, best, generator)
        here = integers(len(x), rows, x, generator)
        losses = masked_losses(operator, x[here], y[here], tried, loss)
        _descend(optimizers[0], losses.mean())
        _descend(optimizers[1], (selector(tried)[:, 0] - losses.detach()).square().mean())
        best = tried[losses.argmin()]
    mask = favourite_mask(selector, size, x)
    slope = _slope(selector, mask)
    importance = slope.mean() - slope
    return Ranking(importance.masked_fill(mask == 0, -torch.inf).topk(size).indices, importance, mask, operator, selector)


def masked_losses(operator: nn.Module, x: Tensor, y: Tensor, masks: Tensor, loss: Loss) -> Tensor:
    """(K,) mean loss of the operator on the rows under each of the (K, P) masks."""
    K, B = len(masks), len(x)
    m = masks.repeat_interleave(B, 0)
    seen = torch.cat([x.repeat(K, 1) * m, m], 1)
    each = loss(operator(seen), y.repeat(K, *(1,) * (y.ndim - 1)))
    if each.shape != (K * B,):
        raise UsageError(f"Ranking features needs a loss that gives one number a row, shape ({K * B},); got {tuple(each.shape)}. Leave the mean over the rows out: reduction='none'.")
    return each.reshape(K, B).mean(1)


def favourite_mask(selector: nn.Module, size: int, like: Tensor, swaps: int = 10) -> Tensor:
    """(P,) the mask of which the selector expects least loss, as far as its gradient and single swaps lead."""
    P = like.shape[1]
    mask = _top(-_slope(selector, like.new_full((P,), 0.5)), size)
    for _ in range(swaps):
        worth = -_slope(selector, mask)
        near = _swaps(mask, worth)
        with torch.no_grad():
            expected = selector(torch.cat([mask[None], near]))[:, 0]
        if expected.argmin() == 0:
            break
        mask = near[expected.argmin() - 1]
    return mask


def _swaps(mask: Tensor, worth: Tensor) -> Tensor:
    """The masks where one chosen feature gives way to the one outside that promises most."""
    inside = mask.nonzero()[:, 0]
    near = mask.repeat(len(inside), 1)
    near[torch.arange(len(inside), device=mask.device), inside] = 0
    near[:, worth.masked_fill(mask > 0, -torch.inf).argmax()] = 1
    return near


def _about(tried: Tensor, favourite: Tensor, best: Tensor, generator: torch.Generator) -> Tensor:
    """Random masks of which the second half become the favourite, the last best, and the favourite after two random swaps."""
    half = len(tried) // 2
    near = favourite.repeat(len(tried) - half - 2, 1)
    for _ in range(2):
        near = _swapped(near, generator)
    return torch.cat([tried[:half], favourite[None], best[None], near])


def _swapped(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Every mask with one random feature out and another in."""
    noise = uniform(tuple(masks.shape), masks, generator)
    out, into = (noise + masks).argmax(1, keepdim=True), (noise - masks).argmax(1, keepdim=True)
    return masks.scatter(1, out, 0.0).scatter(1, into, 1.0)


def _random_masks(n: int, size: int, x: Tensor, generator: torch.Generator) -> Tensor:
    return _top(uniform((n, x.shape[1]), x, generator), size)


def _top(score: Tensor, size: int) -> Tensor:
    """Ones at the `size` highest scores of every row."""
    return torch.zeros_like(score).scatter(-1, score.topk(size).indices, 1.0)


def _slope(selector: nn.Module, mask: Tensor) -> Tensor:
    """(P,) gradient of the expected loss in the mask."""
    with torch.enable_grad():
        m = mask.clone().requires_grad_()
        return torch.autograd.grad(selector(m[None]).sum(), m)[0]


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
