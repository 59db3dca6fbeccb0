"""Monotonicity correlation: do larger values go with more that is unknown when the feature is?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._curves import cuts, places
from ._told import correlation, ranked, told
from ._units import drawn, units


@dataclass(frozen=True, kw_only=True)
class MonotonicityCorrelation(Metric):
    """Do larger values go with more that is uncertain of the answer when the feature is not known?

    How: Spearman's correlation over features of |value| and the mean squared change of the answer when the feature alone is drawn at random
    from its row's range; beyond `most` features, in groups of neighbours in the map's order.
    Units: rank correlation, -1 to 1. Higher is better.
    Chance: 0 for a random map.
    Misleads when: features are correlated in the data: drawn alone, they leave it.
    Source: Nguyen and Rodriguez Martinez, 2020, section 3.2.
    """

    card = Card(title="Monotonicity correlation", paper="arXiv:2007.07584", cost="draws forward rows a feature, at most `most` features", random=True)
    most: int = param(64, "features, or groups of them", ge=3)
    draws: int = param(10, "draws of each feature", ge=1)
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))
    masker: Any = param(None, "units to draw, as for game methods; None: pixels, columns, positions")

    def score(self, e: Explanation) -> Scores:
        """The rank correlation, a row; NaN where the map or the answer never varies."""
        u = units(e, "baseline", self.masker, self.answer)
        place, at = places(u), cuts(u.count, min(self.most, u.count))
        group = torch.bucketize(place, at[1:], right=True)
        n = len(at) - 1
        values = u.values(n * self.draws, lambda s, rows: group[rows] == s[:, None] // self.draws, lambda s, rows: drawn(u.q, s, rows))
        spread = (values - u.whole()).square().reshape(n, self.draws, u.size).mean(1)
        held = torch.zeros(u.size, n, dtype=torch.float64).scatter_add_(1, group, u.scores.abs())
        live = torch.arange(n)[None] < u.counts()[:, None]
        found = [correlation(ranked(h[keep]), ranked(v[keep])) for h, v, keep in zip(held, spread.T, live, strict=True)]
        return told(torch.stack(found), "Rank correlation of sizes with the spread of the answer when a feature is not known", why="the map or the answer does not vary")
