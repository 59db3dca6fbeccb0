"""LIFT-CAM: channels weighted by what DeepLIFT says each contributes."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ..core.tree import leaves
from ._cam import ActivationMap, Seen
from ._secant import RESCALE
from .deep_lift import cancelling, multipliers


@dataclass(frozen=True, kw_only=True)
class LiftCAM(ActivationMap):
    """Where did the network look, each channel weighted by its share in the answer?

    How: ReLU of the sum over channels of w_c A_c with w_c the channel's DeepLIFT contribution, against the layer's grid at 0: an estimate of its Shapley
    value from one backward pass, where Ablation-CAM runs the network once a channel. The weights sum to f(A) - f(0).
    Units: activation times target units; maps are one channel, unsigned unless `relu=False`.
    Misleads when: channels work together so strongly that no single pass can split their effect; or what follows divides by nearly nothing where
    the layer is empty (a normalization), so that shares are huge and cancel: a note says so.
    Source: Jung, Oh 2021, arXiv:2102.05228.
    """

    card = Card(title="LIFT-CAM", paper="arXiv:2102.05228", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="3 forward and 1 backward rows")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        empty = seen.point.clone()
        seen.grid.planes(empty).zero_()
        slopes = multipliers(seen.q, empty, RESCALE)
        h = seen.planes(seen.point)
        share = seen.planes(leaves(slopes)[0]) * h
        seen.notes.extend(cancelling(share))
        return share.sum((2, 3), keepdim=True) * h
