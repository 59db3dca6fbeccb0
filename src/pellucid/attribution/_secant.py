"""Secant rules: the exact linear map that takes an operation's inputs from the baseline to the point, and its output with them.

Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, sections 3.2 (multipliers) and 3.5.2 (rescale); products, softmax,
maxima and normalization are not in the paper: here each has a rule of its own that is exact as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core._kept import Back, tensors, vjp
from ..core.errors import NotApplicable
from ..core.rules import Call, Rule, Rules

SMOOTH = frozenset(["sigmoid", "tanh", "gelu", "silu", "mish", "softplus", "exp", "expm1", "erf", "sin", "cos", "logsigmoid", "tanhshrink"])
"""Functions without any kink, that bend on the scale of one."""
BLOCK = 2**16
"""Numbers that are worked on at once: what lies between stays in the processor's cache."""
CLOSED: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "square": lambda x, x0, y, y0: x + x0,
    "reciprocal": lambda x, x0, y, y0: -y * y0,
    "sqrt": lambda x, x0, y, y0: torch.where(y + y0 > 0, 1 / (y + y0), 0),
    "rsqrt": lambda x, x0, y, y0: -(y * y0).square() / (y + y0),
}
"""Slopes that need no difference at all."""


def _given(c: Call, i: int, name: str, default: Any) -> Any:
    """An argument of a call, however it was given."""
    return c.args[i] if len(c.args) > i else c.kwargs.get(name, default)


def _between(c: Call, low: str, high: str, at: int = 1) -> tuple[Any, Any]:
    low, high = _given(c, at, low, None), _given(c, at + 1, high, None)
    return -torch.inf if low is None else low, torch.inf if high is None else high


CLAMPS: dict[str, Callable[[Call], tuple[Any, Any]]] = {
    **dict.fromkeys(("relu", "abs", "leaky_relu", "prelu"), lambda c: (0, torch.inf)),
    **dict.fromkeys(("hardsigmoid", "hardswish"), lambda c: (-3, 3)),
    "relu6": lambda c: (0, 6),
    "hardtanh": lambda c: (_given(c, 1, "min_val", -1), _given(c, 2, "max_val", 1)),
    "softshrink": lambda c: (-_given(c, 1, "lambd", 0.5), _given(c, 1, "lambd", 0.5)),
    "clamp": lambda c: _between(c, "min", "max"),
    "clamp_min": lambda c: (_given(c, 1, "min", None), torch.inf),
    "clamp_max": lambda c: (-torch.inf, _given(c, 1, "max", None)),
}
"""Functions that hold numbers between bounds, or are made of one that does: its differences are computed without rounding."""


def _prelu(c: Call, m: Tensor) -> Tensor:
    w = c.args[1]
    w = w.reshape(-1, *[1] * (m.ndim - 2)) if w.numel() > 1 and m.ndim > 1 else w
    return w + (1 - w) * m


BENT: dict[str, Callable[[Call, Tensor, Tensor, Tensor], Tensor]] = {
    "abs": lambda c, m, x, x0: 2 * m - 1,
    "leaky_relu": lambda c, m, x, x0: m + _given(c, 1, "negative_slope", 0.01) * (1 - m),
    "prelu": lambda c, m, x, x0: _prelu(c, m),
    "softshrink": lambda c, m, x, x0: 1 - m,
    "hardsigmoid": lambda c, m, x, x0: m / 6,
    "hardswish": lambda c, m, x, x0: ((x + x0) * m + x.clamp(-3, 3) + x0.clamp(-3, 3) + 6) / 12,
}
"""What the slope `m` of the function between bounds makes of the slope of one that is made of it."""


@dataclass(frozen=True)
class Linear:
    """J with J (x - x0) = y - y0: `forward` applied to differences at the inputs, `back` its transpose applied to multipliers."""

    value: Tensor
    inputs: list[Tensor]
    forward: Callable[..., Tensor]
    back: Back
    index: Tensor | None = None
    """Where each value came from, if the operation says so."""


def before(c: Call) -> list[Any]:
    """A call's arguments at the baseline."""
    return c.old or []


def kept(linear: Callable[[Call], Linear]) -> Rule:
    """The rule that keeps an operation's value and sends multipliers back through its secant."""

    def rule(c: Call) -> Any:
        if c.old is None:
            return c.native()
        j = linear(c)
        out = c.keep(j.value, j.back, *j.inputs)
        return out if j.index is None else with_index(c, out, j.index)

    return rule


def with_index(c: Call, out: Tensor, index: Tensor) -> Any:
    """A maximum and where it came from, as the operation gives them."""
    return getattr(torch.return_types, c.name)((out, index)) if c.name in ("max", "min") else (out, index)


def pointwise(c: Call) -> Linear:
    """Each number by the slope between its two values; by the derivative where these are too near to tell a slope."""
    y, m = c.output(), slope(c)
    return Linear(y, [c.args[0]], lambda d: d * m, lambda g: (g * m,))


def slope(c: Call) -> Tensor:
    """The slopes of an elementwise function between the baseline and the point."""
    x, x0 = c.args[0].detach(), before(c)[0]
    if c.name in CLOSED or (c.name == "pow" and c.args[1] == 2):
        return CLOSED["square" if c.name == "pow" else c.name](x, x0, c.output(), c.run(x0))
    bounds = CLAMPS[c.name](c) if c.name in CLAMPS else (None,)
    if all(isinstance(b, (int, float)) for b in bounds):
        m = _clamped(x, x0, *bounds)
        return BENT[c.name](c, m, x, x0) if c.name in BENT else m
    m = torch.empty_like(c.output())
    shaped = any(True for _ in tensors(c.args[1:], c.kwargs))
    for part in [(x, x0, c.output(), m)] if shaped else _blocks(x, x0, c.output(), m):
        _curved(c, *part)
    return m


def _blocks(*whole: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Views that cover the tensors, which lie in memory in the same way; the tensors themselves where they do not."""
    if whole[0].device.type != "cpu" or whole[0].numel() <= BLOCK or len({t.shape for t in whole}) > 1:
        return [whole]
    if all(t.is_contiguous() for t in whole):
        return zip(*(t.view(-1).split(BLOCK) for t in whole), strict=True)
    if whole[0].ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in whole):
        return zip(*(t.permute(0, 2, 3, 1).view(-1).split(BLOCK) for t in whole), strict=True)
    return [whole]


def _clamped(x: Tensor, x0: Tensor, low: float, high: float) -> Tensor:
    """The slopes of clamp(low, high). Where nothing changed: 1 between the bounds, 0 outside. A sum is the cheapest look for NaN."""
    m = torch.empty_like(x)
    spare: list[Tensor] = []
    for u, u0, n in _blocks(x, x0.expand_as(x), m):
        spare = spare if spare and spare[0].shape == u.shape else [torch.empty_like(u), torch.empty_like(u)]
        d, y = torch.sub(u, u0, out=spare[0]), torch.clamp(u0, low, high, out=spare[1])
        torch.clamp(u, low, high, out=n).sub_(y).div_(d)
        if n.sum().isnan():
            still, inside = torch.eq(d, 0, out=d), torch.eq(u, torch.clamp(u, low, high, out=y), out=y)
            torch.nan_to_num(n, 0.0, out=n).addcmul_(still, inside)
    return m


def _curved(c: Call, x: Tensor, x0: Tensor, y: Tensor, m: Tensor) -> None:
    """Where the two are too near to tell a slope from rounding, the derivative halfway errs less.

    Unless the function is smooth everywhere, near is relative to the numbers: a kink at zero never lies between two that are near.
    """
    d = x - x0
    torch.sub(y, c.run(x0), out=m).div_(d)
    reach = torch.maximum(x.abs(), x0.abs()).clamp_(max=1).mul_(_reach(x)) if c.name not in SMOOTH else _reach(x)
    near = torch.le(d.abs_(), reach, out=d)
    if near.sum() > 0:
        half = torch.lerp(x0, x, 0.5)
        (at,) = vjp(c.run, [half], torch.ones_like(half))
        torch.where(near.bool(), torch.zeros_like(m) if at is None else at, m, out=m)


def _reach(x: Tensor) -> float:
    """Where the error of a difference, eps / d, equals that of the derivative halfway, d^2."""
    return 2 * torch.finfo(x.dtype).eps ** (1 / 3)


def product(c: Call) -> Linear:
    """Any product f(a, b): f(da, mean of b) + f(mean of a, db), which is the Shapley value of two players."""
    live = [i for i, a in enumerate(c.args) if isinstance(a, Tensor) and a.requires_grad]
    if len(live) > 2:
        raise NotApplicable(f"The secant of a product needs at most two factors that depend on the point; {c.name!r} in {c.mode.place()} has {len(live)}. Multiply two at a time.")
    mid = [torch.lerp(before(c)[i], a.detach(), 0.5) if i in live else a for i, a in enumerate(c.args)]

    def at(i: int, d: Tensor) -> Tensor:
        return c.run(*mid[:i], d, *mid[i + 1 :])

    def forward(*ds: Tensor) -> Tensor:
        return sum(at(i, d) for i, d in zip(live, ds, strict=True))  # type: ignore[return-value]

    def back(g: Tensor) -> tuple[Tensor | None, ...]:
        if len(live) == 2 and c.name in _FACTORS:
            a, b = (mid[i] for i in live)
            return tuple(t.sum_to_size(s.shape) for t, s in zip(_FACTORS[c.name](g, a, b), (a, b), strict=True))
        return vjp(lambda *xs: c.run(*[xs[live.index(i)] if i in live else a for i, a in enumerate(mid)]), [mid[i] for i in live], g)

    return Linear(c.output(), [c.args[i] for i in live], forward, back)


_FACTORS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "mul": lambda g, a, b: (g * b, g * a),
    "bmm": lambda g, a, b: (g @ b.mT, a.mT @ g),
}


def softmax(c: Call) -> Linear:
    """With k the logarithmic mean of both answers: diag(k) - k k' / sum(k); for log_softmax 1 - 1 k' / sum(k).

    exp(a) - exp(b) = k (a - b) for a and b the logarithms of both answers, and these lack a constant that the answers' sum fixes.
    """
    dim = c.kwargs["dim"] if "dim" in c.kwargs else c.args[1] if len(c.args) > 1 else -1
    y, x = c.output(), c.args[0]
    a, b = (t.log_softmax(dim, dtype=y.dtype) for t in (x.detach(), before(c)[0]))
    t = (a - b).abs_()
    k = torch.maximum(a, b).exp_() * torch.where(t > 0, -torch.expm1(-t) / t, 1)
    p = k / k.sum(dim, keepdim=True)
    if c.name == "log_softmax":
        return Linear(y, [x], lambda d: d - (p * d).sum(dim, keepdim=True), lambda g: ((g - p * g.sum(dim, keepdim=True)).to(x.dtype),))
    both = lambda d: k * (d - (p * d).sum(dim, keepdim=True))  # noqa: E731
    return Linear(y, [x], both, lambda g: (both(g).to(x.dtype),))


def maximum(c: Call) -> Linear:
    """A value that rose is owed to what wins at the point, one that fell to what won at the baseline."""
    x, x0 = c.args[0], before(c)[0]
    (y, i, lined), (y0, j, _) = winners(c, x.detach()), winners(c, x0)
    least = c.name in ("amin", "min")
    who = torch.where(((y <= y0) if least else (y >= y0)).reshape(i.shape), i, j)
    d = lined(x.detach() - x0).gather(-1, who)
    m = torch.where(d == 0, 1, (y - y0).reshape(who.shape) / d)

    def forward(d: Tensor) -> Tensor:
        return (lined(d).gather(-1, who) * m).reshape(y.shape)

    both = c.name.endswith("_with_indices") or (c.name in ("max", "min") and len(c.args) + len(c.kwargs) > 1)
    return Linear(y, [x], forward, lambda g: vjp(forward, [x], g), i.reshape(y.shape) if both else None)


def winners(c: Call, x: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """(values, index of each one's winner, how to lay out an input so that the last axis holds what competes)."""
    if "pool" in c.name:
        name = c.name.removesuffix("_with_indices")
        rest = {k: v for k, v in c.kwargs.items() if k != "return_indices"}
        y, at = getattr(F, f"{name}_with_indices")(x, *c.args[1:], **rest)
        n = int(name[-2])
        return y, at.flatten(-n), lambda t: t.flatten(-n)
    dims, keepdim = _reduced(c)
    axes = sorted(d % x.ndim for d in dims) if dims else list(range(x.ndim))
    last = list(range(-len(axes), 0))
    lined = lambda t: t.movedim(axes, last).flatten(-len(axes))  # noqa: E731
    y, at = lined(x).min(-1) if c.name in ("amin", "min") else lined(x).max(-1)
    if keepdim:
        for a in axes:
            y = y.unsqueeze(a)
    return y, at.unsqueeze(-1), lined


def _reduced(c: Call) -> tuple[tuple[int, ...], bool]:
    dim = c.kwargs["dim"] if "dim" in c.kwargs else c.args[1] if len(c.args) > 1 else ()
    keepdim = c.kwargs["keepdim"] if "keepdim" in c.kwargs else c.args[2] if len(c.args) > 2 else False
    return (dim,) if isinstance(dim, int) else tuple(dim), bool(keepdim)


RESCALE = Rules(pointwise=kept(pointwise), scale=kept(pointwise), product=kept(product), softmax=kept(softmax), max=kept(maximum), paired=True, fold=False, counted=False)
"""DeepLIFT's rescale rule on every operation. Weighted operations are linear: their own gradient is exact."""
