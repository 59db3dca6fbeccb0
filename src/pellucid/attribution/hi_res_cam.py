"""HiResCAM: gradient times activation, position by position."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class HiResCAM(ActivationMap):
    """Which positions of the layer raised the target, without averaging gradients over space?

    How: ReLU of the sum over channels of activation times gradient. Where all that follows is linear, the map without ReLU sums to the target less its bias.
    Units: target units; maps are one channel, unsigned unless `relu=False`.
    Misleads when: what follows the layer is far from linear: it is then activation times gradient, with all that this misses.
    Source: Draelos, Carin 2020, arXiv:2011.08891.
    """

    card = Card(title="HiResCAM", paper="arXiv:2011.08891", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return seen.g * seen.h
