"""Area under the ROC curve: are values inside the region larger than those outside?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._regions import region, share
from ._told import ranked, told


@dataclass(frozen=True, kw_only=True)
class LocalizationAuc(Metric):
    """Are values inside the region larger than those outside?

    How: the probability that a random place inside has a larger value than one outside, ties counting half.
    Units: 0 to 1. Higher is better.
    Chance: 0.5.
    Misleads when: the region is small: a map that spreads over half of the picture still scores high; the model is right for a reason outside the mask: this tests the model as much as the map.
    Source: Fawcett, 2006.
    """

    card = Card(title="Area under the ROC curve", paper="doi:10.1016/j.patrec.2005.10.010", better="higher", cost="nothing")
    mask: Any = param(None, "what is known to matter: true inside; one for all rows, or one a row")

    def score(self, e: Explanation) -> Scores:
        """The score, a row."""
        r = region(e, self.mask, "localization-auc")
        n, m = r.inside.sum(1).double(), (~r.inside).sum(1).double()
        won = (ranked(r.values) * r.inside).sum(1) - n * (n + 1) / 2
        return told(share(won, n * m), "Chance that a place inside has more than one outside", why="the mask is empty or covers everything")
