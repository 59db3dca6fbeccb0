"""Fused operations written again in elementary ones: the fused value is kept, the gradient flows through the twin."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import NotApplicable

Cell = Callable[..., tuple[Tensor, ...]]


# ---------------------------------------------------------------- normalization


def _layer_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any, **__: Any) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    return _scaled(_normal(x, axes, eps), weight, bias)


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(x * ((x * x).mean(axes, keepdim=True) + eps).rsqrt(), weight, None)


def _group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any, **__: Any) -> Tensor:
    z = _normal(x.reshape(x.shape[0], num_groups, -1), (-1,), eps).reshape(x.shape)
    return _scaled(z, _channels(weight, x), _channels(bias, x))


def _instance_norm(
    x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5, *_: Any
) -> Tensor:
    if use_input_stats:
        return _group_norm(x, x.shape[1], weight, bias, eps)
    z = _scaled(x, None, _channels(-running_mean, x)) * (running_var + eps).rsqrt().reshape(-1, *[1] * (x.ndim - 2))
    return _scaled(z, _channels(weight, x), _channels(bias, x))


def _normal(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    c = x - x.mean(axes, keepdim=True)
    return c * ((c * c).mean(axes, keepdim=True) + eps).rsqrt()


def _channels(t: Tensor | None, x: Tensor) -> Tensor | None:
    return None if t is None else t.reshape(-1, *[1] * (x.ndim - 2))


def _scaled(z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


# ---------------------------------------------------------------- attention


def attention_scores(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """(..., L, S) what the softmax of scaled dot-product attention is taken of."""
    s = (q @ k.transpose(-2, -1)) * (q.size(-1) ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).tril()
    if mask is None:
        return s
    return s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False
) -> Tensor:
    if dropout_p:
        raise NotApplicable("A rule needs attention without dropout; scaled_dot_product_attention was called with dropout_p > 0. Put the model in eval mode.")
    if enable_gqa:
        key, value = (t.repeat_interleave(query.size(-3) // t.size(-3), -3) for t in (key, value))
    scores = attention_scores(query, key, attn_mask, is_causal, scale)
    blind = None if attn_mask is None else _blind(attn_mask)
    if blind is None or not blind.any():
        return scores.softmax(-1) @ value
    return scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0) @ value


def _blind(mask: Tensor) -> Tensor:
    """Queries that see no key at all, as those of padding before a text: the fused operation gives them zeros, not NaN."""
    hidden = ~mask if mask.dtype == torch.bool else mask.detach() == float("-inf")
    return hidden.all(-1, keepdim=True)


# ---------------------------------------------------------------- recurrent networks


def _recurrent(cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
    def twin(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        packed = args[0] if isinstance(args[2], (tuple, list)) else None
        hx, weights, bias, layers, dropout, train, both, *batch_first = args if packed is None else args[1:]
        if train and dropout:
            raise NotApplicable("A rule needs a recurrent network without dropout. Put the model in eval mode.")
        states, ways = hx if isinstance(hx, (tuple, list)) else (hx,), 1 + both
        n = len(weights) // (layers * ways)
        x = x if packed is not None or batch_first[0] else x.transpose(0, 1)
        last: list[tuple[Tensor, ...]] = []
        for layer in range(layers):
            sides = []
            for way in range(ways):
                i = layer * ways + way
                out, state = _steps(cell, x, packed, tuple(s[i] for s in states), _named(weights[i * n : i * n + n], bias), bool(way))
                sides.append(out)
                last.append(state)
            x = torch.cat(sides, -1) if both else sides[0]
        x = x if packed is not None or batch_first[0] else x.transpose(0, 1)
        return (x, *[torch.stack([s[j] for s in last]) for j in range(len(states))])

    return twin


def _named(weights: Any, bias: bool) -> tuple[Any, Any, Any, Any, Any]:
    """(of the input, of the state, both biases, the projection) of one layer in one direction."""
    w, v, *rest = weights
    b, c = rest[:2] if bias else (None, None)
    return w, v, b, c, rest[-1] if len(rest) % 2 else None


def _steps(cell: Cell, x: Tensor, packed: Tensor | None, start: tuple[Tensor, ...], weights: tuple[Any, ...], backwards: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction over (B, T, I), or over steps laid one after another of which each has `packed` rows: its outputs, and its last state."""
    w, v, b, c, projection = weights
    given = F.linear(x, w, b)
    apart = list(given.unbind(1) if packed is None else given.split(packed.tolist()))
    state, ended, outs = tuple(s[: len(apart[-1 if backwards else 0])] for s in start), [], []
    for u in apart[::-1] if backwards else apart:
        n, before = len(u), len(state[0])
        if n < before:
            ended.append(tuple(s[n:] for s in state))
            state = tuple(s[:n] for s in state)
        elif n > before:
            state = tuple(torch.cat([s, first[before:n]]) for s, first in zip(state, start, strict=True))
        state = cell(u, F.linear(state[0], v, c), *state)
        state = state if projection is None else (F.linear(state[0], projection), *state[1:])
        outs.append(state[0])
    outs = outs[::-1] if backwards else outs
    last = tuple(torch.cat(parts) for parts in zip(state, *ended[::-1], strict=True)) if ended else state
    return torch.cat(outs) if packed is not None else torch.stack(outs, 1), last


def _cell(cell: Cell) -> Callable[..., Any]:
    def twin(x: Tensor, hx: Any, w: Tensor, v: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Any:
        state = hx if isinstance(hx, (tuple, list)) else (hx,)
        new = cell(F.linear(x, w, b), F.linear(state[0], v, c), *state)
        return new if len(new) > 1 else new[0]

    return twin


def _lstm(u: Tensor, v: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    i, f, g, o = (u + v).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(u: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    (r, z, n), (r2, z2, n2) = u.chunk(3, -1), v.chunk(3, -1)
    n = (n + (r + r2).sigmoid() * n2).tanh()
    return (n + (z + z2).sigmoid() * (h - n),)


def _tanh(u: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return ((u + v).tanh(),)


def _relu(u: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return ((u + v).relu(),)


# ---------------------------------------------------------------- the rest


def _div(a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise NotApplicable("A rule needs a division without rounding; div was called with rounding_mode.")
    return a * (b.reciprocal() if isinstance(b, Tensor) else 1 / b)


def _variance(x: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: float | None = None) -> Tensor:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    less = correction if correction is not None else 0 if unbiased is False else 1
    n = 1
    for a in axes:
        n *= x.shape[a]
    c = x - x.mean(axes, keepdim=True)
    return (c * c).sum(axes, keepdim=keepdim) / max(n - less, 0)


def _norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *_: Any, p: Any = None, **__: Any) -> Tensor:  # noqa: A002
    order = ord if p is None else p
    axes = tuple(range(x.ndim)) if dim is None else dim
    if order in (2, "fro", None):
        return (x * x).sum(axes, keepdim=keepdim).sqrt()
    if not isinstance(order, (int, float)) or order == 0:
        raise NotApplicable(f"A rule needs a vector norm of an order other than 0, or 'fro'; got {order!r}.")
    size = x.abs()
    if math.isinf(order):
        return size.amax(axes, keepdim=keepdim) if order > 0 else size.amin(axes, keepdim=keepdim)
    return size.sum(axes, keepdim=keepdim) if order == 1 else (size**order).sum(axes, keepdim=keepdim) ** (1 / order)


def _logsumexp(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    axes = sorted(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    terms = x.movedim(axes, list(range(-len(axes), 0))).flatten(-len(axes))
    out = (terms - terms.log_softmax(-1)).mean(-1)
    return out.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdim else out


def _cosine(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    size = ((x1 * x1).sum(dim) * (x2 * x2).sum(dim)).clamp(min=eps * eps).sqrt()
    return (x1 * x2).sum(dim) / size


def _logit(x: Tensor, eps: float | None = None) -> Tensor:
    x = x if eps is None else x.clamp(eps, 1 - eps)
    return x.log() - (1 - x).log()


def _product(added: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else alpha * product
    return beta * added + product if beta else product


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * b.sigmoid()


CELLS: dict[str, Cell] = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _tanh, "rnn_relu": _relu}
"""What recurrent networks do at one time: (what the input gives, what the state gives, *states) to the new states, elementwise."""

TWINS: dict[str, Callable[..., Any]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent(_lstm),
    "gru": _recurrent(_gru),
    "rnn_tanh": _recurrent(_tanh),
    "rnn_relu": _recurrent(_relu),
    "lstm_cell": _cell(_lstm),
    "gru_cell": _cell(_gru),
    "rnn_tanh_cell": _cell(_tanh),
    "rnn_relu_cell": _cell(_relu),
    "div": _div,
    "addmm": lambda x, mat1, mat2, beta=1, alpha=1: _product(x, mat1 @ mat2, beta, alpha) if (beta, alpha) != (1, 1) else F.linear(mat1, mat2.mT, x),
    "baddbmm": lambda x, batch1, batch2, beta=1, alpha=1: _product(x, torch.bmm(batch1, batch2), beta, alpha),
    "addcmul": lambda x, tensor1, tensor2, value=1: x + value * (tensor1 * tensor2),
    "addcdiv": lambda x, tensor1, tensor2, value=1: x + value * (tensor1 / tensor2),
    "lerp": lambda x, end, weight: x + weight * (end - x),
    "maximum": lambda a, b: b + (a - b).relu(),
    "minimum": lambda a, b: b - (b - a).relu(),
    "glu": _glu,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "var": _variance,
    "std": lambda *a, **k: _variance(*a, **k).sqrt(),
    "logsumexp": _logsumexp,
    "cosine_similarity": _cosine,
    "logit": _logit,
    "bilinear": lambda input1, input2, weight, bias=None: _scaled(torch.einsum("...i,oij,...j->...o", input1, weight, input2), None, bias),
}
"""How each fused operation is written out. A tuple stands for several outputs."""
