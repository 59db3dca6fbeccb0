"""Mean change: how far does small noise on the input change the map on average?"""

from dataclasses import dataclass

import torch

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._near import Moving, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class AvgSensitivity(Moving):
    """How far does small noise on the input change the map on average?

    How: the mean, over copies of the row moved by at most the radius, of |map of the copy - map| / |map|.
    Units: relative change of the map, Euclidean. Lower is steadier.
    Chance: a map that ignores the model scores 0, an edge map nearly so: steadiness is no sign of truth.
    Misleads when: read as quality; the radius decides the number, and maps of ReLU networks jump at kinks that the answer hardly feels.
    Source: Bhatt, Weller and Moura, 2020; Yeh et al., 2019.
    """

    card = Card(title="Mean change", paper="arXiv:1901.09392", better="lower", cost="draws more explanations", random=True)

    def score(self, e: Explanation) -> Scores:
        """The relative change, a row; NaN where no copy kept the prediction."""
        found = torch.cat(self.of_map(runnable(e, "avg-sensitivity"))).nanmean(0)
        return told(found, "Mean change of the map to small changes of the input", "lower", "every copy changed the prediction, or the map is empty")
