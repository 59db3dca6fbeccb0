"""Means and variances through a chain of layers: what a random coalition makes of each unit, taken as independent and normal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import NotApplicable

CONVOLUTIONS: dict[type[nn.Module], Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ALONE: tuple[type[nn.Module], ...] = (nn.ReLU, nn.Dropout, nn.Identity, nn.Flatten, *NORMS)
"""Layers that treat every element by itself."""
MIXING: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
"""Layers that are linear in all their elements."""
WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS)
KNOWN = (*ALONE, *MIXING, nn.MaxPool2d)


@dataclass(frozen=True)
class Moments:
    """(n, ...) means and variances."""

    mean: Tensor
    variance: Tensor


def through(layers: Sequence[nn.Module], m: Moments) -> Moments:
    """The moments behind those layers."""
    for layer in layers:
        m = _step(layer, m)
    return m


def _step(layer: nn.Module, m: Moments) -> Moments:
    if isinstance(layer, nn.ReLU):
        return rectified(m)
    if isinstance(layer, nn.MaxPool2d):
        return _pooled(layer, m)
    return Moments(apply(layer, m.mean), _squared(layer, m.variance))


def apply(layer: nn.Module, x: Tensor, bias: bool = True) -> Tensor:
    """The layer's own value in double precision; without its bias, its linear part."""
    own: Any = layer
    if isinstance(layer, WEIGHTED):
        return _weighted(own, x, own.weight.double(), own.bias.double() if bias and own.bias is not None else None)
    if isinstance(layer, NORMS):
        scale, shift = _affine(layer, x)
        return x * scale + (shift if bias else 0)
    return torch.as_tensor(own._call_impl(x))


def _weighted(layer: Any, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, w, bias)
    convolve = next(f for kind, f in CONVOLUTIONS.items() if isinstance(layer, kind))
    return torch.as_tensor(convolve(x, w, bias, layer.stride, layer.padding, layer.dilation, layer.groups))


def _affine(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = (layer.running_var.double() + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight.double())
    shift = (0 if layer.bias is None else layer.bias.double()) - layer.running_mean.double() * scale
    return scale.reshape(shape), shift.reshape(shape)


def _squared(layer: nn.Module, variance: Tensor) -> Tensor:
    """What a linear layer makes of variances: its weights squared."""
    own: Any = layer
    if isinstance(layer, WEIGHTED):
        return _weighted(own, variance, own.weight.double().square(), None)
    if isinstance(layer, NORMS):
        return variance * _affine(layer, variance)[0].square()
    out = apply(layer, variance)
    if isinstance(layer, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return out / (variance[0, 0].numel() / out[0, 0].numel() if isinstance(layer, nn.AdaptiveAvgPool2d) else math.prod(_two(own.kernel_size)))
    return out


def _two(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def rectified(m: Moments) -> Moments:
    """Of max(0, X), X normal."""
    sd = m.variance.clamp(min=0).sqrt()
    a = m.mean / sd.clamp(min=1e-12)
    below, at = torch.special.ndtr(a), torch.exp(-a.square() / 2) / math.sqrt(2 * math.pi)
    mean = torch.where(sd > 1e-12, m.mean * below + sd * at, m.mean.clamp(min=0))
    second = torch.where(sd > 1e-12, (m.mean.square() + m.variance) * below + m.mean * sd * at, mean.square())
    return Moments(mean, (second - mean.square()).clamp(min=0))


def _pooled(layer: Any, m: Moments) -> Moments:
    """The largest of each window, two at a time (Clark 1961)."""
    kernel, stride = _two(layer.kernel_size), _two(layer.stride or layer.kernel_size)

    def windows(t: Tensor) -> Tensor:
        return t.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).flatten(4)

    mean, variance = windows(m.mean), windows(m.variance)
    out = Moments(mean[..., 0], variance[..., 0])
    for i in range(1, mean.shape[-1]):
        gap = rectified(Moments(mean[..., i] - out.mean, variance[..., i] + out.variance))
        out = _larger(out, Moments(mean[..., i], variance[..., i]), gap.mean)
    return out


def _larger(a: Moments, b: Moments, gain: Tensor) -> Moments:
    """Of max(A, B) = A + max(0, B - A), whose second part has the mean `gain`."""
    sd = (a.variance + b.variance).clamp(min=0).sqrt()
    z = (a.mean - b.mean) / sd.clamp(min=1e-12)
    mean = a.mean + gain
    first, at = torch.special.ndtr(z), torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    second = (a.mean.square() + a.variance) * first + (b.mean.square() + b.variance) * (1 - first) + (a.mean + b.mean) * sd * at
    return Moments(mean, torch.where(sd > 1e-12, second - mean.square(), 0).clamp(min=0))


def fit_for(name: str, layer: nn.Module, model: str) -> None:
    """Refuses a layer through which moments are not known, by its name."""
    odd = isinstance(layer, nn.MaxPool2d) and (_two(layer.padding) != (0, 0) or _two(layer.dilation) != (1, 1) or layer.ceil_mode)
    odd |= isinstance(layer, nn.AvgPool2d) and (_two(layer.padding) != (0, 0) or layer.ceil_mode or bool(layer.divisor_override))
    odd |= isinstance(layer, tuple(CONVOLUTIONS)) and getattr(layer, "padding_mode", "zeros") != "zeros"
    odd |= isinstance(layer, NORMS) and (layer.training or layer.running_mean is None)
    odd |= isinstance(layer, nn.Dropout) and layer.training
    if odd or type(layer) not in KNOWN:
        raise NotApplicable(f"dasp needs a chain of linear layers, convolutions, ReLUs, BatchNorms in eval mode, plain pools and flattenings; {model} has {layer} ({name}). Use shapley.")
