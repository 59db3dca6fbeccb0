"""Efficient parameter randomization: does the map get more complex when the network knows nothing?"""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat
from ._shuffling import histogram_entropy, questions
from ._told import told


@dataclass(frozen=True, kw_only=True)
class EfficientMprt(Metric):
    """Does the map get more complex when the network knows nothing?

    How: (entropy of the shuffled network's map - entropy of the map) / entropy of the map, of histograms of values; all layers are shuffled at once.
    Units: relative rise. Higher is better; above 0 the shuffled map is the more complex one.
    Chance: 0 for edges and all that ignores the weights, and for a map that is noise in both networks.
    Misleads when: the map is coarse: Grad-CAM's entropy falls where its channels cancel. It does not tell good from bad maps of photos (AUC .64 in our measurements).
    Source: Hedström et al., 2024, equation 7.
    """

    card = Card(title="Efficient parameter randomization", paper="arXiv:2401.06465", needs=Needs.MODULES, cost="one more explanation, 22 forward rows where there is BatchNorm", random=True)
    bins: int = param(100, "bins of the histogram", ge=2)

    def score(self, e: Explanation) -> Scores:
        """The relative rise, a row; NaN where the map has no entropy."""
        s, asked = questions(e, "efficient-mprt", "bottom-up", 1)
        own = histogram_entropy(flat(e.values), self.bins)
        other = histogram_entropy(flat(s.method(next(asked)[1]).values), self.bins)  # type: ignore[misc]
        return told(torch.where(own > 0, (other - own) / own.clamp_min(1e-300), torch.nan), "Relative rise of the map's entropy when all weights are shuffled", why="the map is constant")
