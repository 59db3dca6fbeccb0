"""Eigen-CAM: the direction in which a layer's positions differ most."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen
from ._principal import first_component


@dataclass(frozen=True, kw_only=True)
class EigenCAM(ActivationMap):
    """What does the layer mostly tell apart in this picture, whatever the target?

    How: every position's channels projected on the first right singular vector of the (positions x channels) matrix. An eigenvector has no sign of its own:
    the map goes up where the sum over channels does. No gradient, no target: every class gets this map.
    Units: activation; maps are one channel and signed.
    Misleads when: it is read as the reason for one class: it shows what is largest in the layer.
    Source: Muhammad, Yeasin 2020, arXiv:2008.00299. `centred` is not in the paper; without it the first vector is close to the channels' mean.
    """

    card = Card(title="Eigen-CAM", paper="arXiv:2008.00299", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row")
    centred: bool = param(True, "subtract each channel's mean over positions first")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return first_component(seen.h, self.centred)
