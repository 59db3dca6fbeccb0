"""Random numbers of the caller's own generator, wherever that generator lives."""

import itertools

import torch
from torch import Tensor, nn


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers with the device and dtype of `like`."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) with the device and dtype of `like`."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def integers(high: int, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """n whole numbers below `high`."""
    return torch.randint(high, (n,), generator=generator, device=generator.device).to(like.device)


def shuffled(n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """0 .. n - 1 in random order."""
    return torch.randperm(n, generator=generator, device=generator.device).to(like.device)


def drawn(layer: nn.Module, generator: torch.Generator) -> nn.Module:
    """The layer, made by `skip_init`, with weights as torch would draw them: uniform, bounded by one over the root of their number."""
    fan = next(p for n, p in layer.named_parameters() if n == "weight")[0].numel()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_((2 * uniform(tuple(p.shape), p, generator) - 1) / fan**0.5)
    return layer


def dense(sizes: tuple[int, ...], like: Tensor, generator: torch.Generator) -> nn.Sequential:
    """A fully connected ReLU network of these widths, with the device and dtype of `like`."""
    layers: list[nn.Module] = []
    for wide, out in itertools.pairwise(sizes):
        layers += [drawn(nn.utils.skip_init(nn.Linear, wide, out, device=like.device, dtype=like.dtype), generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
