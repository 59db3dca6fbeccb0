"""Class activation maps: one function of a layer's activations and gradients. Finding the layer, enlarging and fusing are done here."""

import functools
from typing import ClassVar

import torch
from torch import Tensor

from ..core.card import Needs
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ._layer import Grid, grid_of, last_spatial, picture_size, resized


class Seen:
    """One layer as a map looks at it: activations `h` and gradients `g`, both (B, C, height, width) in single precision or better."""

    def __init__(self, q: Question, title: str, gradient: bool) -> None:
        self.q, self.title, self.gradient = q, title, gradient
        self.notes: list[str] = []

    @functools.cached_property
    def grid(self) -> Grid:
        """Where the layer's values lie in space."""
        shape = tuple(self.point.shape[1:])
        grid = grid_of(shape, picture_size(self.q))
        if grid is None:
            raise NotApplicable(f"{self.title} needs a layer with a spatial grid; {self.q.at} gives {shape} a row. Leave out at= to have the layer found.")
        return grid

    @functools.cached_property
    def g(self) -> Tensor:
        """Gradients of the target."""
        slopes = leaves(self.q.grad())[0]
        return self.planes(slopes)

    @functools.cached_property
    def h(self) -> Tensor:
        """Activations. Where gradients are wanted too they come first: one forward pass gives both."""
        if self.gradient:
            _ = self.g
        return self.planes(self.point)

    @property
    def point(self) -> Tensor:
        """The layer's value as the layer gives it, class token and all."""
        return leaves(self.q.point)[0]

    def planes(self, t: Tensor) -> Tensor:
        """A value of the layer's shape on its grid, wide enough for sums."""
        planes = self.grid.planes(t)
        return planes.float() if t.dtype in (torch.float16, torch.bfloat16) else planes


class ActivationMap(Method):
    """What all class activation maps share. A map's file gives `channels`; their sum is the map.

    At the input the layer is found: the last one on the way to the target that still lies in space (see `_layer.py`). It is named
    in the result, and the map is enlarged to the picture. At a layer the map keeps the layer's grid. With a list of layers each
    layer's map is divided by its largest magnitude and enlarged to the picture, and their mean is given; each layer is asked alone.
    """

    relu: ClassVar[bool] = False

    def channels(self, seen: Seen) -> Tensor:
        """(B, C, height, width): what each channel adds to the map."""
        raise NotImplementedError

    def shaped(self, q: Question) -> None:
        return None

    def drawn(self, q: Question) -> Values:
        """The map at the question's place, of several places fused, or of the layer that is found."""
        size = picture_size(q)
        if len(q.places) > 1:
            return self._fused(q, size)
        if q.places:
            maps, notes = self.map(q)
            return Values(maps, notes=notes, signed=not self.relu)
        layer = last_spatial(q, self.card.title)
        maps, notes = self.map(q.at_layer(layer.name))
        note = f"{self.card.title} looks at {layer.name} ({layer.kind}, {' x '.join(map(str, layer.shape or ()))})"
        return Values(resized(maps, size) if size else maps, notes=(note, *notes), at=layer.name, signed=not self.relu)

    def map(self, q: Question) -> tuple[Tensor, tuple[str, ...]]:
        """(B, 1, height, width) on the grid of the question's one place, and what there is to tell of it."""
        seen = Seen(q, self.card.title, Needs.GRADIENT in self.card.needs)
        maps = self.channels(seen).sum(1, keepdim=True)
        return (maps.relu() if self.relu else maps).to(seen.point.dtype), tuple(seen.notes)

    def _fused(self, q: Question, size: tuple[int, int] | None) -> Values:
        found = [self.map(_alone(q, i)) for i in range(len(q.places))]
        size = size or max((tuple(m.shape[2:]) for m, _ in found), key=lambda s: s[0] * s[1])
        maps = [resized(m / m.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(m.dtype).tiny), size) for m, _ in found]
        note = f"the mean over {len(maps)} layers, each map divided by its largest magnitude"
        return Values(torch.stack(maps).mean(0), notes=(note, *(n for _, notes in found for n in notes)), signed=not self.relu)


def _alone(q: Question, i: int) -> Question:
    """The question at one of its places, all read off one pass: seen together, a later layer would hide an earlier one."""
    return q.at_layer(q.places[i]).with_point(leaves(q.point)[i])
