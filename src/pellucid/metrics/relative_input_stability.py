"""Relative input stability: does the map change by more than the input does?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import copies, flat, kept_only, largest, relative_change, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class RelativeInputStability(Metric):
    """Does the map change by more than the input does?

    How: the largest, over copies of the row that keep its prediction, of |relative change of the map| / |relative change of the input|. Both are Euclidean, entry by entry.
    Units: none. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: values of the map lie near zero: their relative change explodes and one pixel decides the score. `max-sensitivity` divides by the whole map.
    Source: Agarwal et al., 2022, equation 2.
    """

    card = Card(title="Relative input stability", paper="arXiv:2203.06877", better="lower", cost="draws more explanations", random=True)
    draws: int = param(10, "moved copies of each row", ge=1)
    radius: float = param(0.02, "largest change of a number", ge=0, unit="fraction of the input's range, or input units")
    relative: bool = param(True, "whether the radius is a share of each row's range")
    keep: bool = param(True, "leave out copies whose prediction changed: there the map has to change")
    perturb: Any = param(None, "a function of inputs that moves them, as captum's; instead of noise")
    least: float = param(1e-6, "nothing is divided by less than this", ge=0)

    def score(self, e: Explanation) -> Scores:
        """The largest ratio, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "relative-input-stability")
        own, x = flat(e.values), flat(s.q.point)
        found = []
        for c in copies(s, self.draws, self.radius, self.relative, self.perturb):
            moved = relative_change(c.x, x, self.least)
            found.append(kept_only(relative_change(c.values, own, self.least) / moved.clamp(min=self.least), c, self.keep))
        return told(largest(found), "Largest relative change of the map for that of the input", "lower", "every copy changed the prediction")
