"""Insertion: does the answer rise quickly when what the map marks is shown first?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import Curve, cuts, hide, places
from ._told import told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class Insertion(Hiding):
    """Does the answer rise quickly when what the map marks is shown first?

    How: units (pixels, columns, positions, or a masker's players) are shown on an empty input in the order of the map, in equal steps; the area under the answer.
    Units: of the question's target: ask about a class for logits, or set answer="probability". Higher is better.
    Chance: a random order of pixels. It is a weak rival: any smooth map, of any photo, beats it here and loses to it at deletion. Look at the difference of the two, and at `mask-fidelity`.
    Misleads when: the fill decides the ranking, and inputs with holes are none that the model has seen. Only ranks count: the sizes of values do not.
    Source: Petsiuk, Das and Saenko, 2018.
    """

    card = Card(title="Insertion", paper="arXiv:1806.07421", better="higher", cost="steps + 1 forward rows a row")
    steps: int = param(28, "steps from nothing to the whole input", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The area, a row."""
        return told(self.curve(e).area(), "Area under the answer while what it marks is shown first")

    def curve(self, e: Explanation) -> Curve:
        """The answers themselves."""
        u = self.units(e)
        return hide(u, places(u), cuts(u.count, self.steps), keep=True)
