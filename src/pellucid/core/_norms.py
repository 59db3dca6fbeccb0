"""A BatchNorm in eval mode multiplies and adds: its backward pass, where nothing but its input is live, is one product.

PyTorch's sums over all of the input for gradients of weights that nobody asked for, and keeps the input for it.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TENSORS = (Tensor, nn.Parameter)
FEW = 2**17
"""Numbers below which PyTorch's own backward pass costs less than a call of ours."""


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
    if module.training or type(x) is not Tensor or not x.requires_grad or x.numel() < FEW or _watched() or not x.is_cpu:
        return type(module).forward(module, x)
    held = {**module._parameters, **module._buffers}
    given = [held.get(n, x) for n in ("running_mean", "running_var", "weight", "bias")]  # what is not there comes from somewhere else, perhaps from x
    if given[0] is None or any(t is not None and (t.requires_grad or t.dtype is not x.dtype or type(t) not in TENSORS) for t in given):
        return type(module).forward(module, x)
    module._check_input_dim(x)
    return _Scaled.apply(x, *given, module.eps)


def _watched() -> bool:
    """Whether no gradient is due, or somebody looks at single operations."""
    return not torch.is_grad_enabled() or torch._C._is_torch_function_mode_enabled() or torch._C._functorch.peek_interpreter_stack() is not None
