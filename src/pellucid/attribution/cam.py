"""CAM: the classifier's own weights over the last channels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise
from ..core.errors import NotApplicable
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen

NEAR = 1e-3
"""How exact a linear head must be, which leaves room for single precision; half precision gets sixteen of its steps."""


@dataclass(frozen=True, kw_only=True)
class CAM(ActivationMap):
    """Which positions does this network add up to its answer?

    How: in a network that ends with a mean over space and a linear layer, the target is b + mean over positions of M with M = sum of w_c A_c, w_c being the
    class's weights: no approximation. The weights are read off the gradient, and that the target is so built is checked at two other points of the layer.
    Units: target units; the map's mean over positions is the target less its bias. Maps are one channel and signed.
    Misleads when: it cannot on such a head; but a cell sees more of the picture than the patch it is drawn on.
    Source: Zhou, Khosla, Lapedriza, Oliva, Torralba 2015, arXiv:1512.04150, equation 2.
    """

    card = Card(title="CAM", paper="arXiv:1512.04150", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="3 forward and 1 backward rows")

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        g, h = seen.g, seen.h
        if not self._linear(seen):
            raise NotApplicable(f"CAM needs a network that ends with a mean over space and a linear layer, seen at the layer before the mean and without softmax; "
                                f"{seen.q.at} of {seen.q.model.name} is followed by something else on its grid. Use hi-res-cam or grad-cam, or give the layer (at=...).")
        return g.sum((2, 3), keepdim=True) * h

    def _linear(self, seen: Seen) -> bool:
        """Whether the target is the same linear function of every position: gradients are even, and it is met with the layer at 0 and at twice its value."""
        g, rise = seen.g, (seen.g * seen.h).sum((1, 2, 3))
        rounding = 16 * torch.finfo(seen.point.dtype).eps
        near = max(NEAR, rounding)
        size = g.abs().amax((1, 2, 3))
        even = ((g - g.mean((2, 3), keepdim=True)).abs().amax((1, 2, 3)) <= near * size) & (size > 0)
        ends = seen.point.expand(2, *seen.point.shape).clone()
        for end, factor in zip(ends, (0, 2), strict=True):
            seen.grid.planes(end).mul_(factor)
        f = seen.q.target_values().to(rise)
        steps = seen.q.value(ends).to(rise) - f
        return bool(even.all()) and all(((s - r).abs() <= near * r.abs() + rounding * f.abs()).all() for s, r in zip(steps, (-rise, rise), strict=True))
