"""A BatchNorm in eval mode multiplies and adds: its backward pass, where nothing but its input is live, is one product.

PyTorch's sums over all of the input for gradients of weights that nobody asked for, and keeps the input for it.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from .tree import is_float

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Scaled(torch.autograd.Function):
    """The value of batch_norm; gradients go by the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        k = (var + eps).rsqrt()
        ctx.scale = (k if weight is None else k * weight).reshape(-1, *[1] * (x.ndim - 2))
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.scale, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
        return dx * ctx.scale


def frugal(module: nn.Module) -> None:
    """Has a module of our own, if it is a BatchNorm, go back by its scale alone wherever that is all there is to it."""
    if type(module) in KINDS and "forward" not in vars(module):
        vars(module)["forward"] = functools.partial(_forward, module)


def is_frugal(module: nn.Module) -> bool:
    """Whether that was done, so that the module still is one as PyTorch has it."""
    return getattr(vars(module).get("forward"), "func", None) is _forward


def _forward(module: Any, x: Any) -> Any:
    if not _plain(module, x):
        return type(module).forward(module, x)
    module._check_input_dim(x)
    return _Scaled.apply(x, module.running_mean, module.running_var, module.weight, module.bias, module.eps)


def _plain(module: Any, x: Any) -> bool:
    """Whether a scale is all that gradients meet: fixed statistics and weights on the CPU, and nobody who looks at single operations."""
    if module.training or module.running_mean is None or not torch.is_grad_enabled() or not isinstance(x, Tensor) or not x.requires_grad:
        return False
    if x.device.type != "cpu" or not is_float(x) or torch._C._is_torch_function_mode_enabled() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    held = (module.running_mean, module.running_var, module.weight, module.bias)
    return all(t is None or (type(t) in (Tensor, nn.Parameter) and t.dtype == x.dtype and not t.requires_grad) for t in held) and type(x) is Tensor
