"""Which layer a class activation map looks at, and the grid its values lie on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Needs
from ..core.errors import NotApplicable
from ..core.model import LayerInfo
from ..core.question import Question
from ..core.tree import leaves


@dataclass(frozen=True)
class Grid:
    """How a layer's value lies in space: channels first, channels last, or tokens in a sequence."""

    kind: str
    height: int
    width: int
    skip: int = 0

    def planes(self, h: Tensor) -> Tensor:
        """(B, C, height, width) of a layer's value: a view, so that writing into it writes into `h`."""
        if self.kind == "channels first":
            return h
        if self.kind == "channels last":
            return h.permute(0, 3, 1, 2)
        return h[:, self.skip :].transpose(1, 2).unflatten(2, (self.height, self.width))


def last_spatial(q: Question, title: str) -> LayerInfo:
    """The last layer on the way to the target whose value still lies in space, and is not the whole answer itself.

    Some lead nowhere: behind the last attention all tokens but the class token, and the first of several tensors that a layer gives beside
    their mean. Those are tried with the first row, one gradient a layer; of tokens, layers as wide as the last one.
    """
    found = _spatial(q)
    if not found:
        raise NotApplicable(f"{title} needs a layer with a spatial grid of at least 2 x 2 before the target; {q.model.name} has none on this input. Use integrated-gradients or occlusion.")
    last = found[-1][0]
    for info, grid in reversed(found):
        if not grid.skip and info.parts == 1:
            return info
        if (not grid.skip or info.shape[-1:] == last.shape[-1:]) and _alive(q, info.name, grid):  # type: ignore[index]
            return info
    return last


def _spatial(q: Question) -> list[tuple[LayerInfo, Grid]]:
    """Every layer before the target that has a grid, in the order of the forward pass."""
    size, whole = picture_size(q), q.model.output_shape(q.x)
    found = []
    for info in q.model.layers(q.x):
        if q.engine.read is not None and info.name == q.engine.read.layer:
            break
        grid = grid_of(info.shape, size) if info.shape is not None else None
        if info.calls == 1 and grid is not None and info.shape != whole:
            found.append((info, grid))
    return found


def _alive(q: Question, name: str, grid: Grid) -> bool:
    """Whether the target depends on the grid there, as far as its gradient can be asked for."""
    if Needs.GRADIENT not in q.model.can:
        return True
    try:
        g = leaves(q.take(torch.zeros(1, dtype=torch.long)).at_layer(name).grad())[0]
    except NotApplicable:
        return False
    return bool(grid.planes(g).any())


def picture_size(q: Question) -> tuple[int, int] | None:
    """Height and width of the input picture; None where there is none."""
    pictures = [t for t in leaves(q.x) if isinstance(t, Tensor) and t.ndim == 4]
    return (int(pictures[0].shape[2]), int(pictures[0].shape[3])) if pictures else None


def grid_of(shape: Sequence[int], picture: tuple[int, int] | None) -> Grid | None:
    """The grid of a layer's value for one row, or None where it has none."""
    if len(shape) == 3:
        return _planes(shape, picture)
    if len(shape) == 2 and picture is not None:
        return _tokens(int(shape[0]), picture)
    return None


def _planes(shape: Sequence[int], picture: tuple[int, int] | None) -> Grid | None:
    first, last = (int(shape[1]), int(shape[2])), (int(shape[0]), int(shape[1]))
    ratio = picture[0] / picture[1] if picture else 1.0
    skew = lambda g: abs(math.log(max(g[0], 1) / max(g[1], 1) / ratio))  # noqa: E731
    if min(last) > 1 and shape[2] > shape[0] and skew(last) < skew(first) - 0.2:
        return Grid("channels last", *last)
    return Grid("channels first", *first) if min(first) > 1 else None


def _tokens(n: int, picture: tuple[int, int]) -> Grid | None:
    """A grid of the picture's proportions, after at most 8 class and register tokens."""
    ratio = picture[0] / picture[1]
    for skip in range(9):
        h = round(math.sqrt((n - skip) * ratio)) if n > skip else 0
        if h > 1 and (n - skip) % h == 0 and abs(h / ((n - skip) // h) / ratio - 1) < 0.02 and (n - skip) // h > 1:
            return Grid("tokens", h, (n - skip) // h, skip)
    return None


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) maps at the size of the picture."""
    wide = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
    return torch.nn.functional.interpolate(wide, size=size, mode="bilinear", align_corners=False).to(maps.dtype)
