"""Shapley-CAM: the gradient and half the curvature, as a Shapley value to second order."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ..core.tree import leaves
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class ShapleyCAM(ActivationMap):
    """Where did the network look, when channels' Shapley values are taken to second order?

    How: ReLU of the sum over channels of w_c A_c with w_c = mean(g - H A / 2), H the Hessian of the target at the layer: the second order of a Taylor
    expansion of what a channel adds to all coalitions. H A is one exact Hessian-vector product; Grad-CAM is the first order.
    Units: activation times target units over input; maps are one channel, unsigned unless `relu=False`.
    Misleads when: what follows the layer is piecewise linear (ReLU): its curvature is zero almost everywhere, and this is Grad-CAM.
    Source: Cai 2025, arXiv:2501.06261. The paper's target, a logit less its cross-entropy, is a callable target.
    """

    card = Card(title="Shapley-CAM", paper="arXiv:2501.06261", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 2 backward rows")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        slopes, bent = seen.q.curvature()
        return seen.planes(leaves(slopes)[0] - leaves(bent)[0] / 2).mean((2, 3), keepdim=True) * seen.planes(seen.point)
