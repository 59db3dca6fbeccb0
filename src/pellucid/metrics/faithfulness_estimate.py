"""Faithfulness estimate: is a feature's value in line with what hiding it alone takes away?"""

from dataclasses import dataclass

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import cuts, places
from ._told import correlation, told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class FaithfulnessEstimate(Hiding):
    """Is a feature's value in line with what hiding it alone takes away?

    How: Pearson correlation over features of the value and the fall of the answer when that one feature is hidden; beyond `most` features, in groups of neighbours in the map's order.
    Units: correlation, -1 to 1. Higher is better.
    Chance: 0 for a random map.
    Misleads when: features are redundant: hiding one of two twins changes nothing.
    Source: Alvarez-Melis and Jaakkola, 2018; AI Explainability 360, `faithfulness_metric`.
    """

    card = Card(title="Faithfulness estimate", paper="arXiv:1806.07538", cost="one forward row a feature, at most `most`")
    most: int = param(256, "features, or groups of them, that are hidden one after the other", ge=2)
    fill: str = param("baseline", "what hidden features hold", choices=("baseline", "auto", "blur", "mean", "noise"))

    def score(self, e: Explanation) -> Scores:
        """The correlation, a row; NaN where the map or the answer never varies."""
        u = self.units(e)
        place, at = places(u), cuts(u.count, min(self.most, u.count))
        group = torch.bucketize(place, at[1:], right=True)
        n = len(at) - 1
        values = u.whole() - u.values(n, lambda s, rows: group[rows] == s[:, None])
        held = torch.zeros(u.size, n, dtype=torch.float64).scatter_add_(1, group, u.scores)
        live = torch.arange(n)[None] < u.counts()[:, None]
        found = [correlation(h[keep], v[keep]) for h, v, keep in zip(held, values.T, live, strict=True)]
        return told(torch.stack(found), "Correlation of values with what hiding each feature takes from the answer", why="the map or the answer does not vary")
