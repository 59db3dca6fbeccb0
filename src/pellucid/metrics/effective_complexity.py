"""Effective complexity: how many places does the map need?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat
from ._told import told


@dataclass(frozen=True, kw_only=True)
class EffectiveComplexity(Metric):
    """How many places does the map need?

    How: the number of values whose size is above a share of the largest.
    Units: places. Lower is simpler, not better.
    Chance: nearly all places for noise.
    Misleads when: read as quality; the threshold decides the number.
    Source: Nguyen and Rodriguez Martinez, 2020, section 3.3.
    """

    card = Card(title="Effective complexity", paper="arXiv:2007.07584", better="", cost="nothing")
    least: float = param(0.05, "sizes above this share of the largest count", ge=0, le=1, unit="share")

    def score(self, e: Explanation) -> Scores:
        """The number of places, a row."""
        size = flat(e.values).abs()
        top = size.amax(1, keepdim=True)
        return told(((size > self.least * top) & (top > 0)).sum(1), "Places with more than a trace of the map", "")
