"""Pixel flipping: how far does the answer fall, on average, as pixels are taken away in the order of the map?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import Curve, cuts, hide, places
from ._told import told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class PixelFlipping(Hiding):
    """How far does the answer fall, on average, as pixels are taken away in the order of the map?

    How: AOPC, the mean over steps of (answer at the input - answer with the first units replaced).
    Units: of the question's target. Higher is better; for order="least", lower is.
    Chance: order="random" gives it for the same row and fill.
    Misleads when: the fill decides the ranking; single pixels leave inputs that no model has seen, and only ranks count.
    Source: Bach et al., 2015; Samek et al., 2017, equation 12.
    """

    card = Card(title="Pixel flipping", paper="doi:10.1371/journal.pone.0130140", cost="steps + 2 forward rows a row")
    steps: int = param(28, "steps", ge=1)
    share: float = param(1.0, "units that are taken away in the end", ge=0.001, le=1, unit="share")
    order: str = param("most", "which are taken first", choices=("most", "least", "random"))

    def score(self, e: Explanation) -> Scores:
        """The area over the curve, a row."""
        curve = self.curve(e)
        return told((curve.answers[:1] - curve.answers[1:]).mean(0), f"Mean fall of the answer, {self.order} attribution first", "lower" if self.order == "least" else "higher")

    def curve(self, e: Explanation) -> Curve:
        """The answers themselves."""
        u = self.units(e)
        return hide(u, places(u, self.order), cuts(u.count, self.steps, self.share))
