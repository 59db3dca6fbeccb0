"""Operations that are other words for known ones: written out, and met one by one, with the values of what they are made of."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import NotApplicable


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int, *_: Any) -> Tensor:
    n = weight.ndim - 2
    if transposed:
        return getattr(F, f"conv_transpose{n}d")(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return getattr(F, f"conv{n}d")(x, weight, bias, stride, padding, dilation, groups)


def _native_group_norm(x: Tensor, weight: Any, bias: Any, n: int, c: int, size: int, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    var, mean = torch.var_mean(x.detach().reshape(n, groups, -1), -1, correction=0)
    return F.group_norm(x, groups, weight, bias, eps), mean, (var + eps).rsqrt()


def _native_layer_norm(x: Tensor, shape: Any, weight: Any, bias: Any, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    var, mean = torch.var_mean(x.detach(), tuple(range(-len(shape), 0)), correction=0, keepdim=True)
    return F.layer_norm(x, shape, weight, bias, eps), mean, (var + eps).rsqrt()


def _native_batch_norm(x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, momentum: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    none = mean.new_zeros(0)
    return F.batch_norm(x, mean, var, weight, bias, False, momentum, eps), none, none


def normed(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float) -> Tensor:
    """A BatchNorm of which not only the input depends on the point."""
    wide = (-1, *[1] * (x.ndim - 2))
    y = (x - mean.reshape(wide)) * (var.reshape(wide) + eps).rsqrt()
    y = y if weight is None else y * weight.reshape(wide)
    return y if bias is None else y + bias.reshape(wide)


def _addmv(x: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(x, beta, torch.mv(mat, vec), alpha)


def _addr(x: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(x, beta, torch.outer(vec1, vec2), alpha)


def _addbmm(x: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(x, beta, torch.bmm(batch1, batch2).sum(0), alpha)


def _plus(a: Tensor, beta: float, b: Tensor, alpha: float) -> Tensor:
    return beta * a + alpha * b if beta else alpha * b


def _power(x: Tensor, n: int) -> Tensor:
    if n < 1:
        raise NotApplicable(f"A rule needs matrix_power with n of 1 or more; got {n}.")
    return functools.reduce(operator.matmul, [x] * n)


def _logaddexp(x: Tensor, other: Tensor) -> Tensor:
    return torch.logsumexp(torch.stack(torch.broadcast_tensors(x, other)), 0)


def _reduced(losses: Tensor, reduction: int) -> Tensor:
    return losses if reduction == 0 else losses.mean() if reduction == 1 else losses.sum()


def _cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1, ignore_index: int = -100, label_smoothing: float = 0.0) -> Tensor:
    if target.is_floating_point() or label_smoothing:
        raise NotApplicable("A rule needs cross_entropy with classes as numbers and without label_smoothing. Write the target as -(p * log_softmax(outputs)).sum(1).")
    return torch.ops.aten.nll_loss_nd(x.log_softmax(int(x.ndim > 1)), target, weight, reduction, ignore_index)


def _with_logits(x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    losses = F.softplus(x) - x * target if pos_weight is None else pos_weight * target * F.softplus(-x) + (1 - target) * F.softplus(x)
    return _reduced(losses if weight is None else weight * losses, reduction)


def _norm(x: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:  # noqa: A002
    matrix = (dim is None and ord is not None and x.ndim == 2) or (isinstance(dim, (tuple, list)) and len(dim) == 2 and ord is not None)
    if matrix and ord != "fro":
        raise NotApplicable(f"A rule needs a vector norm, or the matrix norm 'fro'; got the matrix norm {ord!r}.")
    return torch.linalg.vector_norm(x, 2 if ord in (None, "fro") else ord, dim, keepdim)


SPELT: dict[str, Callable[..., Any]] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "native_layer_norm": _native_layer_norm,
    "native_group_norm": _native_group_norm,
    "_native_batch_norm_legit_no_training": _native_batch_norm,
    "addmv": _addmv,
    "addr": _addr,
    "addbmm": _addbmm,
    "chain_matmul": lambda tensors: functools.reduce(operator.matmul, tensors),
    "linalg_multi_dot": lambda tensors: functools.reduce(operator.matmul, tensors),
    "linalg_matrix_power": _power,
    "matrix_power": _power,
    "vecdot": lambda x, y, dim=-1: (x * y).sum(dim),
    "logaddexp": _logaddexp,
    "hypot": lambda x, other: (x * x + other * other).sqrt(),
    "xlogy": lambda x, other: x * (other.log() if isinstance(other, Tensor) else torch.as_tensor(other).log()),
    "var_mean": lambda x, *a, **k: (torch.var(x, *a, **k), _mean(x, *a, **k)),
    "std_mean": lambda x, *a, **k: (torch.std(x, *a, **k), _mean(x, *a, **k)),
    "linalg_norm": _norm,
    "linalg_matrix_norm": lambda A, ord="fro", dim=(-2, -1), keepdim=False, **_: _norm(A, ord, dim, keepdim),  # noqa: A006
    "pairwise_distance": lambda x1, x2, p=2.0, eps=1e-6, keepdim=False: torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim),
    "dist": lambda x, other, p=2: torch.linalg.vector_norm(x - other, p),
    "cross_entropy_loss": _cross_entropy,
    "binary_cross_entropy_with_logits": _with_logits,
    "mse_loss": lambda x, target, reduction=1: _reduced((x - target).square(), reduction),
    "l1_loss": lambda x, target, reduction=1: _reduced((x - target).abs(), reduction),
}
"""How each of these, where it is no Python function, is written with other operations."""


COMPOSED: dict[str, Callable[..., Any]] = {
    "pow": lambda a, b: torch.Tensor.__rpow__(b, a) if not (isinstance(a, Tensor) and a.requires_grad) else (b * a.log()).exp(),
    "rpow": lambda a, b: b**a,
    "rdiv": lambda a, b: b * a.reciprocal(),
    "clamp": lambda a, min=None, max=None: _most(_least(a, min), max),  # noqa: A006
    "clamp_min": lambda a, min: _least(a, min),  # noqa: A006
    "clamp_max": lambda a, max: _most(a, max),  # noqa: A006
    "prelu": lambda a, weight: a.relu() - weight.reshape(-1, *[1] * (a.ndim - 2)) * (-a).relu(),
}
"""How elementwise functions are written whose parameters depend on the point too."""


def _least(a: Tensor, low: Any) -> Tensor:
    return a if low is None else torch.maximum(a, torch.as_tensor(low, dtype=a.dtype, device=a.device))


def _most(a: Tensor, high: Any) -> Tensor:
    return a if high is None else torch.minimum(a, torch.as_tensor(high, dtype=a.dtype, device=a.device))


def _mean(x: Tensor, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Tensor:
    keep = next((a for a in _[1:] if isinstance(a, bool)), keepdim)
    return x.mean() if dim is None or isinstance(dim, bool) else x.mean(dim, keepdim=keep)
