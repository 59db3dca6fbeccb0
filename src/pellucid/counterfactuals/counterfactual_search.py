"""The smallest changes of a row that would have changed the answer."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.question import Question
from ..core.rows import row_seed
from ..core.search import Budget, Found, Goal, Search
from ..modalities.actions import Actions, Cells, as_cells
from ..modalities.columns import Column
from ._asking import Asker, Pool, in_step, together
from ._exploring import chosen, explore
from ._judging import USUAL, nearness, relaxed, shaken, words

SHAKES = 20
"""Small changes that each counterfactual is tried with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterfactuals(Found):
    """For every row, up to `n` nearby rows with the answer that is wanted, and what is known of each. Distances are in median absolute deviations."""

    columns: tuple[Column, ...] = ()
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B, P) the rows themselves, as codes."""
    ids: tuple[Any, ...] = ()
    moves: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B, P) what each changed cell costs."""
    changed: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) how many columns change; a one-hot group counts once."""
    before: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B, ...) the model's outputs for the rows."""
    after: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B, ...) the same for the counterfactuals."""
    labels: tuple[str, ...] = ()
    wanted: str = ""
    near: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) the mean distance to the nearest rows of data that have the answer."""
    usual: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) the share of such rows that lie as far from each other; below 0.05 a counterfactual is unusual."""
    held: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) the share of small changes (0.05 deviations in every number) after which the goal is still reached."""
    best: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B,) how near to the goal any row came that was asked; 0 and below: reached."""
    relaxations: tuple[tuple[tuple[str, float], ...], ...] = ()
    """A row: the rules without which the goal can be reached, and the price then; of rows for which nothing was found."""

    def table(self) -> list[dict[str, Any]]:
        """A row for each changed cell of each counterfactual."""
        out: list[dict[str, Any]] = []
        for b, name in enumerate(self.ids):
            mine = np.flatnonzero(self.success[:, b].numpy()).tolist()
            if not len(mine):
                out.append({"row": name, "counterfactual": None, "column": None, "from": None, "to": None, "shortfall": float(self.best[b])})
            for k in mine:
                fact = {"distance": float(self.distance[k, b]), "columns changed": int(self.changed[k, b]), "answer": self.answer(self.after[k, b])}
                fact |= {"plausible": self.plausible(k, b), "held": float(self.held[k, b])}
                cells = [{"column": c, "from": a, "to": z} for c, a, z in self.cells(k, b)] or [{"column": "", "from": "", "to": ""}]
                out += [{"row": name, "counterfactual": k} | cell | fact for cell in cells]
        return out

    def cells(self, k: int, b: int) -> list[tuple[str, str, str]]:
        """(column, cell before, cell after) for each cell that counterfactual `k` of row `b` changes."""
        a, z = self.rows[b].double().numpy(), self.points[k, b].double().numpy()
        return [(c.name, c.word(a[j]), told(c, a[j], z[j])) for j, c in enumerate(self.columns) if not (a[j] == z[j] or (a[j] != a[j] and z[j] != z[j]))]

    def records(self) -> list[dict[str, Any]]:
        """Every counterfactual as a whole row of cells by their columns' names: what `pandas.DataFrame(...)` takes."""
        out = []
        for b, name in enumerate(self.ids):
            for k in np.flatnonzero(self.success[:, b].numpy()).tolist():
                codes = self.points[k, b].double().tolist()
                out.append({"row": name, "counterfactual": k} | {c.name: c.values[round(v)] if c.values and v == v else v for c, v in zip(self.columns, codes, strict=True)})
        return out

    def answer(self, out: Tensor) -> str:
        """An answer in words: the class and its number, or the number alone."""
        out = out.reshape(-1)
        k = int(out.argmax())
        return f"{float(out[0]):.4g}" if len(out) == 1 else f"{self.labels[k] if self.labels else f'class {k}'} ({float(out[k]):.3g})"

    def plausible(self, k: int, b: int) -> str:
        """ "plausible", "unusual", or "unknown" where too few rows of data have the answer."""
        share = float(self.usual[k, b])
        return "unknown" if share != share else "plausible" if share >= 1 - USUAL else "unusual"

    def said(self, b: int) -> str:
        """What was found for a row, in one sentence."""
        found = int(self.success[:, b].sum())
        if found and not int(self.changed[0, b]):
            return f"{named(self.ids[b])}: the answer is already the one that is wanted, {self.answer(self.before[b])}."
        if found:
            return f"{named(self.ids[b])}: {found} found, the nearest changes {int(self.changed[0, b])} column{'s' * (int(self.changed[0, b]) != 1)}."
        why = words(self.relaxations[b]) if self.relaxations[b] else "no single rule stands in the way"
        return f"{named(self.ids[b])}: none found. The nearest misses the goal by {float(self.best[b]):.3g}; {why}."


def named(name: Any) -> str:
    """A row by its name, at the beginning of a sentence."""
    return name if isinstance(name, str) else f"Row {name}"


def told(c: Column, before: float, after: float) -> str:
    """A changed cell in words, with as many digits as it takes to tell it from the one before."""
    word = c.word(after)
    return word if word != c.word(before) or c.values else f"{after:.12g}"


@dataclass(frozen=True, kw_only=True)
class CounterfactualSearch(Search):
    """What is the least that would have had to be different for another answer?

    How: rows of data that have the answer are brought back towards the row; single changes, pairs, and mixtures of both are tried as well. Each that
        reaches the goal is made sparser (columns go back as long as the answer holds) and shorter (numbers move back by nested line searches).
        Of what was found the cheapest is shown first, then those that change other columns. The search ends when it has asked `budget` rows.
    Units: a distance is the sum over changed columns of the way in median absolute deviations of the data, 1 for another word; `sparsity` is added a column.
    Misleads when: columns depend on each other, which only `usual` looks at: a counterfactual says what the model would answer, not what would happen in the world.
        The nearest lie just behind the boundary (`held` says how often small changes undo them); a margin moves them further in. Nearest is nearest of what was found.
    Source: Wachter, Mittelstadt and Russell 2018, arXiv:1711.00399 (distance in MADs); Mothilal, Sharma and Tan 2020, arXiv:1905.07697 (diversity, sparsity);
        Keane and Smyth 2020, arXiv:2005.13997 (nearest unlike neighbours); Guidotti 2022, 10.1007/s10618-022-00831-6 (survey).
    """

    card = Card(
        title="Counterfactual search",
        paper="Wachter, Mittelstadt and Russell 2018, arXiv:1711.00399",
        cost="at most budget forward rows a row, and at most data_rows once",
        random=True,
    )

    n: int = param(3, "counterfactuals for a row", ge=1, le=100)
    budget: int = param(3000, "model rows that may be asked for a row", ge=60, unit="rows")
    sparsity: float = param(0.5, "what each changed column costs beside its distance", ge=0, unit="median absolute deviations")
    data_rows: int = param(2000, "rows of data that are asked at most; more are drawn from", ge=1, unit="rows")
    neighbours: int = param(5, "nearest rows of data that say whether a counterfactual is usual", ge=1)

    def find(self, q: Question, within: Budget, goal: Goal) -> Counterfactuals:
        """The search, a row at a time, asked in step."""
        if not isinstance(within, Actions):
            raise UsageError(f"{self.name} needs Actions, which say what may change in a row of a table; got {type(within).__name__}.")
        if q.places or q.resolved_target().reads is not None or not isinstance(q.x, Tensor):
            raise NotApplicable(f"{self.name} looks for rows of a table; ask at the input, about the model's output.")
        asker, own, rows = Asker(q, goal), as_cells(q.x), self._rows(q, within)
        outputs = asker.outputs(rows)
        short = asker.shortfalls(outputs, range(q.size))
        guard = float(outputs.abs().max().clamp(min=1e-3)) * (1e-6 if outputs.dtype == torch.float32 else 1e-10)
        reserve = self.n * (SHAKES + 2) + 2
        n = max(1, min(self.n, (self.budget - 30) // (SHAKES + 2)))
        left = max(self.budget - min(reserve, self.budget // 2), 1)
        pools = [Pool(own[b], within, left, self.sparsity, asker.dtype, np.random.default_rng(row_seed(q.seed, q.ids[b], 0)), guard) for b in range(q.size)]
        found = in_step([self._one(p, rows, short[:, b], n) for b, p in enumerate(pools)], asker)
        return self._told(q, within, goal, asker, pools, found, rows, short)

    def _rows(self, q: Question, within: Actions) -> Cells:
        """Some rows of data: the same for each row that is asked about."""
        if len(within.data) <= self.data_rows:
            return within.data
        draw = np.random.default_rng(row_seed(q.seed, "data", 0))
        return within.data[np.sort(draw.permutation(len(within.data))[: self.data_rows])]

    def _one(self, pool: Pool, rows: Cells, short: Cells, n: int) -> Any:
        """The search for one row: the points that are shown, how often each holds, and what stands in the way."""
        last = pool.left // 6
        pool.left -= last
        yield from explore(pool, rows, short, n)
        z = chosen(pool, n)
        if not len(z):
            return z, np.empty(0), (yield from relaxed(pool, rows, short, last + pool.left))
        tries = min(SHAKES, max(1, last // len(z)))
        held = yield from together(*(_held(pool, p, tries) for p in z))
        return z, np.array(held), []

    def _told(self, q: Question, within: Actions, goal: Goal, asker: Asker, pools: list[Pool], found: list[Any], rows: Cells, short: Cells) -> Counterfactuals:
        n = max([1, *(len(z) for z, _, _ in found)])
        points = np.repeat(as_cells(q.x)[None], n, 0)
        reached, held = np.zeros((n, q.size), bool), np.full((n, q.size), np.nan)
        for b, (z, h, _) in enumerate(found):
            points[: len(z), b], reached[: len(z), b], held[: len(z), b] = z, True, h
            if not len(z):
                points[0, b] = _nearest(pools[b])
        tensor = torch.from_numpy(points).to(q.x)
        after = q.outputs(tensor)
        missed = asker._short(after)
        reached &= missed <= 0
        moves = within.moves(points, as_cells(q.x))
        near, usual = np.full((n, q.size), np.nan), np.full((n, q.size), np.nan)
        draw = np.random.default_rng(row_seed(q.seed, "near", 0))
        for b in range(q.size):
            near[:, b], usual[:, b] = nearness(within, points[:, b], rows[short[:, b] <= 0], self.neighbours, draw)
        best = [min([s for s in p.short if np.isfinite(s)], default=np.inf) for p in pools]
        lost = [q.ids[b] for b in range(q.size) if not reached[:, b].any()]
        notes = (f"no counterfactual was found for {len(lost)} of {q.size} rows, within {self.budget} model rows each",) if lost else ()
        return Counterfactuals(
            points=tensor, success=torch.from_numpy(reached), shortfall=torch.from_numpy(np.maximum(missed, 0)), distance=torch.from_numpy(moves.sum(-1)), columns=within.columns, rows=q.x,
            ids=q.ids, moves=torch.from_numpy(_spread(within, moves, points, as_cells(q.x))), changed=torch.from_numpy((moves > 0).sum(-1)), before=q.own_outputs().detach().cpu(),
            after=after.detach().cpu(), labels=tuple(q.model.labels or ()), near=torch.from_numpy(near), usual=torch.from_numpy(usual), held=torch.from_numpy(held),
            best=torch.tensor(best, dtype=torch.float64),
            relaxations=tuple(tuple(r) for _, _, r in found), notes=notes,
        )  # fmt: skip


def _held(pool: Pool, z: Cells, times: int) -> Any:
    short = yield shaken(pool, z, times)
    return float((short <= 0).mean())


def _nearest(pool: Pool) -> Cells:
    """The point that came nearest to the goal."""
    return pool.points[int(np.argmin(pool.short))] if pool.points else pool.own


def _spread(within: Actions, moves: Cells, points: Cells, own: Cells) -> Cells:
    """(n, B, P) a unit's cost at its first changed cell."""
    out = np.zeros(points.shape)
    for u, unit in enumerate(within.units):
        out[..., unit[0]] = moves[..., u]
    return out
