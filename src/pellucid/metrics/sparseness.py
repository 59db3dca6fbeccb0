"""Sparseness: is the map spread over everything, or kept to a few places?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.evidence import Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._fidelity import gini
from ._subject import Subject, live, mean_of, scores
from ._verdict import Cuts

MEANING = "Gini coefficient of the sizes: 0 when every place has the same, near 1 when one place has all."


@dataclass(frozen=True, kw_only=True)
class Sparseness(Metric):
    """Is the map spread over everything, or kept to a few places?

    Misleads when: read as quality. Only a map without any contrast, empty or constant, is wrong.
    Source: Chalasani et al., 2020.
    """

    card = Card(title="Kept to a few places", paper="arXiv:1810.06583", better="", cost="nothing")

    def score(self, e: Explanation) -> Scores:
        """The Gini coefficient, a row."""
        found = self.read(live(e), Cuts())
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject, cuts: Cuts) -> Reading:
        """A fact, unless the map is empty or constant."""
        rows = tuple(gini(m) for m in s.maps())
        value, dead = mean_of(rows), sum(v < cuts.gini for v in rows)
        words = f"{'Much' if value > 0.6 else 'Some' if value > 0.3 else 'Little'} contrast between places ({value:.2f})."
        if dead:
            words = "The map is empty or constant." if len(rows) == 1 else f"{dead} of {len(rows)} maps are empty or constant."
        return Reading("sparseness", "Kept to a few places", value, rows, "Gini", "bad" if dead else "fact", words, MEANING)
