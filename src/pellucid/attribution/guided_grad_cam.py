"""Guided Grad-CAM: the edges of guided backprop, where Grad-CAM looks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable, UsageError
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ._layer import grid_of, picture_size, resized
from ._rectifiers import guided, through_rectifiers
from .grad_cam import GradCAM


@dataclass(frozen=True, kw_only=True)
class GuidedGradCAM(Method):
    """Which fine patterns does the network see in the places where it looks?

    How: guided backprop times the positive part of Grad-CAM, enlarged to the picture and divided by its largest value. The layer that Grad-CAM looks at is found
    and named, unless `through` names it; at a layer (at=...) both are taken there. The two need their own passes: one backward
    pass follows the rules of guided backprop, the other the plain gradient.
    Units: those of guided backprop, less where Grad-CAM sees less; the values sum to nothing in particular. Inputs that are no
    picture, and class tokens, get zero.
    Misleads when: it is taken for more than Grad-CAM: where to look comes from Grad-CAM alone, and the edges inside hardly depend
    on the class (Adebayo et al. 2018, arXiv:1810.03292).
    Source: Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2016, arXiv:1610.02391, section 3.3.
    """

    card = Card(title="Guided Grad-CAM", paper="arXiv:1610.02391", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="2 forward and 2 backward rows")
    through: Any = param(None, "the layer that Grad-CAM looks at, where the input is asked; none: the last that lies in space")

    def attribute(self, q: Question) -> Values:
        if picture_size(q) is None:
            raise NotApplicable("Guided Grad-CAM needs a picture as input, a grid (rows, channels, height, width); there is none. Use integrated-gradients.")
        if self.through is not None and q.places:
            raise UsageError(f"Guided Grad-CAM takes both of its parts at a layer; got at={q.at!r} and through={self.through!r}. Leave one of them out.")
        found = GradCAM().attribute(q if self.through is None else q.at_layer(self.through))
        edges, note = through_rectifiers(q, guided, self.card.title)
        values = q.pack([self._joined(g, found.values, picture_size(q)) for g in leaves(edges)])
        return Values(values, notes=(*found.notes, note), at=found.at)

    def _joined(self, g: Tensor, maps: Tensor, picture: tuple[int, int] | None) -> Tensor:
        """What guided backprop saw, times the map on its grid."""
        grid, out = grid_of(tuple(g.shape[1:]), picture), torch.zeros_like(g)
        if grid is not None:
            planes = grid.planes(g)
            maps = maps if maps.shape[2:] == planes.shape[2:] else resized(maps, tuple(planes.shape[2:]))
            grid.planes(out).copy_(planes * (maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)))
        return out
