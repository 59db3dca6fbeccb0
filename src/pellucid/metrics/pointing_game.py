"""Pointing game: does the highest point of the map lie inside the region?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share
from ._told import told


@dataclass(frozen=True, kw_only=True)
class PointingGame(Metric):
    """Does the highest point of the map lie inside the region?

    How: 1 where the largest value is inside the region, widened by `tolerance` pixels, 0 where it is not; where several places share the maximum, the share of them that is inside.
    Units: hit rate. Higher is better.
    Chance: the share of the picture that the widened region covers; a blob in the middle does better on centred photos.
    Misleads when: one pixel decides, and the tolerance is generous on small pictures; the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Zhang et al., 2018, section 4.2.
    """

    card = Card(title="Pointing game", paper="doi:10.1007/s11263-017-1059-x", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")
    tolerance: int = param(15, "distance from the region that is a hit", ge=0, unit="pixels")

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "pointing-game")
        inside = r.inside
        if self.tolerance and len(r.shape) == 2:
            inside = _widened(inside.reshape(-1, *r.shape), self.tolerance).flatten(1)
        top = r.values == r.values.amax(1, keepdim=True)
        return told(share((top & inside).sum(1).double(), top.sum(1).double()), "Rows whose highest point lies inside the region")


def _widened(inside: Tensor, reach: int) -> Tensor:
    """(B, H, W) all places within a circle of radius `reach` of the region."""
    step = torch.arange(-reach, reach + 1)
    disc = (step[:, None].square() + step.square() <= reach * reach).double()
    return functional.conv2d(inside[:, None].double(), disc[None, None], padding=reach)[:, 0] > 0.5
