"""EigenGrad-CAM: the first component of gradient times activation."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen
from ._principal import first_component


@dataclass(frozen=True, kw_only=True)
class EigenGradCAM(ActivationMap):
    """What is the main pattern in what the layer's positions add to this target?

    How: activation times gradient at every position, projected on the first right singular vector of the centred (positions x channels) matrix, up where
    the sum over channels (HiResCAM) is; then ReLU.
    Units: target units, up to the rotation of channels; maps are one channel, unsigned unless `relu=False`. Zero is the mean over positions.
    Misleads when: the second component is about as large: which of the two is drawn is then a matter of chance.
    Source: Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam, EigenGradCAM.
    """

    card = Card(title="EigenGrad-CAM", paper="https://github.com/jacobgil/pytorch-grad-cam", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return first_component(seen.g * seen.h)
