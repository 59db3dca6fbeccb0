"""Comprehensiveness: does the answer fall when the top of the map is taken away?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import hide, places, tops
from ._told import told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class Comprehensiveness(Hiding):
    """Does the answer fall when the top of the map is taken away?

    How: the mean, over shares of the units, of (answer at the input - answer without the top share). For words, tokens and columns; pictures work too.
    Units: of the question's target; answer="probability" is the paper's. Higher is better.
    Chance: what a random map of the same row scores, which grows with the shares.
    Misleads when: read alone: methods with larger steps of the answer win, and inputs with holes are none that the model has seen. Read it with `sufficiency`.
    Source: DeYoung et al., 2020, equations 1 and 3.
    """

    card = Card(title="Comprehensiveness", paper="arXiv:1911.03429", cost="one forward row a share and one more a row")
    shares: Any = param((0.01, 0.05, 0.1, 0.2, 0.5), "shares of the units at the top of the map")

    def score(self, e: Explanation) -> Scores:
        """The mean fall, a row."""
        u = self.units(e)
        answers = hide(u, places(u), tops(u.count, self.shares)).answers
        return told((u.whole() - answers).mean(0), "Mean fall of the answer without the top of the map")
