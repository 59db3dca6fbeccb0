"""Convergence: would more work give another map?"""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card
from ..core.evidence import Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._subject import Subject, live, mean_of, scores
from ._verdict import Cuts

TITLE = "Enough work was done"
MEANING = "Rank correlation of the map with the one from half the work; 1: more work changes nothing."


@dataclass(frozen=True, kw_only=True)
class Convergence(Metric):
    """Would more steps or samples give another map?

    How: methods that integrate compare their map with the one from half of the work (rank correlation);
    methods that sample give a standard error, read here as a share of the map's range.
    Misleads when: both halves share the same blind spot, such as a path that leaves the data.
    """

    card = Card(title="Enough work was done", paper="", cost="nothing: read off the method's own run")

    def score(self, e: Explanation) -> Scores:
        """The rank correlation with half the work, or the standard error as a share of the range."""
        found = self.read(live(e), Cuts())
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject, cuts: Cuts) -> Reading:
        """The reading, named after what was read: "convergence" or "noise"."""
        e = s.e
        if e.convergence is not None:
            return _halves(tuple(e.convergence.double().tolist()), cuts)
        if e.error is not None:
            return _noise(noise_share(leaves(e.values), leaves(e.error)), cuts)
        why = "The method neither integrates nor samples, or does not say how far it got."
        return Reading("convergence", TITLE, None, (), "rank correlation", "not applicable", why, MEANING)


def noise_share(values: list[Tensor], error: list[Tensor]) -> tuple[float, ...]:
    """Mean standard error over the range of the values, a row."""
    rows = range(len(values[0]))
    spread = [max(float(v[i].max()) for v in values) - min(float(v[i].min()) for v in values) for i in rows]
    mean = [sum(float(t[i].double().sum()) for t in error) / sum(t[i].numel() for t in error) for i in rows]
    return tuple(m / d if d > 0 else 0.0 for m, d in zip(mean, spread, strict=True))


def _halves(rows: tuple[float, ...], cuts: Cuts) -> Reading:
    value = mean_of(rows)
    good = value >= cuts.converged
    words = f"{'The map from half the work looks the same' if good else 'Half the work gives a different map: ask for more steps'} ({value:.2f})."
    return Reading("convergence", TITLE, value, rows, "rank correlation", "good" if good else "doubtful", words, MEANING)


def _noise(rows: tuple[float, ...], cuts: Cuts) -> Reading:
    value = mean_of(rows)
    good = value <= cuts.noise
    words = f"The standard error is {value:.1%} of the map's range{'' if good else ': ask for more samples'}."
    return Reading("noise", TITLE, value, rows, "of range", "good" if good else "doubtful", words, "Mean standard error of the values as a share of their range.")
