"""LayerCAM: every position weighted by its own positive gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class LayerCAM(ActivationMap):
    """Where did the network look, also at early layers with their finer grids?

    How: ReLU of the sum over channels of ReLU(gradient) times activation. With `lift`, tanh(2 M / max M): the paper's scaling of early layers, whose maps
    are a few peaks. A list of layers (at=) is fused into one map.
    Units: activation times target units over input, 0 to 1 with `lift`; maps are one channel, unsigned unless `relu=False`.
    Misleads when: gradients of early layers are noise: their positive part is as noisy.
    Source: Jiang, Zhang, Hou, Cheng, Wei 2021, doi:10.1109/TIP.2021.3089943.
    """

    card = Card(title="LayerCAM", paper="doi:10.1109/TIP.2021.3089943", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")
    lift: bool = param(False, "lift the map of an early layer by tanh(2 M / max M)")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        maps = seen.g.relu() * seen.h
        if not self.lift:
            return maps
        maps = maps.sum(1, keepdim=True)
        peak = maps.amax((1, 2, 3), keepdim=True)
        return torch.where(peak > 0, torch.tanh(2 * maps / peak), maps)
