"""Element-wise CAM: what speaks for the target, channel by channel and position by position."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class ElementWiseCAM(ActivationMap):
    """Which positions of the layer hold anything that raises the target, whatever speaks against it there?

    How: the sum over channels of ReLU(activation times gradient). What lowers the target is dropped before the sum, not after it as in HiResCAM.
    Units: target units; maps are one channel and unsigned. They sum to no less than the target's linear part.
    Misleads when: evidence for and against lies in the same place, since only the former is counted.
    Source: Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam, GradCAMElementWise.
    """

    card = Card(title="Element-wise CAM", paper="https://github.com/jacobgil/pytorch-grad-cam", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu = True

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return (seen.g * seen.h).relu()
