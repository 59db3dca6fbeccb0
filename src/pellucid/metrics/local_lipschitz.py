"""Local Lipschitz estimate: how steep is the map around the input?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._near import Moving, flat, largest, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class LocalLipschitz(Moving):
    """How steep is the map around the input?

    How: the largest, over copies of the row moved by at most the radius, of |map of the copy - map| / |copy - input|.
    Units: units of the map over units of the input, so that only maps of one scale compare. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: read as quality, or methods of different scales are compared; random copies only bound it from below.
    Source: Alvarez-Melis and Jaakkola, 2018, equation 2.
    """

    card = Card(title="Local Lipschitz estimate", paper="arXiv:1806.08049", better="lower", cost="draws more explanations", random=True)

    def score(self, e: Explanation) -> Scores:
        """The estimate, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "local-lipschitz")
        own, x = flat(e.values), flat(s.q.point)
        found = self.compared(s, lambda c: (c.values - own).norm(dim=-1) / (c.x - x).norm(dim=-1))
        return told(largest(found), "Steepness of the map around the input", "lower", "every copy changed the prediction")
