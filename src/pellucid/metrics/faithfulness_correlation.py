"""Faithfulness correlation: do the map's values add up to what hiding random features takes away?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._subsets import drops, subsets
from ._told import correlation, told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class FaithfulnessCorrelation(Hiding):
    """Do the map's values add up to what hiding random single features takes away?

    How: Pearson correlation, over random subsets of equal size, of the map's sum inside and the fall of the answer. `mu-fidelity` is the same on cells.
    Units: correlation, -1 to 1. Higher is better.
    Chance: 0 for a random map; scattered pixels of a photo move its answer so little that a good map is near 0 too.
    Misleads when: units are single pixels of a photo: what is hidden is seen through its neighbours.
    Source: Bhatt, Weller and Moura, 2020, equation 4.
    """

    card = Card(title="Faithfulness correlation", paper="arXiv:2005.00631", cost="samples + 1 forward rows a row", random=True)
    samples: int = param(100, "random subsets", ge=4)
    size: float = param(0.2, "features in a subset", ge=0, le=1, unit="share")
    fill: str = param("baseline", "what hidden features hold", choices=("baseline", "auto", "blur", "mean", "noise"))

    def score(self, e: Explanation) -> Scores:
        """The correlation, a row; NaN where the map or the answer never varies."""
        u = self.units(e)
        chosen = subsets(u, [self.size], self.samples)
        found = correlation(chosen.sums(u.scores).T, drops(u, chosen).T)
        return told(found, "Correlation of the map with what hiding random features takes from the answer", why="the map or the answer does not vary")
