"""CAM: the classifier's own weights over the last channels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise
from ..core.errors import NotApplicable
from ..core.procedure import Values
from ..core.question import Question
from ..core.rules import Call, Rules
from ..core.tree import leaves
from ._cam import ActivationMap, Seen

NEAR = 1e-3
"""How exact a linear head must be, which leaves room for single precision; half precision gets sixteen of its steps."""


@dataclass(frozen=True, kw_only=True)
class CAM(ActivationMap):
    """Which positions does this network add up to its answer?

    How: in a network that ends with a mean over space and a linear layer, the target is b + mean over positions of M with M = sum of w_c A_c, w_c being the
    class's weights: no approximation. The weights are read off the gradient; every operation after the layer is looked at, and one that is not linear refused by name.
    Units: target units; the map's mean over positions is the target less its bias. Maps are one channel and signed.
    Misleads when: it cannot on such a head; but a cell sees more of the picture than the patch it is drawn on.
    Source: Zhou, Khosla, Lapedriza, Oliva, Torralba 2015, arXiv:1512.04150, equation 2.
    """

    card = Card(title="CAM", paper="arXiv:1512.04150", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        bent: list[str] = []
        slopes = leaves(seen.q.with_rules(_watching(bent)).grad())[0]
        g, h = seen.planes(slopes), seen.planes(seen.point)
        if bent or not _even(g, seen.point.dtype):
            met = f" ({', '.join(dict.fromkeys(bent))})" if bent else " that weighs its positions differently"
            raise NotApplicable(f"CAM needs a network that ends with a mean over space and a linear layer, seen at the layer before the mean and without softmax; "
                                f"{seen.q.at} of {seen.q.model.name} is followed by something else on its grid{met}. Use hi-res-cam or grad-cam, or give the layer (at=...).")
        return g.sum((2, 3), keepdim=True) * h


def _even(g: Tensor, dtype: torch.dtype) -> bool:
    """Whether every position is weighed alike, and none by nothing."""
    near, size = max(NEAR, 16 * torch.finfo(dtype).eps), g.abs().amax((1, 2, 3))
    return bool((((g - g.mean((2, 3), keepdim=True)).abs().amax((1, 2, 3)) <= near * size) & (size > 0)).all())


def _watching(bent: list[str]) -> Rules:
    """Plain gradients that tell of every operation on the way which is not linear in what it was given."""

    def watch(c: Call) -> Tensor:
        out = c.native()
        straight = (c.kind == "product" and len(c.live()) < 2) or (c.kind == "pointwise" and out.shape == c.args[0].shape and torch.equal(out, c.args[0]))
        if not straight:
            bent.append(c.name)
        return out

    return Rules(pointwise=watch, product=watch, scale=watch, softmax=watch, max=watch, counted=False, fold=False)
