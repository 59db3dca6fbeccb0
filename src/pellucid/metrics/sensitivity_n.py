"""Sensitivity-n: for subsets of every size, do the map's values add up to what hiding them takes away?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Scores
from ._subsets import drops, size_of, subsets
from ._told import correlation, told
from ._units import Hiding


@dataclass(frozen=True, kw_only=True)
class SensitivityN(Hiding):
    """For subsets of every size, do the map's values add up to what hiding them takes away?

    How: for each size n, Pearson correlation over random subsets of n features of the map's sum inside and the fall of the answer; their mean over sizes.
    Units: correlation, -1 to 1; 1 for every n is the property "sensitivity-n". Higher is better.
    Chance: 0 for a random map.
    Misleads when: the map is right about interactions: no map of single values can hold sensitivity-n for all n on a model that is not linear.
    Source: Ancona et al., 2018, definition 2 and section 4.
    """

    card = Card(title="Sensitivity-n", paper="arXiv:1711.06104", cost="sizes times samples + 1 forward rows a row", random=True)
    samples: int = param(50, "random subsets of each size", ge=4)
    sizes: Any = param((0.05, 0.1, 0.2, 0.4, 0.6, 0.8), "sizes of the subsets, as shares of the features")
    fill: str = param("baseline", "what hidden features hold", choices=("baseline", "auto", "blur", "mean", "noise"))

    def score(self, e: Explanation) -> Scores:
        """The mean correlation over sizes, a row."""
        return told(self.curve(e).nanmean(0), "Mean correlation over sizes of subsets", why="the map or the answer does not vary")

    def curve(self, e: Explanation) -> Tensor:
        """(sizes, B) the correlation at each size."""
        u = self.units(e)
        sizes = sorted({size_of(s, u.count) / u.count for s in self.sizes})
        chosen = subsets(u, sizes, self.samples)
        held, fall = (t.reshape(len(sizes), self.samples, u.size).mT for t in (chosen.sums(u.scores), drops(u, chosen)))
        return torch.stack([correlation(h, f) for h, f in zip(held, fall, strict=True)])
