"""Energy-based pointing game: how much of the map's positive part lies inside the region?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share
from ._told import told


@dataclass(frozen=True, kw_only=True)
class EnergyPointingGame(Metric):
    """How much of the map's positive part lies inside the region?

    How: sum of the positive values inside / sum of all positive values.
    Units: share. Higher is better.
    Chance: the share of the picture that the region covers.
    Misleads when: the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Wang et al., 2020 (Score-CAM), section 4.3.
    """

    card = Card(title="Energy-based pointing game", paper="arXiv:1910.01279", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "energy-pointing-game")
        positive = r.values.clamp(min=0)
        return told(share((positive * r.inside).sum(1), positive.sum(1)), "Share of the map's positive part inside the region", why="nothing is positive, or the mask is empty")
