"""Entropy: over how many places is the map spread?"""

from dataclasses import dataclass

import torch

from ..core.card import Card
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat
from ._told import told


@dataclass(frozen=True, kw_only=True)
class Entropy(Metric):
    """Over how many places is the map spread?

    How: entropy of the shares |value| / sum of |values|; its exponential is a number of places.
    Units: nats, from 0 (one place has all) to the logarithm of the number of places. Lower is simpler, not better.
    Chance: near its maximum for noise; lower for edges.
    Misleads when: read as quality: a wrong map can be simple. Maps of other resolutions do not compare.
    Source: Bhatt, Weller and Moura, 2020, equation 5.
    """

    card = Card(title="Entropy of the map", paper="arXiv:2005.00631", better="", cost="nothing")

    def score(self, e: Explanation) -> Scores:
        """The entropy, a row; NaN for an empty map."""
        size = flat(e.values).abs()
        total = size.sum(1, keepdim=True)
        p = size / total.clamp_min(1e-300)
        found = -(p * p.clamp_min(1e-300).log()).sum(1)
        return told(torch.where(total[:, 0] > 0, found, torch.nan), "Entropy of the map", "", "the map is empty")
