"""Local Lipschitz estimate: how steep is the map around the input?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import copies, flat, kept_only, largest, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class LocalLipschitz(Metric):
    """How steep is the map around the input?

    How: the largest, over copies of the row moved by at most the radius, of |map of the copy - map| / |copy - input|.
    Units: units of the map over units of the input, so that only maps of one scale compare. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: read as quality, or methods of different scales are compared; random copies only bound it from below.
    Source: Alvarez-Melis and Jaakkola, 2018, equation 2.
    """

    card = Card(title="Local Lipschitz estimate", paper="arXiv:1806.08049", better="lower", cost="draws more explanations", random=True)
    draws: int = param(10, "moved copies of each row", ge=1)
    radius: float = param(0.02, "largest change of a number", ge=0, unit="fraction of the input's range, or input units")
    relative: bool = param(True, "whether the radius is a share of each row's range")
    keep: bool = param(True, "leave out copies whose prediction changed: there the map has to change")
    perturb: Any = param(None, "a function of inputs that moves them, as captum's; instead of noise")

    def score(self, e: Explanation) -> Scores:
        """The estimate, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "local-lipschitz")
        own, x = flat(e.values), flat(s.q.point)
        found = [kept_only((c.values - own).norm(dim=-1) / (c.x - x).norm(dim=-1), c, self.keep) for c in copies(s, self.draws, self.radius, self.relative, self.perturb)]
        return told(largest(found), "Steepness of the map around the input", "lower", "every copy changed the prediction")
