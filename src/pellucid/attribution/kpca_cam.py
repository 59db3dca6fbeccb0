"""KPCA-CAM: Eigen-CAM with a kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen

MOST = 4096
"""Positions whose kernel matrix fits in memory."""


@dataclass(frozen=True, kw_only=True)
class KPCACAM(ActivationMap):
    """What does the layer mostly tell apart in this picture, by more than straight lines?

    How: every position's first kernel principal component, the kernel between positions being tanh(gamma <a, b> + 1) of their centred channels, itself centred.
    The map goes up where the sum over channels does. No gradient, no target: every class gets this map.
    Units: the kernel's; maps are one channel and signed.
    Misleads when: it is read as the reason for one class; or products of activations are large, where tanh is flat.
    Source: Karmani, Sivakaran, Prasad, Ali, Yang, Tang 2024, arXiv:2410.00267.
    """

    card = Card(title="KPCA-CAM", paper="arXiv:2410.00267", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row")
    gamma: float = param(0.0, "slope of the kernel; 0: one over the number of channels", ge=0)

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        m = seen.h.flatten(2).transpose(1, 2).double()
        if m.shape[1] > MOST:
            raise NotApplicable(f"KPCA-CAM compares all positions with all others and needs at most {MOST}; {seen.q.at} has {m.shape[1]}. Choose a later layer (at=...), or Eigen-CAM.")
        m = m - m.mean(1, keepdim=True)
        k = torch.tanh(m @ m.transpose(1, 2) * (self.gamma or 1 / m.shape[2]) + 1)
        k = k - k.mean(1, keepdim=True) - k.mean(2, keepdim=True) + k.mean((1, 2), keepdim=True)
        size, u = torch.linalg.eigh(k)
        map_ = u[:, :, -1] * size[:, -1:].clamp(min=0).sqrt()
        sign = torch.where((map_ * m.sum(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
        return (sign * map_).unflatten(1, seen.h.shape[2:])[:, None].to(seen.h.dtype)
