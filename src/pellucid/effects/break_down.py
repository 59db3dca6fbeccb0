"""Break-down: the way from the mean answer to one row's answer, its cells fixed one after the other."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, param
from ..core.estimator import Estimator, Fitted
from ..core.points import Points
from ..core.question import Question
from ..core.tree import leaves
from ..modalities.association import strong_ties
from ._curves import spread
from ._rows import Floats, Sheet, asked, part_of, some
from .ceteris_paribus import places_of


@dataclass(frozen=True)
class Step:
    """One step: the columns that are fixed, what they hold, what that adds to the mean answer, and its standard error over rows."""

    columns: tuple[str, ...]
    held: tuple[str, ...]
    value: float
    error: float


@dataclass(frozen=True)
class Way:
    """All steps of one row: `base` is the mean answer, `total` the row's own."""

    row: Any
    base: float
    total: float
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BrokenDown(Fitted):
    """The ways of the rows that were asked about."""

    ways: tuple[Way, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """A line a step, in order, the mean answer first."""
        return [
            line for w in self.ways for line in (
                {"row": w.row, "column": "the mean answer", "value": "", "adds": w.base, "error": None, "answer": w.base},
                *({"row": w.row, "column": ":".join(s.columns), "value": ":".join(s.held), "adds": s.value, "error": None if s.error != s.error else s.error,
                   "answer": w.base + sum(t.value for t in w.steps[: k + 1])} for k, s in enumerate(w.steps)))
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BreakDown(Estimator):
    """Along which way does the mean answer of the table become this row's answer?

    How: in all rows the columns are set to the row's cells one after the other; each step is worth how far the mean answer moves. Columns go in the order
    of how far each moves the mean by itself; with `interactions`, two go together where what they do beyond both is more than what either does.
    Units: target units; the steps sum to the row's answer less the mean answer.
    Misleads when: columns work together: another order would share their part otherwise (Shapley values are the mean over all orders), or columns depend
    on each other: rows between are asked about that never occur.
    Source: Staniak and Biecek 2018, arXiv:1804.01955; with interactions Gosiewska and Biecek 2019, arXiv:1903.11420.
    """

    card = Card(title="Break-down", paper="arXiv:1804.01955", needs=Needs.VALUE, scope="local", random=True,
                cost="2 forward rows a column, row and background row; with `interactions` one more for each pair")  # fmt: skip
    row: Any = param(0, "which rows of the table, by place: a number or a list; 0 is the first")
    rows: int = param(500, "background rows; drawn at random where there are more", ge=2, unit="rows")
    interactions: bool = param(False, "whether two columns may be fixed together")

    def fit(self, q: Question) -> BrokenDown:
        sheet = Sheet.of(q)
        mine = places_of(self.row, q.size)
        chosen = some(np.arange(q.size), self.rows, np.random.default_rng(q.seed))
        part = part_of(q, chosen)
        own = part_of(q, mine).target_values().detach().double().cpu().numpy()
        ways = [self._way(sheet, part, int(r), float(total)) for r, total in zip(mine, own, strict=True)]
        notes = [f"background: {len(chosen):,} of {q.size:,} rows, drawn at random"] if len(chosen) < q.size else []
        notes += [f"{t}: which of the two is fixed first decides how they share" for t in strong_ties(sheet.codes, sheet.columns, range(len(sheet.columns)))[:4]]
        return BrokenDown(ways=tuple(ways), notes=tuple(notes))

    def _way(self, sheet: Sheet, part: Question, r: int, total: float) -> Way:
        names, cells, n = [c.name for c in sheet.columns], sheet.codes[r], len(sheet.columns)
        plain = part.target_values().detach().double().cpu().numpy()
        alone = fixed(part, cells, [(j,) for j in range(n)]) - plain
        weight: dict[tuple[int, ...], float] = {(j,): float(alone[j].mean()) for j in range(n)}
        if self.interactions and n > 1:
            pairs = list(itertools.combinations(range(n), 2))
            both = fixed(part, cells, pairs) - plain
            weight |= {p: float((both[k] - alone[p[0]] - alone[p[1]]).mean()) for k, p in enumerate(pairs)}
        order = _order(weight)
        walked = [tuple(sorted(itertools.chain(*order[: k + 1]))) for k in range(len(order))]
        path = np.concatenate([plain[None], fixed(part, cells, walked)])
        moved = np.diff(path, axis=0)
        steps = tuple(Step(tuple(names[j] for j in p), tuple(sheet.columns[j].word(cells[j]) for j in p), float(m.mean()), float(spread(m[:, None])[0])) for p, m in zip(order, moved, strict=True))
        return Way(sheet.q.ids[r], float(plain.mean()), total, steps)


def fixed(q: Question, cells: Floats, sets: Sequence[tuple[int, ...]]) -> Floats:
    """(sets, B) answers with the columns of each set holding `cells`."""
    x = leaves(q.point)[0]
    given = torch.as_tensor(cells).to(x)
    mask = torch.zeros(len(sets), x.shape[1], dtype=torch.bool)
    for k, s in enumerate(sets):
        mask[k, list(s)] = True

    def make(s: Tensor, rows: Tensor) -> Tensor:
        return torch.where(mask[s].to(x.device), given, x[rows.to(x.device)])

    return asked(q, Points(len(sets), make))


def _order(weight: dict[tuple[int, ...], float]) -> list[tuple[int, ...]]:
    """Columns and pairs, the weightiest first, each column once."""
    out: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for p in sorted(weight, key=lambda p: (-abs(weight[p]), len(p), p)):
        if not taken & set(p):
            out.append(p)
            taken |= set(p)
    return out
