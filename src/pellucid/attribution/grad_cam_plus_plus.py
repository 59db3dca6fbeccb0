"""Grad-CAM++: gradients weighted by how alone they stand."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(ActivationMap):
    """Where did the network look, when the same thing is there several times?

    How: ReLU of the sum over channels of w_c A_c with w_c = sum over positions of a ReLU(g) and a = g^2 / (2 g^2 + sum(A_c) g^3),
    which is 1 / (2 + sum(A_c) g) wherever g is not 0: no small number is added, and nothing is lost where gradients are tiny.
    a is 0 where g or the denominator is.
    Units: activation times target units over input; maps are one channel, unsigned unless `relu=False`.
    Misleads when: activations may be negative: the denominator then passes through zero, and a position there drowns the others.
    Source: Chattopadhyay, Sarkar, Howlader, Balasubramanian 2017, arXiv:1710.11063.
    """

    card = Card(title="Grad-CAM++", paper="arXiv:1710.11063", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        g, h = seen.g, seen.h
        below = 2 + h.sum((2, 3), keepdim=True) * g
        alone = torch.where(below == 0, 0, 1 / below)
        return (alone * g.relu()).sum((2, 3), keepdim=True) * h
