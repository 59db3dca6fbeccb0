"""Linear datamodeling score: does the sum of the kept values predict the order of the answers under random masks?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._subsets import subsets
from ._told import correlation, ranked, told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class LinearDatamodelingScore(Hiding):
    """Does the sum of the kept values predict the order of the answers under random masks?

    How: Spearman's correlation, over masks that all keep the same number of units, of the map's sum over what is kept and the answer.
    Units: rank correlation, -1 to 1. Higher is better.
    Chance: 0 for a random and for a constant map, because all masks keep as much; where they do not, any positive map scores by counting.
    Misleads when: the answer hangs on interactions. Methods that were fitted to masks are tested on their own ground.
    Source: Park et al., 2023, definition 2.4 (there over training rows); Cohen-Wang et al., 2024 (over the parts of a context).
    """

    card = Card(title="Linear datamodeling score", paper="arXiv:2303.14186", cost="samples forward rows a row", random=True)
    samples: int = param(64, "random masks", ge=4)
    keep: float = param(0.5, "units that every mask keeps", ge=0, le=1, unit="share")

    def score(self, e: Explanation) -> Scores:
        """The rank correlation, a row; NaN where the map or the answer never varies."""
        u = self.units(e)
        kept = subsets(u, [self.keep], self.samples, "kept")
        answers = u.values(len(kept), lambda s, rows: ~kept(s, rows))
        found = correlation(ranked(kept.sums(u.scores).T), ranked(answers.T))
        return told(found, "Rank correlation of the kept values with the answers under masks", why="the map or the answer does not vary")
