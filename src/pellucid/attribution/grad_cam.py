"""Grad-CAM: a layer's channels, weighted by their mean gradient."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class GradCAM(ActivationMap):
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

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return seen.g.mean((2, 3), keepdim=True) * seen.h
