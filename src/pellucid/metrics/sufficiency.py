"""Sufficiency: is the top of the map enough for the answer?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import hide, places, tops
from ._told import told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class Sufficiency(Hiding):
    """Is the top of the map enough for the answer?

    How: the mean, over shares of the units, of (answer at the input - answer with the top share alone). For words, tokens and columns; pictures work too.
    Units: of the question's target; answer="probability" is the paper's. Lower is better: nothing is missed.
    Chance: what a random map of the same row scores.
    Misleads when: the answer on an all but empty input is high already, as for a class that the model says by default. Read it with `comprehensiveness`.
    Source: DeYoung et al., 2020, equations 2 and 3.
    """

    card = Card(title="Sufficiency", paper="arXiv:1911.03429", better="lower", cost="one forward row a share and one more a row")
    shares: Any = param((0.01, 0.05, 0.1, 0.2, 0.5), "shares of the units at the top of the map")

    def score(self, e: Explanation) -> Scores:
        """The mean fall, a row."""
        u = self.units(e)
        answers = hide(u, places(u), tops(u.count, self.shares), keep=True).answers
        return told((u.whole() - answers).mean(0), "Mean fall of the answer with the top of the map alone", "lower")
