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
        return value()

    @staticmethod
    @once_differentiable  # a rule is no function whose derivative could be taken: a second derivative raises
    def backward(ctx: Any, g: Tensor) -> Any:
        return None, None, *ctx.back(g)


def keep(value: Tensor, back: Back, *xs: Tensor) -> Tensor:
    """`value`, whose gradient `g` reaches `xs` as `back(g)`."""
    held = value.detach()
    return _Kept.apply(lambda: held, back, *xs)


def vjp(f: Callable[..., Tensor], xs: Sequence[Tensor], g: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient of <f(xs), g> at `xs`."""
    with torch.enable_grad():
        at = [x.detach().requires_grad_() for x in xs]
        return torch.autograd.grad(f(*at), at, g, allow_unused=True)


def safe(x: Tensor) -> Tensor:
    """`x`, never nearer to zero than the root of the smallest number: R / safe(x) * safe(x) is R also where x is 0."""
    tiny = torch.finfo(x.dtype).tiny ** 0.5
    return torch.where(x.abs() < tiny, torch.full_like(x, tiny).copysign(x), x)


def tensors(*groups: Any) -> Iterator[Tensor]:
    """The tensors among arguments, in lists and tuples too."""
    for group in groups:
        for a in group.values() if isinstance(group, dict) else group:
            if isinstance(a, Tensor):
                yield a
            elif isinstance(a, (tuple, list)):
                yield from tensors(a)


def by_row(a: Tensor, b: Tensor, rows: int) -> tuple[Tensor, bool]:
    """((rows,) sum of a * b for each row, whether the first axis holds the rows): else the sum is spread evenly."""
    a, b = torch.broadcast_tensors(a, b)
    wide = torch.float32 if b.dtype in (torch.float16, torch.bfloat16) else b.dtype
    product = torch.where(b == 0, 0, a * b).to(wide) if not torch.isfinite(a).all() else (a * b).to(wide)
    if product.ndim and len(product) == rows:
        return product.flatten(1).sum(1) if product.ndim > 1 else product, True
    return (product.sum() / rows).expand(rows), rows == 1
