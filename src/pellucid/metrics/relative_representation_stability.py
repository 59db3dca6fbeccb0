"""Relative representation stability: does the map change by more than what the model sees inside does?"""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.question import Question
from ._near import copies, flat, kept_only, largest, relative_change, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class RelativeRepresentationStability(Metric):
    """Does the map change by more than what the model sees inside does?

    How: the largest, over copies of the row that keep its prediction, of |relative change of the map| / |relative change of a layer's value|. Both are Euclidean, entry by entry.
    Units: none. Lower is steadier.
    Chance: a map that ignores the model scores 0.
    Misleads when: values of the map lie near zero: their relative change explodes and one pixel decides the score. `max-sensitivity` divides by the whole map.
    Source: Agarwal et al., 2022, equation 3.
    """

    card = Card(title="Relative representation stability", paper="arXiv:2203.06877", better="lower", cost="draws more explanations", random=True)
    draws: int = param(10, "moved copies of each row", ge=1)
    radius: float = param(0.02, "largest change of a number", ge=0, unit="fraction of the input's range, or input units")
    relative: bool = param(True, "whether the radius is a share of each row's range")
    keep: bool = param(True, "leave out copies whose prediction changed: there the map has to change")
    perturb: Any = param(None, "a function of inputs that moves them, as captum's; instead of noise")
    least: float = param(1e-6, "nothing is divided by less than this", ge=0)
    layer: str = param("", "the layer whose value is the representation; none: the last but one")

    def score(self, e: Explanation) -> Scores:
        """The largest ratio, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "relative-representation-stability")
        layer = self.layer or _inside(s.q)
        own, inside = flat(e.values), flat(s.q.at_layer(layer).point)
        found = []
        for c in copies(s, self.draws, self.radius, self.relative, self.perturb):
            moved = relative_change(c.read(layer), inside, self.least)
            found.append(kept_only(relative_change(c.values, own, self.least) / moved.clamp(min=self.least), c, self.keep))
        return told(largest(found), "Largest relative change of the map for that of the representation", "lower", "every copy changed the prediction")


def _inside(q: Question) -> str:
    """The layer before the one that gives the answer."""
    seen = [i.name for i in q.model.layers(q.x) if i.shape is not None and i.name]
    if len(seen) < 2:
        raise NotApplicable(f"relative-representation-stability needs a model with layers; {q.model.name} has too few. Use relative-output-stability.")
    return seen[-2]
