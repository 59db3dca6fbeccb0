"""Symmetry: do units that play the same part get the same value?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.points import Points
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._near import flat, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class Symmetry(Metric):
    """Do columns that play the same part get the same value?

    How: for pairs of columns that the model treats alike (exchanging them changes no answer, at the row and at random points), both are set to their mean, the method is run
    again, and the difference of the two values is divided by the largest value.
    Units: relative difference, the largest over pairs. Lower is better; 0 holds the axiom.
    Chance: about 1 for random values.
    Misleads when: the baseline is not the same for both columns: then they do not play the same part.
    Source: Shapley, 1953; Sundararajan, Taly and Yan, 2017, section 4.
    """

    card = Card(title="Same part, same value", paper="arXiv:1703.01365", better="lower", cost="one more explanation, and a few forward rows a pair", random=True)
    pairs: Any = param(None, "pairs of columns, such as ((0, 1), (2, 5)); None: all pairs of at most `most` columns")
    most: int = param(12, "columns whose pairs are tried", ge=2)
    draws: int = param(4, "random points at which columns are exchanged", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The largest difference, a row; NaN where no two columns are alike."""
        s = runnable(e, "symmetry")
        x = s.q.point
        if len(leaves(x)) != 1 or leaves(x)[0].ndim != 2:
            raise NotApplicable("symmetry exchanges columns of one table; these inputs are none.")
        n = x.shape[1]
        pairs = [tuple(p) for p in self.pairs] if self.pairs is not None else [(i, j) for i in range(min(n, self.most)) for j in range(i)]
        if any(len(p) != 2 or not all(0 <= i < n for i in p) for p in pairs):
            raise UsageError(f"symmetry needs pairs of columns from 0 to {n - 1}; got {pairs}.")
        alike = self._alike(s.q, x, pairs)
        found = torch.full((len(pairs), s.size), torch.nan, dtype=torch.float64)
        q = s.q.with_target(s.q.resolved_target())
        for k, (i, j) in enumerate(pairs):
            if bool(alike[k].any()):
                z = x.clone()
                z[:, [i, j]] = x[:, [i, j]].mean(1, keepdim=True)
                values = flat(s.method(q.with_point(z)).values)  # type: ignore[misc]
                gap = (values[:, i] - values[:, j]).abs() / values.abs().amax(1).clamp_min(1e-300)
                found[k] = torch.where(alike[k], gap, torch.nan)
        top = found.nan_to_num(-torch.inf).amax(0)
        return told(torch.where(found.isnan().all(0), torch.nan, top), "Largest difference between values of columns that play the same part", "lower", "no two columns play the same part")

    def _alike(self, q: Any, x: torch.Tensor, pairs: list[tuple[int, ...]]) -> torch.Tensor:
        """(pairs, B) whether exchanging them changes no answer."""
        every = self.draws + 1

        def make(s: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            draw, pair, swap = s // 2 % every, s // 2 // every, s % 2
            z = x[rows] + torch.where((draw > 0)[:, None].to(x.device), leaves(q.noise(draw, rows))[0], 0)
            order = torch.arange(x.shape[1]).repeat(len(s), 1)
            for r, (p, w) in enumerate(zip(pair.tolist(), swap.tolist(), strict=True)):
                if w:
                    i, j = pairs[p]
                    order[r, i], order[r, j] = j, i
            return z.gather(1, order.to(z.device))

        f = q.value(Points(len(pairs) * every * 2, make)).double().cpu().reshape(len(pairs), every, 2, -1)
        return ((f[:, :, 0] - f[:, :, 1]).abs() <= 1e-6 * f.abs().amax((1, 2))[:, None]).all(1)
