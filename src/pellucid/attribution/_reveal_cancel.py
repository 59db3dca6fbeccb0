"""RevealCancel: what raises a value and what lowers it are handed back apart, so that effects which cancel still show.

Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, sections 3.5.1 (linear rule) and 3.5.3, appendix B.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core._kept import vjp
from ..core._split import Parts, Split
from ..core.rules import Call, Rule, Rules
from ._secant import Linear, before, maximum, pointwise, product, softmax, with_index

POSITIVE = frozenset(["log", "log1p", "reciprocal", "rdiv", "pow", "sqrt", "rsqrt"])
"""Functions that are not defined everywhere: at the baseline plus only one of the parts they may have no value. The slope serves both parts."""


def reveal_cancel(local: set[str]) -> Rules:
    """The rules; `local` is told where the parts of a value were not known and it was split by its sign instead."""

    def noted(c: Call, i: int) -> Parts:
        found = _mode(c).parts(c, i)
        if not found.known:
            local.add(f"{c.name} in {c.module or 'the model'}")
        return found

    def by_slope(linear: Callable[[Call], Linear]) -> Rule:
        """Both parts by the same exact linear map: the rescale rule."""

        def rule(c: Call) -> Any:
            j = linear(c)
            ps = [noted(c, next(i for i, a in enumerate(c.args) if a is x)) for x in j.inputs]
            out = _mode(c).made(j.value, Parts(j.forward(*(p.up for p in ps)), j.forward(*(p.down for p in ps))))
            return out if j.index is None else with_index(c, out, j.index)

        return rule

    def activation(c: Call) -> Tensor:
        if c.name in POSITIVE:
            return by_slope(pointwise)(c)
        return _mode(c).made(c.output(), _cancelled(c, noted(c, 0)))

    def multiplied(c: Call) -> Tensor:
        live = [i for i, a in enumerate(c.args) if isinstance(a, Tensor) and a.requires_grad]
        if len(live) > 1:
            return by_slope(product)(c)
        (i,) = live
        if c.name == "mul":
            return _mode(c).made(c.output(), noted(c, i).scaled(c.args[1 - i]))
        k = next(j for j, a in enumerate(c.args) if isinstance(a, Tensor) and j != i)
        return _weighted(c, i, c.args[k], lambda x, w: c.run(*[x if j == i else w if j == k else a for j, a in enumerate(c.args)]))

    def weighted(c: Call) -> Tensor:
        return _weighted(c, 0, c.bound[1], lambda x, w: c.op(x, w, None))

    return Rules(weights=weighted, pointwise=activation, scale=by_slope(pointwise), product=multiplied, softmax=by_slope(softmax), max=by_slope(maximum),
                 paired=True, split=True, fold=False, counted=False)


def _mode(c: Call) -> Split:
    return c.mode  # type: ignore[return-value]


def _weighted(c: Call, i: int, w: Tensor, op: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The linear rule: a contribution w dx is positive or negative as a whole, whatever dx itself was made of."""
    found = _mode(c).parts(c, i)
    d = found.up + found.down
    up = ((c.args[i].detach() - before(c)[i]).sign() + 1) / 2  # half and half where nothing changed; the parts' own sum is rounded
    rose, fell, plus, minus = d * up, d * (1 - up), w.clamp(min=0), w.clamp(max=0)
    return _mode(c).made(c.output(), Parts(op(rose, plus) + op(fell, minus), op(rose, minus) + op(fell, plus)))


def _cancelled(c: Call, x: Parts) -> Parts:
    """Each part by what it adds, on average over coming first and coming last: the Shapley value of the two parts."""
    x0, p, n = before(c)[0], x.up.detach(), x.down.detach()
    f, y = c.run, c.output()
    y0, yp, yn = f(x0), f(x0 + p), f(x0 + n)
    up = _ratio(c, (yp - y0 + y - yn) / 2, p, x0, x0 + n)
    down = _ratio(c, (yn - y0 + y - yp) / 2, n, x0, x0 + p)
    return Parts(x.up * up, x.down * down)


def _ratio(c: Call, dy: Tensor, d: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """dy / d, and where d is too small for that the mean derivative over both steps."""
    size = torch.minimum(torch.maximum(first.abs(), (first + d).abs()), torch.maximum(last.abs(), (last + d).abs())).clamp(max=1)
    near = d.abs() <= torch.finfo(d.dtype).eps ** 0.5 * size
    m = dy / torch.where(near, 1, d)
    if not near.any():
        return m
    slopes = [vjp(c.run, [a + d / 2], torch.ones_like(d))[0] for a in (first, last)]
    return torch.where(near, sum(torch.zeros_like(d) if s is None else s for s in slopes) / 2, m)
