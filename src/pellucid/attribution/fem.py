"""FEM: where channels are far above their own mean."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class FEM(ActivationMap):
    """Where is the layer active beyond the ordinary, whatever the target?

    How: the sum over channels of mean(A_c) where A_c > mean + k standard deviations of the channel, 0 elsewhere. No gradient, no target: every class gets this map.
    Units: activation; maps are one channel.
    Misleads when: it is read as the reason for one class: it shows what stands out in the picture for the layer.
    Source: Fuad, Martin, Giot, Bourqui, Benois-Pineau, Zemmari 2020, doi:10.1109/IPTA50016.2020.9286629.
    """

    card = Card(title="FEM", paper="doi:10.1109/IPTA50016.2020.9286629", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row")
    k: float = param(2.0, "how far above a channel's mean counts as beyond the ordinary", ge=0, unit="standard deviations")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        mean = seen.h.mean((2, 3), keepdim=True)
        return mean * (seen.h > mean + self.k * seen.h.std((2, 3), correction=0, keepdim=True))
