"""Consistency: do rows with the same explanation have the same prediction?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat
from ._told import told
from ._units import units


@dataclass(frozen=True, kw_only=True)
class Consistency(Metric):
    """Do rows with the same explanation have the same prediction?

    How: each map is reduced to its top units and their signs; of the other rows with the same, the share with the same predicted class.
    Units: share of rows. Higher is better; NaN for a row whose explanation no other row has.
    Chance: the share of rows of the same class.
    Misleads when: few rows share an explanation, as for pictures: it is a measure for tables and for many rows.
    Source: Dasgupta, Frost and Moshkovitz, 2022, definition 2.
    """

    card = Card(title="Consistency", paper="arXiv:2202.00734", cost="one forward row a row")
    top: int = param(3, "units at the top of the map that make it the same", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The share, a row."""
        u = units(e, "baseline")
        keys = signs(u.scores, self.top)
        out = flat(u.q.own_outputs())
        if out.shape[1] < 2:
            raise NotApplicable("consistency compares predicted classes; this model gives one number a row.")
        predicted = out.argmax(1)
        alike = (keys[:, None] == keys[None]).all(-1) & ~torch.eye(len(keys), dtype=torch.bool)
        n, agree = alike.sum(1), (alike & (predicted[:, None] == predicted[None])).sum(1)
        return told(torch.where(n > 0, agree / n.clamp(min=1), torch.nan), "Share of rows with the same explanation that have the same prediction", why="no other row has the same explanation")


def signs(scores: Tensor, top: int) -> Tensor:
    """(B, 2 top) the top units by size, in order of their number, and their signs."""
    order = scores.abs().argsort(dim=1, descending=True, stable=True)[:, :top].sort(1).values
    return torch.cat([order.double(), scores.gather(1, order).sign()], 1)
