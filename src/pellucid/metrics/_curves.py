"""What happens to the answer as units are hidden, or shown, in an order."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._mask_pool import generator
from ._units import Units


@dataclass(frozen=True)
class Curve:
    """(K,) shares of the units that were touched, (K, B) answers there."""

    share: Tensor
    answers: Tensor

    def area(self) -> Tensor:
        """(B,) area under the answers by the trapezoid rule, over the range of shares."""
        return torch.trapezoid(self.answers, self.share, dim=0) / (self.share[-1] - self.share[0])


def places(u: Units, order: str = "most") -> Tensor:
    """(B, P) each unit's place in the order: 0 is touched first. Ties are broken by the question's seed and the row's name, never by position.

    Orders: "most" or "least" attribution first, "random".
    """
    out = torch.empty(u.scores.shape, dtype=torch.long)
    for i, row in enumerate(u.q.ids):
        luck = torch.randperm(u.count, generator=generator(u.q.seed, row, "ties"))
        key = u.scores[i][luck]
        if u.present is not None:
            key = torch.where(u.present[i][luck], key, -torch.inf if order == "most" else torch.inf)
        first = luck if order == "random" else luck[key.argsort(descending=order == "most", stable=True)]
        out[i, first] = torch.arange(u.count)
    return out


def cuts(count: int, steps: int, most: float = 1.0) -> Tensor:
    """(K,) numbers of units from none to a share of all, in equal steps; fewer where there are fewer units."""
    return (torch.linspace(0, most, steps + 1, dtype=torch.float64) * count).round().long().unique()


def hide(u: Units, place: Tensor, at: Tensor, keep: bool = False) -> Curve:
    """Answers with the first `at[k]` units hidden, or with only those shown."""
    own = (at[:, None] * u.counts()[None] / u.count).round().long()

    def hidden(s: Tensor, rows: Tensor) -> Tensor:
        first = place[rows] < own[s, rows, None]
        return ~first if keep else first

    return Curve(at.double() / u.count, u.values(len(at), hidden))


def tops(count: int, shares: Iterable[float]) -> Tensor:
    """(K,) numbers of units at the top of the map, rounded up."""
    return torch.tensor([min(count, math.ceil(s * count - 1e-9)) for s in shares])
