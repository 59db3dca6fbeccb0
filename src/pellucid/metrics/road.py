"""ROAD: does the answer hold when what the map marks least is removed, and break when it is what it marks most?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.points import Points
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._curves import Curve, places, tops
from ._inpaint import inpaint
from ._told import told
from ._units import Units, units


@dataclass(frozen=True, kw_only=True)
class Road(Metric):
    """Does the answer hold when what the map marks least is removed, and break when it is what it marks most?

    How: pixels are removed by noisy linear imputation: each becomes the weighted mean of its neighbours, all pictures in one solve, plus a little noise,
    so that the shape of the hole tells little. Ties in the map are broken by chance, so that a map with many zeros loses as many pixels as any.
    Units: of the question's target; "combined" is half of (answer with the least removed - answer with the most removed), higher is better; "most" alone is better low, "least" high.
    Chance: 0 for "combined" and a random map.
    Misleads when: maps are compared that are not equally smooth: large holes are harder to fill than scattered ones.
    Source: Rong et al., 2022, section 4.
    """

    card = Card(title="Remove and debias", paper="arXiv:2202.00449", cost="one forward row a share, two for combined", random=True)
    shares: Any = param((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "shares of the pixels that are removed")
    order: str = param("combined", "which are removed", choices=("combined", "most", "least"))
    noise: float = param(0.01, "standard deviation of what is added to filled pixels", ge=0, unit="input units")
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))

    def score(self, e: Explanation) -> Scores:
        """The mean over shares, a row."""
        u = self._units(e)
        if self.order != "combined":
            return told(self._curve(u, self.order).answers.mean(0), f"Mean answer with the {self.order} relevant pixels imputed", "lower" if self.order == "most" else "higher")
        most, least = (self._curve(u, o).answers.mean(0) for o in ("most", "least"))
        return told((least - most) / 2, "Half the answer's loss from imputing the most rather than the least relevant pixels")

    def curve(self, e: Explanation, order: str = "most") -> Curve:
        """The answers themselves, for one order."""
        return self._curve(self._units(e), order)

    def _units(self, e: Explanation) -> Units:
        if any(not 0 < s < 1 for s in self.shares):
            raise UsageError(f"Road needs shares between 0 and 1, both left out; got {self.shares}.")
        u = units(e, "baseline", None, self.answer)
        if not u.picture:
            raise NotApplicable("road needs pictures, whose pixels have neighbours to be imputed from. Use deletion or comprehensiveness.")
        return u

    def _curve(self, u: Units, order: str) -> Curve:
        x, place, at = leaves(u.q.point)[0], places(u, order), tops(u.count, self.shares)

        def make(s: Tensor, rows: Tensor) -> Tensor:
            gone = u.spread(place[rows] < at[s, None], 0, rows).to(x.device)
            filled = inpaint(x[rows], gone)
            return torch.where(gone, filled + self.noise * leaves(u.q.noise(s, rows))[0], filled)

        return Curve(at.double() / u.count, u.q.value(Points(len(at), make)).double().cpu())
