"""Relevance mass accuracy: how much of the map's mass lies inside the region?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share
from ._told import told


@dataclass(frozen=True, kw_only=True)
class RelevanceMass(Metric):
    """How much of the map's mass lies inside the region?

    How: mass inside / mass in all; the mass of a place is the size of its value, its square, or its positive part.
    Units: share. Higher is better.
    Chance: the share of the picture that the region covers, for a random map.
    Misleads when: the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Arras, Osman and Samek, 2022, equation 1.
    """

    card = Card(title="Relevance mass accuracy", paper="arXiv:2003.07258", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")
    pooling: str = param("absolute", "the mass of a place", choices=("absolute", "squared", "positive"))

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "relevance-mass")
        mass = r.values.clamp(min=0) if self.pooling == "positive" else r.values.square() if self.pooling == "squared" else r.values.abs()
        return told(share((mass * r.inside).sum(1), mass.sum(1)), "Share of the map's mass inside the region", why="nothing is positive, or the mask is empty")
