"""Local fit: how much of what happens around the input does the simple model see?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.evidence import Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._subject import Subject, live, mean_of, scores

TITLE = "A simple model that fits"
MEANING = "Local R2: the share of the answer's variance around the input that the surrogate explains; 1: all of it. Small errors with a low R2 mean a precise answer to the wrong question."
LOW = 0.5
"""A share below which most of what happens is not in the surrogate."""


@dataclass(frozen=True, kw_only=True)
class LocalFit(Metric):
    """How much of what the model does around the input does the simple model that stands for it explain?

    How: R2 of the surrogate over the coalitions that were asked, adjusted for the number of its coefficients.
    Misleads when: the neighbourhood is so wide that nothing real lies in it, or so narrow that any model is linear there.
    """

    card = Card(title="A simple model that fits", paper="arXiv:1602.04938", cost="nothing: read off the method's own run")

    def score(self, e: Explanation) -> Scores:
        """The local R2, a row."""
        found = self.read(live(e))
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject) -> Reading:
        """A fact; it never votes."""
        if s.e.fit is None:
            return Reading("local-fit", TITLE, None, (), "of the variance", "not applicable", "The method does not stand a simple model in the model's place.", MEANING)
        rows = tuple(s.e.fit.double().tolist())
        value = mean_of(rows)
        more = " Most of it is not linear in the parts: read the map as a sketch." if value < LOW else ""
        return Reading("local-fit", TITLE, value, rows, "of the variance", "fact", f"The simple model explains {value:.0%} of what the model does around the input.{more}", MEANING)
