"""XGrad-CAM: gradients averaged where the channel is active."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class XGradCAM(ActivationMap):
    """Where did the network look, with each channel's gradient taken where that channel is active?

    How: ReLU of the sum over channels of w_c A_c with w_c = sum(g A_c) / sum(A_c), the weights that best keep the sum of activation times gradient
    (axioms of sensitivity and conservation). A channel that sums to 0 has weight 0.
    Units: activation times target units over input; without ReLU the map sums to the sum of activation times gradient.
    Misleads when: activations may be negative: a channel whose sum is near zero gets a weight without bounds.
    Source: Fu, Hu, Dong, Guo, Gao, Li 2020, arXiv:2008.02312.
    """

    card = Card(title="XGrad-CAM", paper="arXiv:2008.02312", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        g, h = seen.g, seen.h
        whole = h.sum((2, 3), keepdim=True)
        return torch.where(whole == 0, 0, (g * h).sum((2, 3), keepdim=True) / whole) * h
