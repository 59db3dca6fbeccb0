"""Completeness gap: how much of the answer's change do the values not account for?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.evidence import Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._subject import Subject, known, live, mean_of, scores

TITLE = "Values that add up"
MEANING = "|sum of the values - (answer - answer at the baseline)| as a share of that change. A fault finder, not a measure of truth."


@dataclass(frozen=True, kw_only=True)
class CompletenessGap(Metric):
    """How much of the change from the baseline to the input do the values not account for?

    Misleads when: read as quality. On networks with kinked gradients the gap is noise: a converged map can have one of 20 %,
    an unconverged one none by luck. Above 100 % something is broken.
    """

    card = Card(title="Values that add up", paper="arXiv:1703.01365", better="lower", cost="nothing: the method's own endpoints")

    def score(self, e: Explanation) -> Scores:
        """The gap as a share of the change, a row."""
        found = self.read(live(e))
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject) -> Reading:
        """A fact; it never votes."""
        e = s.e
        if e.gap is None or e.base is None:
            return Reading("completeness-gap", TITLE, None, (), "of the change", "not applicable", "The method does not promise values that add up to the answer.", MEANING)
        change = (e.total - e.base).double()
        rows = tuple(abs(float(g)) / abs(float(c)) if float(c) != 0 else None for g, c in zip(e.gap.double(), change, strict=True))
        value = mean_of(rows)
        if not known(rows):
            return Reading(
                "completeness-gap", TITLE, None, rows, "of the change", "fact", "The answer is the same at the baseline, so that there is nothing to add up to.", MEANING
            )
        more = " More than all of it: look for a fault or a baseline that confuses the model." if value > 1 else ""
        return Reading("completeness-gap", TITLE, value, rows, "of the change", "fact", f"The values miss {value:.1%} of the change from the baseline.{more}", MEANING)
