"""Relative input stability: does the map change by more than the input does?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._near import Stability, flat, relative_change, runnable


@dataclass(frozen=True, kw_only=True)
class RelativeInputStability(Stability):
    """Does the map change by more than the input does?

    How: the largest, over copies of the row that keep its prediction, of |relative change of the map| / |relative change of the input|. Both are Euclidean, entry by entry.
    Units: none. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: values of the map lie near zero: their relative change explodes and one pixel decides the score. `max-sensitivity` divides by the whole map.
    Source: Agarwal et al., 2022, equation 2.
    """

    card = Card(title="Relative input stability", paper="arXiv:2203.06877", better="lower", cost="draws more explanations", random=True)

    def score(self, e: Explanation) -> Scores:
        """The largest ratio, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "relative-input-stability")
        x = flat(s.q.point)
        return self.ratios(s, lambda c: relative_change(c.x, x, self.least), "input")
