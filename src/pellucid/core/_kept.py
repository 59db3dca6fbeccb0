"""The one primitive of all rules: an operation keeps its value, and what flows back through it is replaced."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Back = Callable[[Tensor], Sequence[Tensor | None]]


class _Kept(torch.autograd.Function):
    """A value whose gradient is `back`. It creates its output, so that an in-place write on it is allowed."""

    @staticmethod
    def forward(ctx: Any, value: Callable[[], Tensor], back: Back, *xs: Tensor) -> Tensor:
        ctx.back = back
        ctx.set_materialize_grads(False)
        return value()

    @staticmethod
    @once_differentiable  # a rule is no function whose derivative could be taken: a second derivative raises
    def backward(ctx: Any, g: Tensor) -> Any:
        return None, None, *(ctx.back(g) if g is not None else [None] * (len(ctx.needs_input_grad) - 2))


def keep(value: Tensor, back: Back, *xs: Tensor) -> Tensor:
    """`value`, whose gradient `g` reaches `xs` as `back(g)`."""
    held = value.detach()
    return _Kept.apply(lambda: held, back, *xs)


class _Overwritten(torch.autograd.Function):
    """A tensor written over: nothing flows back to what it was."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, value: Tensor) -> Tensor:
        ctx.part = target._is_view()
        ctx.mark_dirty(target.copy_(value))
        return target

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return torch.zeros_like(g) if ctx.part else None, g  # without zeros, the rest of what this is a part of would get nothing


def overwrite(target: Tensor, value: Tensor) -> Tensor:
    """`target`, in place, with the value and the gradient of `value`."""
    return _Overwritten.apply(target, value)


def vjp(f: Callable[..., Tensor], xs: Sequence[Tensor], g: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient of <f(xs), g> at `xs`."""
    with torch.enable_grad():
        at = [x.detach().requires_grad_() for x in xs]
        return torch.autograd.grad(f(*at), at, g, allow_unused=True)


def safe(x: Tensor) -> Tensor:
    """`x`, never nearer to zero than the root of the smallest number: R / safe(x) * safe(x) is R also where x is 0."""
    return x.abs().clamp_(min=tiny(x)).copysign_(x)


def tiny(x: Tensor) -> float:
    """What counts as zero: its inverse is still a number, and so is what comes of it further down. Float16 reaches no further than its own smallest."""
    least = torch.finfo(x.dtype).tiny
    return least if x.dtype == torch.float16 else least**0.5


def tensors(*groups: Any) -> Iterator[Tensor]:
    """The tensors among arguments, in lists and tuples too."""
    for group in groups:
        for a in group.values() if isinstance(group, dict) else group:
            if isinstance(a, Tensor):
                yield a
            elif isinstance(a, (tuple, list)):
                yield from tensors(a)


def by_row(a: Tensor, b: Tensor, rows: int) -> tuple[Tensor, bool]:
    """((rows,) sum of a * b for each row, whether the first axis holds the rows): else the sum is spread evenly. `a` broadcasts to `b`."""
    known = bool(b.ndim) and len(b) == rows
    n = rows if known else 1
    total = _summed(a, b, n)
    if not torch.isfinite(total).all():
        a, b = torch.broadcast_tensors(a, b)
        total = torch.where(b == 0, 0, a.to(total.dtype) * b).reshape(n, -1).sum(1)
    return (total, True) if known else ((total / rows).expand(rows), rows == 1)


def _summed(a: Tensor, b: Tensor, n: int) -> Tensor:
    """(n,) sums of a * b over all but the first axis (all of them where n is 1), without a product in memory where that can be avoided."""
    wide = torch.float32 if b.dtype in (torch.float16, torch.bfloat16) else b.dtype
    shape = (1,) * (b.ndim - a.ndim) + tuple(a.shape)
    constant = [i for i in range(1 if n > 1 else 0, b.ndim) if shape[i] == 1 < b.shape[i]]
    if constant:
        b = b.sum(constant, keepdim=True, dtype=wide)
    if shape != tuple(b.shape) or a.dtype != wide or b.dtype != wide:
        return (a.to(wide) * b.to(wide)).reshape(n, -1).sum(1)
    a = a.reshape(b.shape)
    if b.ndim > 1 and a.stride() == b.stride() and 0 < b.numel() == _span(b) and b.stride(0) == b.numel() // len(b):
        a, b = (t.as_strided((n, t.numel() // n), (t.numel() // n, 1)) for t in (a, b))
    return torch.linalg.vecdot(a.reshape(n, -1), b.reshape(n, -1))


def _span(t: Tensor) -> int:
    """How much memory lies between the first and the last number."""
    return 1 + sum((d - 1) * s for d, s in zip(t.shape, t.stride(), strict=True))
