"""Grad-CAM: a layer's channels, weighted by their mean gradient."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ._layer import grid_of, last_spatial, picture_size, resized


@dataclass(frozen=True, kw_only=True)
class GradCAM(Method):
    """Where did the network look, at the resolution of its last spatial layer?

    How: ReLU of the sum over channels of activation times the channel's mean gradient.
    At the input (at=None) the layer is found, named in the result, and the map is enlarged to the picture;
    at a layer the map keeps the layer's grid. Class and register tokens are left out.
    Units: activation times target units over input; maps are one channel, unsigned unless `relu=False`.
    Misleads when: the evidence lies finer than the layer's cells, or several things in the picture drive the class.
    Source: Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2016, arXiv:1610.02391, equations 1 and 2.
    """

    card = Card(title="Grad-CAM", paper="arXiv:1610.02391", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row", signed=True)
    relu: bool = param(True, "keep only what speaks for the target")

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        if q.places:
            maps = self._map(q)
            return Values(maps, signed=not self.relu)
        layer = last_spatial(q)
        maps = self._map(q.at_layer(layer.name))
        size = picture_size(q)
        note = f"Grad-CAM looks at {layer.name} ({layer.kind}, {' x '.join(map(str, layer.shape or ()))})"
        return Values(resized(maps, size) if size else maps, notes=(note,), at=layer.name, signed=not self.relu)

    def _map(self, q: Question) -> Tensor:
        g, h = leaves(q.grad()), leaves(q.point)
        if len(h) != 1:
            raise NotApplicable(f"Grad-CAM looks at one layer; got {len(h)} places.")
        grid = grid_of(tuple(h[0].shape[1:]), picture_size(q))
        if grid is None:
            raise NotApplicable(f"Grad-CAM needs a layer with a spatial grid; {q.at} gives {tuple(h[0].shape[1:])} a row. Leave out at= to have the layer found.")
        planes, slopes = grid.planes(h[0]), grid.planes(g[0])
        maps = (slopes.mean((2, 3), keepdim=True) * planes).sum(1, keepdim=True)
        return maps.relu() if self.relu else maps

