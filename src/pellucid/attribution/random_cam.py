"""Random-CAM: channels with random weights, the control."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Values
from ..core.question import Question
from ..core.rows import row_seed
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class RandomCAM(ActivationMap):
    """What would a map of this layer look like that knows nothing of the target?

    How: the sum over channels of w_c A_c with w_c uniform between -1 and 1, drawn for each row by the seed and the row's name.
    A map that is no better than this one says where the layer is active, not what the answer rests on.
    Units: activation; maps are one channel and signed unless `relu`.
    Misleads when: it is read as an explanation: it is none.
    Source: Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam, RandomCAM.
    """

    card = Card(title="Random-CAM", paper="https://github.com/jacobgil/pytorch-grad-cam", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row", random=True)
    relu: bool = param(False, "keep only what is above zero")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return torch.stack([_draw(seen.q.seed, name, seen.h.shape[1]) for name in seen.q.ids]).to(seen.h)[:, :, None, None] * seen.h


def _draw(seed: int, row: object, n: int) -> Tensor:
    """(n,) uniform numbers from -1 to 1, the same wherever a row lies in a batch."""
    return torch.rand(n, generator=torch.Generator().manual_seed(row_seed(seed, row, 0)), dtype=torch.float64) * 2 - 1
