"""Largest change: how far can small noise on the input change the map?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._near import Moving, largest, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class MaxSensitivity(Moving):
    """How far can small noise on the input change the map?

    How: the largest, over copies of the row moved by at most the radius, of |map of the copy - map| / |map|.
    Units: relative change of the map, Euclidean. Lower is steadier.
    Chance: a map that ignores the model scores 0, an edge map nearly so: steadiness is no sign of truth.
    Misleads when: read as quality; the radius decides the number, and maps of ReLU networks jump at kinks that the answer hardly feels.
    Source: Yeh et al., 2019, definition 4.1.
    """

    card = Card(title="Largest change", paper="arXiv:1901.09392", better="lower", cost="draws more explanations", random=True)

    def score(self, e: Explanation) -> Scores:
        """The relative change, a row; NaN where no copy kept the prediction."""
        found = largest(self.of_map(runnable(e, "max-sensitivity")))
        return told(found, "Largest change of the map to small changes of the input", "lower", "every copy changed the prediction, or the map is empty")
