"""IROF: how quickly does the answer fall as whole segments are removed?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._curves import Curve, cuts, hide, places
from ._told import told
from ._units import units


@dataclass(frozen=True, kw_only=True)
class Irof(Metric):
    """How quickly does the answer fall as whole segments, most relevant first, are replaced by the picture's mean colour?

    How: segments are ranked by the mean of the map inside; the area over the curve of answer / answer at the input.
    Units: share of the answer, 0 (nothing happens) to 1 (the first segment takes it all). Higher is better.
    Chance: a random map of the same picture; segments make it fairer than single pixels, since one pixel more or less is no edge.
    Misleads when: the object fills the picture, or segments cut it; an answer near zero makes the ratio wild (rows that start at zero are left out).
    Source: Rieger and Hansen, 2020.
    """

    card = Card(title="Iterative removal of segments", paper="arXiv:2003.08747", cost="one forward row a segment")
    masker: Any = param("auto", "segments, as for game methods: auto, slic:50, grid:8, labels")
    fill: str = param("mean", "what removed segments hold", choices=("mean", "baseline", "blur", "noise"))
    answer: str = param("probability", "what is read: the probability of the class, or the question's target", choices=("probability", "target"))

    def score(self, e: Explanation) -> Scores:
        """The area over the curve, a row; NaN where the answer is zero at the input."""
        curve = self.curve(e)
        first = curve.answers[:1]
        share = torch.where(first == 0, torch.nan, curve.answers / torch.where(first == 0, 1.0, first))
        return told(1 - Curve(curve.share, share).area(), "Area over the answer while segments are removed", why="the answer is zero before anything is removed")

    def curve(self, e: Explanation) -> Curve:
        """The answers themselves."""
        u = units(e, self.fill, self.masker, self.answer, mean=True)
        return hide(u, places(u), cuts(u.count, u.count))
