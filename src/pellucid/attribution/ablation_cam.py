"""Ablation-CAM: what the target loses without each channel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.points import Points
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class AblationCAM(ActivationMap):
    """Where did the network look, each channel weighted by what the answer loses when it is switched off?

    How: ReLU of the sum over channels of w_c A_c with w_c = f - f(channel c set to 0). No gradient: saturated answers are no trouble. Only what
    lies above the layer is run again, and the model is not touched. On tokens the class token keeps its channel.
    Units: activation times target units; maps are one channel, unsigned unless `relu=False`. The paper divides by f, which would turn the map over where f is negative.
    Misleads when: channels stand in for one another: each alone is then missed by nobody.
    Source: Desai, Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360.
    """

    card = Card(title="Ablation-CAM", paper="doi:10.1109/WACV45572.2020.9093360", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row a channel, above the layer")
    relu: bool = param(True, "keep only what speaks for the target")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        point, h = seen.point, seen.h

        def without(s: Tensor, rows: Tensor) -> Tensor:
            z = point[rows]
            seen.grid.planes(z)[torch.arange(len(s)), s] = 0
            return z

        left = seen.q.value(Points(h.shape[1], without))
        return (seen.q.target_values() - left).T[:, :, None, None].to(h.dtype) * h
