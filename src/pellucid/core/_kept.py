"""The one primitive of all rules: an operation keeps its value, and what flows back through it is replaced."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Back = Callable[[Tensor], Sequence[Tensor | None]]
BLOCK = 2**17
"""Numbers that are worked on at once."""
LONG = 4096
"""Numbers in a row from which a product in memory costs more than a call for each row."""


class _Kept(torch.autograd.Function):
    """A value whose gradient is `back`. It creates its output, so that an in-place write on it is allowed."""

    @staticmethod
    def forward(ctx: Any, value: Callable[[], Tensor], back: Back, *xs: Tensor) -> Tensor:
        ctx.back = back
        ctx.set_materialize_grads(False)
        return value()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _given_back_once(ctx, g) if torch.is_grad_enabled() else _given_back(ctx, g)


def _given_back(ctx: Any, g: Tensor | None) -> Any:
    return None, None, *(ctx.back(g) if g is not None else [None] * (len(ctx.needs_input_grad) - 2))


_given_back_once = once_differentiable(_given_back)
"""A rule is no function whose derivative could be taken: a second derivative raises."""


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


above = torch.ops.aten.threshold_backward.grad_input
"""above(g, x, 0, grad_input=o): g where x is positive, 0 elsewhere, in one go."""


def safe(x: Tensor) -> Tensor:
    """`x`, never nearer to zero than the root of the smallest number: R / safe(x) * safe(x) is R also where x is 0."""
    return x.abs().clamp_(min=tiny(x)).copysign_(x)


def tiny(x: Tensor) -> float:
    """What counts as zero: its inverse is still a number, and so is what comes of it further down. Float16 reaches no further than its own smallest."""
    least = torch.finfo(x.dtype).tiny
    return least if x.dtype == torch.float16 else least**0.5


def in_blocks(f: Callable[..., Any], like: Tensor, *ts: Tensor, outs: int = 1) -> list[Tensor]:
    """New tensors shaped like one, filled by `f(*outs, like, *ts)` block by block, so that what lies between stays in the processor's cache."""
    made = [torch.empty_like(like) for _ in range(outs)]
    for part in _blocks([*made, like, *ts]):
        f(*part)
    return made


def _blocks(whole: list[Tensor]) -> Iterable[Sequence[Tensor]]:
    """Views that cover tensors which lie in memory in the same way; else the tensors themselves."""
    first = whole[0]
    if first.device.type != "cpu" or first.numel() <= BLOCK or any(t.shape != first.shape for t in whole):
        return [whole]
    if all(t.is_contiguous() for t in whole):
        return zip(*(t.view(-1).split(BLOCK) for t in whole), strict=True)
    if first.ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in whole):
        return zip(*(t.permute(0, 2, 3, 1).view(-1).split(BLOCK) for t in whole), strict=True)
    return [whole]


def in_rows(f: Callable[..., Tensor | None], rows: int, like: Tensor, *ts: Tensor, outs: int = 1) -> tuple[list[Tensor], Tensor, bool]:
    """The same, with (rows,) sums of what `f` gives for the numbers of each row, and whether the first axis holds the rows: else the sum is spread evenly."""
    known = bool(like.ndim and rows) and len(like) == rows
    n = rows if known else 1
    m = like.numel() // n
    like = like if _span(like) == like.numel() and (n == 1 or like.stride(0) == m) else like.contiguous()
    made = [torch.empty_like(like) for _ in range(outs)]
    laid = (t if t.shape == like.shape and _alike(t, like) else torch.empty_like(like).copy_(t) for t in ts)
    flat = [t.as_strided((n, m), (m, 1)) for t in (*made, like, *laid)]
    total = torch.zeros(n, dtype=wide(like), device=like.device)
    for part, here in _rowwise(flat, n, m):
        lost = f(*part)
        if lost is not None:
            total[here].add_(lost)
    return made, total if known else (total / rows).expand(rows), known or rows == 1


def _rowwise(flat: list[Tensor], n: int, m: int) -> Iterable[tuple[Sequence[Tensor], slice]]:
    """Parts of (n, m) tensors, and of which rows they are: many rows at once where these are small."""
    if not m:
        return
    size = n * m if flat[0].device.type != "cpu" else BLOCK
    step = max(1, size // m)
    for i in range(0, n, step):
        for part in zip(*(t[i : i + step].split(size, 1) for t in flat), strict=True):
            yield part, slice(i, i + step)


def wide(t: Tensor) -> torch.dtype:
    """What sums of such numbers are kept in."""
    return torch.float32 if t.dtype in (torch.float16, torch.bfloat16) else t.dtype


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(rows,) the sums of a * b over the last of two axes."""
    a, b = a.to(wide(a)), b.to(wide(a))
    return torch.dot(a[0], b[0])[None] if len(a) == 1 else (a * b).sum(1)


def small(g: Tensor) -> bool:
    """Whether no number is so large that times nothing it might be something: rules divide by what counts as nothing, and multiply with it again."""
    return g.dtype != torch.float16 and float(dot(g, g).sum()) < 1e16


def all_finite(*ts: Tensor) -> bool:
    """Whether sums are finite: the cheapest look for what is not."""
    return all(math.isfinite(float(t.sum())) for t in ts)


def tensors(*groups: Any) -> list[Tensor]:
    """The tensors among arguments, in lists and tuples too."""
    found: list[Tensor] = []
    for group in groups:
        for a in group.values() if type(group) is dict else group:
            if isinstance(a, Tensor):
                found.append(a)
            elif isinstance(a, (tuple, list)):
                found += tensors(a)
    return found


def by_row(a: Tensor, b: Tensor, rows: int) -> tuple[Tensor, bool]:
    """((rows,) sum of a * b for each row, whether the first axis holds the rows): else the sum is spread evenly. `a` broadcasts to `b`."""
    known = bool(b.ndim) and len(b) == rows
    n = rows if known else 1
    total = _summed(a, b, n)
    if not math.isfinite(float(total.sum())):
        a, b = torch.broadcast_tensors(a, b)
        total = torch.where(b == 0, 0, a.to(total.dtype) * b).reshape(n, -1).sum(1)
    return (total, True) if known else ((total / rows).expand(rows), rows == 1)


def _summed(a: Tensor, b: Tensor, n: int) -> Tensor:
    """(n,) sums of a * b over all but the first axis (all of them where n is 1), without a product in memory where that can be avoided."""
    kind = wide(b)
    shape = (1,) * (b.ndim - a.ndim) + tuple(a.shape)
    constant = [i for i in range(1 if n > 1 else 0, b.ndim) if shape[i] == 1 < b.shape[i]]
    if constant:
        b = b.sum(constant, keepdim=True, dtype=kind)
    if shape != tuple(b.shape) or a.dtype != kind or b.dtype != kind:
        return (a.to(kind) * b.to(kind)).reshape(n, -1).sum(1)
    a = a.expand(b.shape) if a.ndim < b.ndim else a
    if _alike(a, b) and (n == 1 or b.stride(0) == b.numel() // len(b)):
        a, b = (t.as_strided((n, t.numel() // n), (t.numel() // n, 1)) for t in (a, b))
    a, b = a.reshape(n, -1), b.reshape(n, -1)
    if b.shape[1] > LONG and b.device.type == "cpu":
        return torch.stack([torch.dot(u, v) for u, v in zip(a, b, strict=True)])
    return (a * b).sum(1)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of a shape lie in memory in the same order, without gaps."""
    moves = [(s, t) for d, s, t in zip(b.shape, a.stride(), b.stride(), strict=True) if d > 1]
    return all(s == t for s, t in moves) and 0 < b.numel() == _span(b)


def _span(t: Tensor) -> int:
    """How much memory lies between the first and the last number."""
    return 1 + sum((d - 1) * s for d, s in zip(t.shape, t.stride(), strict=True))
