"""Relevance rank accuracy: of as many top places as the region has, how many lie inside it?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share, top_inside
from ._told import told


@dataclass(frozen=True, kw_only=True)
class RelevanceRank(Metric):
    """Of as many top places as the region has, how many lie inside it?

    How: the share of the k largest values that lie inside, k the size of the region. Ties at the last place count by their share inside.
    Units: share. Higher is better.
    Chance: the share of the picture that the region covers.
    Misleads when: the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Arras, Osman and Samek, 2022, equation 2.
    """

    card = Card(title="Relevance rank accuracy", paper="arXiv:2003.07258", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "relevance-rank")
        size = r.inside.sum(1)
        return told(share(top_inside(r, size), size.double()), "Share of the top places that lie inside the region", why="the mask is empty")
