"""Monotonicity: does the answer rise with each feature that is added, the least important first?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._curves import cuts, hide, places
from ._told import told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class Monotonicity(Hiding):
    """Does the answer rise with each feature that is added to the baseline, the least important first?

    How: the share of steps at which the answer does not fall; with `strict`, 1 where no step falls and 0 elsewhere.
    Units: share of steps. Higher is better.
    Chance: about one half for a random map of signed evidence; not lower for a map whose values are all positive on a model that only adds.
    Misleads when: features have negative values: adding those must lower the answer, so that a right map is punished. Values that are sizes are meant.
    Source: Luss et al., 2021; AI Explainability 360, `monotonicity_metric` (strict).
    """

    card = Card(title="Monotonicity", paper="arXiv:1905.12698", cost="steps forward rows a row")
    steps: int = param(100, "steps, or one a feature where there are fewer", ge=2)
    strict: bool = param(False, "1 where no step falls, else 0")
    fill: str = param("baseline", "what absent features hold", choices=("baseline", "auto", "blur", "mean", "noise"))

    def score(self, e: Explanation) -> Scores:
        """The share of steps, a row."""
        u = self.units(e)
        answers = hide(u, places(u, "least"), cuts(u.count, min(self.steps, u.count))[1:], keep=True).answers
        rising = (answers.diff(dim=0) >= -1e-9 * answers.abs().amax(0)).double()
        return told((rising.mean(0) == 1).double() if self.strict else rising.mean(0), "Share of added features that do not lower the answer")
