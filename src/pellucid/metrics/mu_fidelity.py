"""muFidelity: does what a random part of the input holds of the map say how much hiding that part lowers the answer?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._subsets import drops, subsets
from ._told import correlation, ranked, told
from ._units import units


@dataclass(frozen=True, kw_only=True)
class MuFidelity(Metric):
    """Does what a random part of the input holds of the map say how much hiding that part lowers the answer?

    How: over random subsets of equal size, the correlation of (sum of the map inside) and (fall of the answer when they are hidden). Pictures are cut into a grid.
    Units: correlation, -1 to 1. Higher is better.
    Chance: 0 for a random map; an edge map of a photo whose object has the edges is above it.
    Misleads when: the answer hangs on interactions; the fill is itself evidence; few subsets (its noise is about 1 / sqrt(samples)).
    Source: Bhatt, Weller and Moura, 2020, equation 4.
    """

    card = Card(title="muFidelity", paper="arXiv:2005.00631", cost="samples + 1 forward rows a row", random=True)
    samples: int = param(200, "random subsets", ge=4)
    size: float = param(0.2, "units in a subset", ge=0, le=1, unit="share")
    grid: int = param(9, "cells a side that pictures are cut into", ge=2)
    ranks: bool = param(False, "rank correlation instead of Pearson's")
    fill: str = param("auto", "what hidden parts hold; auto: a blur for pictures, else the question's baseline", choices=("auto", "baseline", "blur", "mean", "noise"))
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))

    def score(self, e: Explanation) -> Scores:
        """The correlation, a row; NaN where the map or the answer never varies."""
        u = units(e, self.fill, None, self.answer)
        if u.picture:
            side = min(self.grid, *leaves(u.q.point)[0].shape[2:])
            u = units(e, self.fill, f"grid:{side}", self.answer)
        chosen = subsets(u, [self.size], self.samples)
        held, fall = chosen.sums(u.scores).T, drops(u, chosen).T
        found = correlation(ranked(held), ranked(fall)) if self.ranks else correlation(held, fall)
        return told(found, "Correlation of the map with what hiding random parts takes from the answer", why="the map or the answer does not vary")
