"""Conservation: is all of the answer accounted for, by the values or by what operations kept?"""

from dataclasses import dataclass

from ..core.card import Card
from ..core.evidence import Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._subject import Subject, live, mean_of, scores

TITLE = "Relevance that is accounted for"
MEANING = "|answer - sum of the values - what operations kept| as a share of the answer. A fault finder, not a measure of truth: it says nothing of who deserved what."
LARGE = 0.01
"""A share from which something was lost, or made, on the way."""


@dataclass(frozen=True, kw_only=True)
class Conservation(Metric):
    """How much of the answer got lost, or was made, while it flowed back by rules?

    Misleads when: read as quality. Relevance may be conserved to the last digit and lie in biases, where no input explains it: see what operations kept.
    """

    card = Card(title="Relevance that is accounted for", paper="doi:10.1371/journal.pone.0130140", better="lower", cost="nothing: the rules' own account")

    def score(self, e: Explanation) -> Scores:
        """The share that is missing, a row."""
        found = self.read(live(e))
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject) -> Reading:
        """A fact; it never votes."""
        e = s.e
        if e.absorbed is None or e.unaccounted is None:
            return Reading("conservation", TITLE, None, (), "of the answer", "not applicable", "The method does not send relevance back by rules that keep an account.", MEANING)
        rows = tuple(abs(float(v)) for v in e.unaccounted)
        value, kept = mean_of(rows), float(e.absorbed.mean())
        more = " Something was lost or made on the way: an operation whose rows are not on the first axis, rounding, or a fault." if value > LARGE else ""
        said = f"Values and what operations kept ({kept:.1%}) make up the answer to {value:.1g} of it.{more}"
        return Reading("conservation", TITLE, value, rows, "of the answer", "fact", said, MEANING)
