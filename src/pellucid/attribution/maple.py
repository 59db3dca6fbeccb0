"""MAPLE: a linear model of the rows that a random forest takes for neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.points import Points
from ..core.procedure import Method, Values
from ..core.question import Question, Samples
from ..core.rows import row_seed
from ..core.tree import Tree, leaves
from ._local_linear import Local, local_linear


@dataclass(frozen=True, kw_only=True)
class MAPLE(Method):
    """Which linear model holds among the rows that the answer itself makes neighbours of this one?

    How: a random forest learns the answers to the background, pel.Samples(rows); a background row counts as a neighbour as often as it shares a
    leaf with the row, one over the leaf's size each time. A ridge regression of the answers, so weighted, gives the slopes. Without
    a background, rows are drawn evenly between the baseline and the point, each number on its own.
    Units: target units: slope x (value - the neighbours' mean); they sum to the linear model's answer here less its mean over neighbours.
    Misleads when: the local R2, which is always told, is low, or the background is small: neighbours then lie far away.
    Source: Plumb, Molitor, Talwalkar 2018, arXiv:1807.02910, equations 2 to 5.
    """

    card = Card(
        title="MAPLE", scope="semi-local", paper="arXiv:1807.02910", needs=Needs.VALUE, cost="one forward row a background row", baseline=True, samples=True, random=True,
        promises=Promise.NONE,
    )
    trees: int = param(200, "trees of the forest", ge=1, le=10_000)
    leaf: int = param(10, "the fewest background rows in a leaf", ge=1)
    draws: int = param(500, "rows drawn where the baseline is no background of many rows", ge=20, unit="forward rows")
    num_features: Any = param("all", "the numbers that split the trees' roots best and may be used by the linear model", ge=1)

    def attribute(self, q: Question) -> Values:
        rows = _background(q, self.draws)
        y = q.value(Points(rows.n, rows.make)).double().cpu()
        x = torch.cat([t.double().cpu().flatten(1) for t in leaves(q.point)], 1).numpy()
        shared: dict[bytes, Any] = {}
        found: list[Local] = []
        for i in range(q.size):
            table = rows.flat(i)
            forest = self._forest(table, y[:, i].numpy(), row_seed(q.seed, "forest" if rows.same else q.ids[i], -3), shared)
            most = table.shape[1] if self.num_features == "all" else min(self.num_features, table.shape[1])
            found.append(local_linear(forest, table, y[:, i].numpy(), x[i], most))
        r2 = torch.tensor([f.r2 for f in found], dtype=torch.float64)
        kept = "" if self.num_features == "all" else f"; the {self.num_features} best of {x.shape[1]} numbers are used, the others get zero"
        count = f"worth {min(f.near for f in found):.0f} to {max(f.near for f in found):.0f} neighbours"
        notes = (f"{rows.n:,} {rows.words}, {count}{kept}", f"local R2 {float(r2.min()):.2f} to {float(r2.max()):.2f}")
        values, error = (_packed(q, np.stack([getattr(f, name) for f in found])) for name in ("values", "error"))
        return Values(values, error=error, fit=r2, notes=notes)

    def _forest(self, x: np.ndarray, y: np.ndarray, seed: int, known: dict[bytes, Any]) -> Any:
        """One forest for all rows with the same table and the same answers."""
        from sklearn.ensemble import RandomForestRegressor

        y = _coarse(y)
        key = x.tobytes() + y.tobytes() if len(x) * x.shape[1] < 10**6 else y.tobytes()
        if key not in known:
            grown = RandomForestRegressor(self.trees, min_samples_leaf=min(self.leaf, max(1, len(x) // 2)), max_features=0.5, random_state=seed % 2**32)
            known[key] = grown.fit(x, y)
        return known[key]


def _coarse(y: np.ndarray) -> np.ndarray:
    """Answers as whole numbers from 0 to 500: sums of them are exact, so that rounding errors break no ties between splits, in any precision."""
    reach = np.ptp(y)
    return np.round(500 * (y - y.min()) / reach) if reach > 0 else np.zeros_like(y)


@dataclass(frozen=True)
class _Rows:
    """Background rows: `parts` of shape (D, B, ...)."""

    parts: list[Tensor]
    words: str
    same: bool

    @property
    def n(self) -> int:
        return len(self.parts[0])

    def make(self, s: Tensor, rows: Tensor) -> Tree:
        return tuple(t[s.to(t.device), rows.to(t.device)] for t in self.parts)

    def flat(self, row: int) -> np.ndarray:
        return torch.cat([t[:, row].double().cpu().flatten(1) for t in self.parts], 1).numpy()


def _background(q: Question, draws: int) -> _Rows:
    if not isinstance(q.baseline, Samples):
        return _Rows([torch.stack(t, 1) for t in zip(*(_between(q, i, draws) for i in range(q.size)), strict=True)], "rows drawn between baseline and point", same=False)
    if q.baseline.n < 4:
        raise UsageError(f"MAPLE needs a background of at least 4 rows; got {q.baseline.n}. Give pel.Samples of more rows, or a single baseline.")
    held = [leaves(q.with_baseline(tuple(t[k] for t in q.baseline.parts)).start) for k in range(q.baseline.n)]
    return _Rows([torch.stack(t) for t in zip(*held, strict=True)], "background rows", same=True)


def _between(q: Question, row: int, draws: int) -> list[Tensor]:
    """(draws, ...) points between the baseline's and the point's numbers, by the row's name."""
    g = torch.Generator().manual_seed(row_seed(q.seed, q.ids[row], -2))
    ends = zip(leaves(q.start), leaves(q.point), strict=True)
    return [torch.lerp(a[row], b[row], torch.rand(draws, *a.shape[1:], generator=g, dtype=torch.float64).to(a)) for a, b in ends]


def _packed(q: Question, flat: np.ndarray) -> Tree:
    parts = leaves(q.point)
    cut = torch.from_numpy(flat).split([t[0].numel() for t in parts], 1)
    return q.pack([t.reshape(p.shape).to(p) for t, p in zip(cut, parts, strict=True)])
