"""Top-k overlap: how well do the top of the map and the region cover each other?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share, top_inside
from ._told import told


@dataclass(frozen=True, kw_only=True)
class TopKIou(Metric):
    """How well do the top of the map and the region cover each other?

    How: intersection over union of the k largest values and the region; k is a share of all places, or the region's size (0).
    Units: 0 to 1. Higher is better.
    Chance: k m / (k + m - k m) for shares k and m of the picture.
    Misleads when: k is not the region's size: then 1 cannot be reached; the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Theiner et al., 2021 (top-k intersection); Zhang et al., 2018.
    """

    card = Card(title="Top-k overlap", paper="arXiv:2009.13989", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")
    top: float = param(0.0, "share of all places at the top of the map; 0: as many as the region has", ge=0, le=1)

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "top-k-iou")
        size = r.inside.sum(1)
        count = size if self.top == 0 else torch.full_like(size, max(1, round(self.top * r.values.shape[1])))
        both = top_inside(r, count)
        return told(share(both, (count + size) - both), "Overlap of the top of the map with the region", why="the mask is empty")
