"""Relative output stability: does the map change by more than the model's outputs do?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._near import Stability, flat, runnable


@dataclass(frozen=True, kw_only=True)
class RelativeOutputStability(Stability):
    """Does the map change by more than the model's outputs do?

    How: the largest, over copies of the row that keep its prediction, of |relative change of the map| / |change of the outputs|. Both are Euclidean, entry by entry.
    Units: none. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: values of the map lie near zero: their relative change explodes and one pixel decides the score. `max-sensitivity` divides by the whole map.
    Source: Agarwal et al., 2022, equation 5.
    """

    card = Card(title="Relative output stability", paper="arXiv:2203.06877", better="lower", cost="draws more explanations", random=True)

    def score(self, e: Explanation) -> Scores:
        """The largest ratio, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "relative-output-stability")
        out = flat(s.q.own_outputs())
        return self.ratios(s, lambda c: (c.read("") - out).norm(dim=-1), "output")
