"""Largest change: how far can small noise on the input change the map?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import copies, flat, kept_only, largest, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class MaxSensitivity(Metric):
    """How far can small noise on the input change the map?

    How: the largest, over copies of the row moved by at most the radius, of |map of the copy - map| / |map|.
    Units: relative change of the map, Euclidean. Lower is steadier.
    Chance: a map that ignores the model scores 0, an edge map nearly so: steadiness is no sign of truth.
    Misleads when: read as quality; the radius decides the number, and maps of ReLU networks jump at kinks that the answer hardly feels.
    Source: Yeh et al., 2019, definition 4.1.
    """

    card = Card(title="Largest change", paper="arXiv:1901.09392", better="lower", cost="draws more explanations", random=True)
    draws: int = param(10, "moved copies of each row", ge=1)
    radius: float = param(0.02, "largest change of a number", ge=0, unit="fraction of the input's range, or input units")
    relative: bool = param(True, "whether the radius is a share of each row's range")
    keep: bool = param(True, "leave out copies whose prediction changed: there the map has to change")
    perturb: Any = param(None, "a function of inputs that moves them, as captum's; instead of noise")

    def score(self, e: Explanation) -> Scores:
        """The relative change, a row; NaN where no copy kept the prediction."""
        s = runnable(e, "max-sensitivity")
        own = flat(e.values)
        size = own.norm(dim=1)
        found = [kept_only((c.values - own).norm(dim=-1) / torch.where(size > 0, size, torch.nan), c, self.keep) for c in copies(s, self.draws, self.radius, self.relative, self.perturb)]
        return told(largest(found), "Largest change of the map to small changes of the input", "lower", "every copy changed the prediction, or the map is empty")
