"""Relative representation stability: does the map change by more than what the model sees inside does?"""

from dataclasses import dataclass

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ..core.question import Question
from ._near import Stability, flat, relative_change, runnable


@dataclass(frozen=True, kw_only=True)
class RelativeRepresentationStability(Stability):
    """Does the map change by more than what the model sees inside does?

    How: the largest, over copies of the row that keep its prediction, of |relative change of the map| / |relative change of a layer's value|. Both are Euclidean, entry by entry.
    Units: none. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: values of the map lie near zero: their relative change explodes and one pixel decides the score. `max-sensitivity` divides by the whole map.
    Source: Agarwal et al., 2022, equation 3.
    """

    card = Card(title="Relative representation stability", paper="arXiv:2203.06877", better="lower", cost="draws more explanations", random=True)
    layer: str = param("", "the layer whose value is the representation; none: the last but one")

    def score(self, e: Explanation) -> Scores:
        """The largest ratio, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "relative-representation-stability")
        layer = self.layer or _inside(s.q)
        inside = flat(s.q.at_layer(layer).point)
        return self.ratios(s, lambda c: relative_change(c.read(layer), inside, self.least), "representation")


def _inside(q: Question) -> str:
    """The layer before the one that gives the answer."""
    seen = [i.name for i in q.model.layers(q.x) if i.shape is not None and i.name]
    if len(seen) < 2:
        raise NotApplicable(f"relative-representation-stability needs a model with layers; {q.model.name} has too few. Use relative-output-stability.")
    return seen[-2]
