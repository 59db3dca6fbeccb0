"""Values of which a window has changed a part: where that part lies, what it reaches through a local operation, and the operation on it alone."""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._operations import KIND, canonical

Starts = np.ndarray
"""(n, axes) where each window's part begins."""

LARGE = 0.75
"""Share of a value from which on its part is no longer worth being held apart."""

UNRULY = {"rrelu", "where"}
ALIGNED = {name for name, kind in KIND.items() if kind in ("pointwise", "scale")} - UNRULY | {"add", "sub", "rsub", "neg", "mul", "div", "maximum", "minimum"}
"""Operations that look at one position at a time."""
SAME = frozenset(("clone", "contiguous", "detach"))
DROPOUTS = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"))

_signature = functools.lru_cache(maxsize=256)(inspect.signature)


@dataclass(eq=False)
class Held:
    """A value in the pass: `base` of the row itself (1, C, ...), and for n windows the part that differs, or all of it once it is `full`."""

    base: Tensor
    part: Tensor | None = None
    start: Starts | None = None
    full: Tensor | None = None

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.base.shape[2:])

    def whole(self, n: int) -> Tensor:
        """(n, C, ...) the value itself; from here on it is held as such."""
        if self.full is None:
            self.full = self.base.expand(n, *self.base.shape[1:]).clone()
            if self.part is not None and self.start is not None:
                paste(self.full, np.zeros_like(self.start), self.part, self.start)
        return self.full

    def cut(self, start: Starts, size: tuple[int, ...]) -> Tensor:
        """(n, C, *size) the value from `start` on."""
        if self.part is None or self.start is None:
            return gather(self.base, start, size)
        if tuple(self.part.shape[2:]) == size and np.array_equal(start, self.start):
            return self.part
        out = gather(self.base, start, size)
        paste(out, start, self.part, self.start)
        return out


def gather(base: Tensor, start: Starts, size: tuple[int, ...]) -> Tensor:
    """(n, C, *size): pieces of one row's value."""
    pieces = []
    for at in start.tolist():
        here: tuple[Any, ...] = (0, slice(None), *(slice(a, a + s) for a, s in zip(at, size, strict=True)))
        pieces.append(base[here])
    return torch.stack(pieces)


def paste(into: Tensor, origin: Starts, part: Tensor, start: Starts) -> None:
    """Writes each window's part over what lies at `origin`, as far as the two overlap; windows that do so alike are written together."""
    offset = start - origin
    room, size = np.array(into.shape[2:]), np.array(part.shape[2:])
    low, high = np.maximum(offset, 0), np.minimum(offset + size, room)
    kinds, which = np.unique(np.concatenate([low, high, low - offset], 1), axis=0, return_inverse=True)
    axes, which = len(size), which.reshape(-1)
    for k, kind in enumerate(kinds.tolist()):
        a, b, c = kind[:axes], kind[axes : 2 * axes], kind[2 * axes :]
        if any(q <= p for p, q in zip(a, b, strict=True)):
            continue
        there = (slice(None), *(slice(p, q) for p, q in zip(a, b, strict=True)))
        here = (slice(None), *(slice(p, p + t - s) for p, s, t in zip(c, a, b, strict=True)))
        mine = np.flatnonzero(which == k)
        rows: Any = slice(None) if len(mine) == len(which) else int(mine[0]) if len(mine) == 1 else torch.from_numpy(mine).to(into.device)
        into[(rows, *there)] = part[(rows, *here)]


def joined(helds: Sequence[Held]) -> tuple[Starts, tuple[int, ...]]:
    """Where the parts of several values lie together: (start, size)."""
    known = [(h.start, np.array(h.part.shape[2:])) for h in helds if h.start is not None and h.part is not None]
    start, size = known[0]
    if all(np.array_equal(s, start) and np.array_equal(z, size) for s, z in known[1:]):
        return start, tuple(size.tolist())
    start = np.min([s for s, _ in known], 0)
    size = (np.max([s + z for s, z in known], 0) - start).max(0)
    return np.minimum(start, np.array(helds[0].space) - size), tuple(size.tolist())


# ---------------------------------------------------------------- operations


@dataclass(frozen=True)
class Slide:
    """A convolution or pooling: `run` gives it without padding; `pads` are what it puts around, filled with `fill`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    fill: float
    run: Callable[[Tensor], Tensor]
    work: int
    """Products for each value that comes out."""

    def padded(self, base: Tensor) -> Tensor:
        """The input with what is put around it."""
        flat = [p for pair in reversed(self.pads) for p in pair]
        return torch.nn.functional.pad(base, flat, value=self.fill) if any(flat) else base

    def reach(self, start: Starts, size: tuple[int, ...], space: tuple[int, ...]) -> tuple[Starts, tuple[int, ...]]:
        """Which outputs see that part of the input: (start, size), of one size for all windows."""
        left = np.array([p for p, _ in self.pads])
        span, step = (np.array(self.kernel) - 1) * np.array(self.dilation), np.array(self.stride)
        last = np.array(space) - 1
        low = np.clip(-((span - start - left) // step), 0, last)
        high = np.clip((start + np.array(size) - 1 + left) // step, low, last)
        out = (high - low + 1).max(0)
        return np.minimum(low, last + 1 - out), tuple(out.tolist())

    def reads(self, start: Starts, size: tuple[int, ...]) -> tuple[Starts, tuple[int, ...]]:
        """Which part of the padded input those outputs are computed from."""
        step, span = np.array(self.stride), (np.array(self.kernel) - 1) * np.array(self.dilation)
        return start * step, tuple(((np.array(size) - 1) * step + span + 1).tolist())


def slide(name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slide | None:
    """What a call is as a sliding window; None where it is none that is known."""
    if name in ("conv1d", "conv2d", "conv3d"):
        return _convolution(int(name[4]), f, args, kwargs)
    if name in ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"):
        return _pooling(name, int(name[8]), f, args, kwargs)
    return None


def _convolution(axes: int, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slide | None:
    x, w, b, stride, padding, dilation, groups = _bound({"input": None, "weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}, args, kwargs)
    if x.ndim != axes + 2:
        return None
    kernel, stride, dilation = tuple(w.shape[2:]), _each(stride, axes), _each(dilation, axes)
    if padding == "same":
        both = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = tuple((p // 2, p - p // 2) for p in both)
    else:
        pads = tuple((p, p) for p in _each(0 if padding == "valid" else padding, axes))
    return Slide(kernel, stride, dilation, pads, 0.0, lambda t: f(t, w, b, stride, 0, dilation, groups), w[0].numel())


def _pooling(name: str, axes: int, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Slide | None:
    most = name.startswith("max")
    more = {"dilation": 1, "ceil_mode": False, "return_indices": False} if most else {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
    x, kernel, stride, padding, *rest = _bound({"input": None, "kernel_size": None, "stride": None, "padding": 0} | more, args, kwargs)
    ceil = rest[1] if most else rest[0]
    pads = tuple((p, p) for p in _each(padding, axes))
    if x.ndim != axes + 2 or ceil or (rest[2] if most else not rest[1] and any(map(any, pads))):
        return None
    kernel = _each(kernel, axes)
    stride = _each(stride, axes) if stride not in (None, [], ()) else kernel
    if most:
        dilation = _each(rest[0], axes)
        return Slide(kernel, stride, dilation, pads, -torch.inf, lambda t: f(t, kernel, stride, 0, dilation), 1)
    tail = (False, True) if axes == 1 else (False, True, rest[2])
    return Slide(kernel, stride, (1,) * axes, pads, 0.0, lambda t: f(t, kernel, stride, 0, *tail), 1)


def _bound(names: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [args[i] if i < len(args) else kwargs.get(n, default) for i, (n, default) in enumerate(names.items())]


def _each(v: Any, axes: int) -> tuple[int, ...]:
    return (int(v),) * axes if isinstance(v, int) else tuple(v) if len(v) == axes else tuple(v) * axes


def left_pads(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    """How far a padding with a constant moves each axis of space; None for any other."""
    x, pad, mode, _ = _bound({"input": None, "pad": None, "mode": "constant", "value": None}, args, kwargs)
    axes = x.ndim - 2
    flat = list(pad) + [0] * (2 * x.ndim - len(pad))
    if mode != "constant" or min(flat) < 0 or any(flat[2 * axes :]):
        return None
    return tuple(flat[2 * i] for i in reversed(range(axes)))


def writes(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call writes on its first argument."""
    if canonical(f)[1] or kwargs.get("inplace"):
        return True
    if isinstance(f, types.FunctionType) and "inplace" in (names := _signature(f).parameters):
        at = list(names).index("inplace")
        return len(args) > at and bool(args[at])
    return False


def still(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the call hands its argument on as it is."""
    if name in SAME:
        return name == "contiguous" or (not kwargs and len(args) == 1)
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
    return name in DROPOUTS and training is False
