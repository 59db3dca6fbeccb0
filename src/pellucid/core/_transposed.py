"""The transpose of an operation with weights: what arrives at its output, at its input, without running the operation again."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._kept import vjp

if TYPE_CHECKING:
    from ._call import Call

_ORDER = {False: ("stride", "padding", "dilation", "groups"), True: ("stride", "padding", "output_padding", "groups", "dilation")}
_backward = torch.ops.aten.convolution_backward


def transposed(c: "Call", x: Tensor, w: Tensor, g: Tensor) -> Tensor:
    """The gradient of <c.op(x, w, None), g> at `x`, of which only shape and layout matter."""
    if g.dtype == x.dtype == w.dtype:
        if c.name == "linear" and w.ndim == 2:
            return g @ w
        if c.name.startswith("conv") and x.ndim == w.ndim and isinstance(given := _settings(c, w.ndim - 2), list):
            out: Tensor = _backward(g, x, w, None, *given, [True, False, False])[0]
            return out
    (pulled,) = vjp(lambda t: c.op(t, w, None), [x], g)
    return torch.zeros_like(x) if pulled is None else pulled


def _settings(c: "Call", n: int) -> list[Any] | None:
    """(stride, padding, dilation, transposed, output padding, groups); None where the padding is a word."""
    turned = "transpose" in c.name
    given = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "groups": 1, **dict(zip(_ORDER[turned], c.args[3:], strict=False)), **c.kwargs}
    if isinstance(given["padding"], str):
        return None
    stride, padding, dilation, more = ([v] * n if isinstance(v, int) else list(v) * (n // len(v)) for v in map(given.__getitem__, ("stride", "padding", "dilation", "output_padding")))
    return [stride, padding, dilation, turned, more, given["groups"]]
