"""Occlusion: the drop of the target when a window is replaced by the baseline."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.incremental import values_inside
from ..core.points import Points
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves

Box = tuple[tuple[int, int], ...]
"""(start, stop) along every axis of one row."""


@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    """How much does the answer fall when this part is hidden?

    How: a window slides over the point; each value is the mean drop f(z) - f(z without the window) over the windows that
    cover it. Windows span all channels; those at the far edge are cut to fit. On a convolutional network only what a window
    reaches is computed again where that is cheaper (CPU, at the input); a window counts as one forward row either way.
    Units: target units a window; the values sum to nothing in particular.
    Misleads when: the baseline makes a picture the model was never trained on, or parts stand in for one another.
    Source: Zeiler, Fergus 2013, arXiv:1311.2901, section 4.2.
    """

    card = Card(title="Occlusion", paper="arXiv:1311.2901", needs=Needs.VALUE, promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT, cost="1 forward row a window", baseline=True)
    window: Any = param("auto", "size of the window, one number or one an axis; auto: a seventh of a picture, one column of a table", ge=1)
    stride: Any = param("auto", "step of the window, one number or one an axis; auto: half the window", ge=1)
    incremental: str = param("auto", "whether only what a window reaches is computed again: where it pays, always where it is exact, or never", choices=("auto", "always", "never"))

    def attribute(self, q: Question) -> Values:
        parts = leaves(q.point)
        return Values(q.pack([self._slide(q, i) for i in range(len(parts))]))

    def _slide(self, q: Question, part: int) -> Tensor:
        """The map of one of the point's tensors; the others stay as they are."""
        parts, start = leaves(q.point), leaves(q.start)
        z, z0 = parts[part], start[part]
        boxes = self.boxes(tuple(z.shape[1:]))
        edges = torch.tensor(boxes, device=z.device)

        def make(s: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
            hidden = _inside(edges[s], z.shape[1:])
            return tuple(torch.where(hidden, z0[rows], z[rows]) if i == part else p[rows] for i, p in enumerate(parts))

        drop = q.target_values() - values_inside(q, Points(len(boxes), make), edges, self.incremental)
        return _spread(drop, boxes, z)

    def boxes(self, shape: tuple[int, ...]) -> list[Box]:
        """All windows over one row of this shape."""
        window, stride = self._sizes(shape)
        return list(itertools.product(*(_slots(n, w, s) for n, w, s in zip(shape, window, stride, strict=True))))

    def _sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Window and stride along every axis of a row."""
        lead, space = _axes(shape)
        auto = tuple(max(1, round(n / 7)) for n in space) if len(space) > 1 else (1,) * len(space)
        window = _each_axis("window", self.window, space, auto)
        stride = _each_axis("stride", self.stride, space, tuple(max(1, w // 2) for w in window))
        if any(s > w for s, w in zip(stride, window, strict=True)):
            raise UsageError(f"Occlusion needs a stride no larger than the window, so that nothing is left out; got stride {stride} and window {window}.")
        whole = shape[lead[0] : lead[1]]
        return (whole + window, whole + stride) if lead[0] == 0 else (window + whole, stride + whole)


def _axes(shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(range of the axis that a window spans whole, axes it slides over): channels of a picture, features of a position."""
    if len(shape) >= 3:
        return (0, 1), shape[1:]
    if len(shape) == 2:
        return (1, 2), shape[:1]
    return (0, 0), shape


def _each_axis(name: str, given: Any, space: tuple[int, ...], auto: tuple[int, ...]) -> tuple[int, ...]:
    if given == "auto":
        return auto
    sizes = (given,) * len(space) if isinstance(given, int) else tuple(given)
    if len(sizes) != len(space) or any(not isinstance(s, int) or s < 1 for s in sizes):
        raise UsageError(f"Occlusion needs {name} as one whole number of at least 1, or one for each of the {len(space)} axes {space}; got {given!r}.")
    return tuple(min(s, n) for s, n in zip(sizes, space, strict=True))


def _slots(n: int, window: int, stride: int) -> list[tuple[int, int]]:
    count = math.ceil((n - window) / stride) + 1
    return [(i * stride, min(i * stride + window, n)) for i in range(count)]


def _inside(edges: Tensor, shape: torch.Size) -> Tensor:
    """(k, *shape) whether a position lies in its window."""
    inside = torch.ones(len(edges), *[1] * len(shape), dtype=torch.bool, device=edges.device)
    for axis, n in enumerate(shape):
        along = torch.arange(n, device=edges.device)
        here = (along >= edges[:, axis, :1]) & (along < edges[:, axis, 1:])
        inside = inside & here.reshape(len(edges), *[n if a == axis else 1 for a in range(len(shape))])
    return inside


def _spread(drop: Tensor, boxes: list[Box], z: Tensor) -> Tensor:
    """The mean drop over the windows that cover each position."""
    total = torch.zeros(z.shape, dtype=torch.promote_types(drop.dtype, torch.float32), device=z.device)
    count = torch.zeros(z.shape[1:], device=z.device)
    for d, box in zip(drop, boxes, strict=True):
        where = tuple(slice(a, b) for a, b in box)
        total[(slice(None), *where)] += d.reshape(-1, *[1] * len(box)).to(total.dtype)
        count[where] += 1
    return (total / count).to(z.dtype)
