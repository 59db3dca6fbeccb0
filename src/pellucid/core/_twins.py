"""Fused operations written again in elementary ones: the fused value is kept, the gradient flows through the twin."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import NotApplicable

Cell = Callable[..., tuple[Tensor, ...]]


# ---------------------------------------------------------------- normalization


def _layer_norm(x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    return _scaled(_normal(x, axes, eps), weight, bias)


def _rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(x * ((x * x).mean(axes, keepdim=True) + eps).rsqrt(), weight, None)


def _group_norm(x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any) -> Tensor:
    z = _normal(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    return _scaled(z, _channels(weight, x), _channels(bias, x))


def _instance_norm(x: Tensor, mean: Any, var: Any, weight: Tensor | None, bias: Tensor | None, own: bool, momentum: float = 0.1, eps: float = 1e-5, *_: Any) -> Tensor:
    if own:
        return _group_norm(x, x.shape[1], weight, bias, eps)
    z = _scaled(x, None, _channels(-mean, x)) * (var + eps).rsqrt().reshape(-1, *[1] * (x.ndim - 2))
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


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:
    if dropout_p:
        raise NotApplicable("A rule needs attention without dropout; scaled_dot_product_attention was called with dropout_p > 0. Put the model in eval mode.")
    if enable_gqa:
        k, v = (t.repeat_interleave(q.size(-3) // t.size(-3), -3) for t in (k, v))
    scores = attention_scores(q, k, attn_mask, is_causal, scale)
    blind = None if attn_mask is None else _blind(attn_mask)
    if blind is None or not blind.any():
        return scores.softmax(-1) @ v
    return scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0) @ v


def _blind(mask: Tensor) -> Tensor:
    """Queries that see no key at all, as those of padding before a text: the fused operation gives them zeros, not NaN."""
    hidden = ~mask if mask.dtype == torch.bool else mask.detach() == float("-inf")
    return hidden.all(-1, keepdim=True)


# ---------------------------------------------------------------- recurrent networks


def _recurrent(cell: Cell, gates: int) -> Callable[..., tuple[Tensor, ...]]:
    def twin(x: Tensor, hx: Any, weights: Any, bias: Any, layers: int, dropout: float, train: bool, both: bool, batch_first: bool = False) -> tuple[Tensor, ...]:
        ways, n = 1 + both, 4 if bias is True else 2
        states = hx if isinstance(hx, (tuple, list)) else (hx,)
        if isinstance(bias, (tuple, list)) or len(weights) != layers * ways * n or not isinstance(x, Tensor):
            raise NotApplicable("A rule needs a recurrent network on padded tensors, without projections; this one does not take such. Pad the input, or explain a later layer (at=...).")
        if train and dropout:
            raise NotApplicable("A rule needs a recurrent network without dropout. Put the model in eval mode.")
        x = x.transpose(0, 1) if batch_first else x
        last: list[tuple[Tensor, ...]] = []
        for layer in range(layers):
            sides = []
            for way in range(ways):
                i = layer * ways + way
                out, state = _steps(cell, x, tuple(s[i] for s in states), [*weights[i * n : i * n + n], None, None], bool(way))
                sides.append(out)
                last.append(state)
            x = torch.cat(sides, -1) if both else sides[0]
        return (x.transpose(0, 1) if batch_first else x, *[torch.stack([s[j] for s in last]) for j in range(len(states))])

    return twin


def _steps(cell: Cell, x: Tensor, state: tuple[Tensor, ...], w: list[Any], backwards: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction: its output at every time, and its last state."""
    given = F.linear(x, w[0], w[2]).unbind(0)
    outs = []
    for u in given[::-1] if backwards else given:
        state = cell(u, F.linear(state[0], w[1], w[3]), *state)
        outs.append(state[0])
    return torch.stack(outs[::-1] if backwards else outs), state


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


def _norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, p: Any = None) -> Tensor:  # noqa: A002
    order = ord if p is None else p
    axes = tuple(range(x.ndim)) if dim is None else dim
    if order in (2, "fro", None):
        return (x * x).sum(axes, keepdim=keepdim).sqrt()
    if order == 1:
        return x.abs().sum(axes, keepdim=keepdim)
    raise NotApplicable(f"A rule needs a vector norm of order 1 or 2; got {order!r}.")


def _logsumexp(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    if not isinstance(dim, int):
        (dim,) = dim
    return (x - x.log_softmax(dim)).mean(dim, keepdim=keepdim)


def _cosine(a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    size = ((a * a).sum(dim) * (b * b).sum(dim)).clamp(min=eps * eps).sqrt()
    return (a * b).sum(dim) / size


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
    "lstm": _recurrent(_lstm, 4),
    "gru": _recurrent(_gru, 3),
    "rnn_tanh": _recurrent(_tanh, 1),
    "rnn_relu": _recurrent(_relu, 1),
    "lstm_cell": _cell(_lstm),
    "gru_cell": _cell(_gru),
    "rnn_tanh_cell": _cell(_tanh),
    "rnn_relu_cell": _cell(_relu),
    "div": _div,
    "addmm": lambda b, x, w, beta=1, alpha=1: beta * b + alpha * (x @ w) if (beta, alpha) != (1, 1) else F.linear(x, w.mT, b),
    "baddbmm": lambda m, a, b, beta=1, alpha=1: beta * m + alpha * torch.bmm(a, b) if beta else alpha * torch.bmm(a, b),
    "addcmul": lambda a, b, c, value=1: a + value * (b * c),
    "addcdiv": lambda a, b, c, value=1: a + value * (b / c),
    "lerp": lambda a, b, w: a + w * (b - a),
    "maximum": lambda a, b: b + (a - b).relu(),
    "minimum": lambda a, b: b - (b - a).relu(),
    "glu": _glu,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "var": _variance,
    "std": lambda *a, **k: _variance(*a, **k).sqrt(),
    "logsumexp": _logsumexp,
    "cosine_similarity": _cosine,
    "logit": lambda x, eps=None: (x if eps is None else x.clamp(eps, 1 - eps)).log() - (1 - (x if eps is None else x.clamp(eps, 1 - eps))).log(),
    "bilinear": lambda a, b, w, c=None: _scaled(torch.einsum("...i,oij,...j->...o", a, w, b), None, c),
}
"""How each fused operation is written out. A tuple stands for several outputs."""
