"""Searches that are written for one row, run in step for all: what they want to know is asked together."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.points import Points
from ..core.question import Question
from ..core.search import Goal
from ..modalities.actions import Actions, Cells

Asking: TypeAlias = Generator[Cells, Cells, Any]
"""A search for one row: yields points (K, P) and is sent their shortfalls (K,)."""


def together(*parts: Asking) -> Generator[Cells, Cells, list[Any]]:
    """Several searches for one row in step; what each gives back, in order."""
    given: list[Any] = [None] * len(parts)
    wanted: dict[int, Cells] = {}
    for i, part in enumerate(parts):
        _step(i, part, None, wanted, given)
    while wanted:
        turn = dict(wanted)
        answers = yield np.concatenate(list(turn.values()))
        at = 0
        for i, z in turn.items():
            _step(i, parts[i], answers[at : at + len(z)], wanted, given)
            at += len(z)
    return given


def _step(i: int, part: Asking, answers: Cells | None, wanted: dict[int, Cells], given: list[Any]) -> None:
    try:
        wanted[i] = next(part) if answers is None else part.send(answers)
    except StopIteration as e:
        wanted.pop(i, None)
        given[i] = e.value


def in_step(searches: Sequence[Asking], ask: Callable[[dict[int, Cells]], dict[int, Cells]]) -> list[Any]:
    """Runs one search a row to the end; `ask` answers the points of all rows that still look."""
    given: list[Any] = [None] * len(searches)
    wanted: dict[int, Cells] = {}
    for b, s in enumerate(searches):
        _step(b, s, None, wanted, given)
    while wanted:
        turn = dict(wanted)
        answers = ask(turn)
        for b in turn:
            _step(b, searches[b], answers[b], wanted, given)
    return given


class Asker:
    """Asks the model about points of rows, and says how far each is from the goal."""

    def __init__(self, q: Question, goal: Goal) -> None:
        self.q, self.goal = q, goal
        self.like = q.x
        self.dtype = torch.empty(0, dtype=q.x.dtype).numpy().dtype

    def outputs(self, z: Cells) -> Tensor:
        """(M, ...) answers at any points, whosever they are."""
        rows = self.q.size
        n = -(-len(z) // rows)
        flat = torch.from_numpy(np.ascontiguousarray(z)).to(self.like.dtype)

        def make(s: Tensor, b: Tensor) -> Tensor:
            return flat[(s.cpu() * rows + b.cpu()).clamp(max=len(flat) - 1)].to(self.like.device)

        return self.q.outputs(Points(n, make)).flatten(0, 1)[: len(z)]

    def shortfalls(self, outputs: Tensor, rows: Sequence[int]) -> Cells:
        """(M, rows) how far the same answers are from the goals of some rows."""
        out = outputs[:, None].expand(len(outputs), self.q.size, *outputs.shape[1:])
        return self._short(out)[:, list(rows)]

    def __call__(self, turn: dict[int, Cells]) -> dict[int, Cells]:
        """The shortfalls of every row's points."""
        out = self.outputs(np.concatenate(list(turn.values())))
        most = max(map(len, turn.values()))
        if most == 0:
            return {b: np.empty(0) for b in turn}
        index = np.zeros((most, self.q.size), np.int64)
        at = 0
        for b, z in turn.items():
            index[: len(z), b] = np.arange(at, at + len(z))
            at += len(z)
        short = self._short(out[torch.from_numpy(index).to(out.device)])
        return {b: short[: len(z), b] for b, z in turn.items()}

    def _short(self, out: Tensor) -> Cells:
        """(n, B) from outputs (n, B, ...)."""
        rows = torch.arange(self.q.size).repeat(len(out))
        value = self.q.resolved_target().read(out.flatten(0, 1), rows).reshape(len(out), self.q.size)
        return np.asarray(self.goal.shortfall(out, value, self.q).detach().cpu().numpy(), np.float64)


class Pool:
    """What is known of one row: every point that was asked, within a budget."""

    def __init__(self, own: Cells, within: Actions, budget: int, sparsity: float, dtype: Any, draw: np.random.Generator, guard: float) -> None:
        self.own, self.within, self.left, self.sparsity, self.dtype, self.draw, self.guard = own, within, budget, sparsity, dtype, draw, guard
        self.seen: dict[bytes, float] = {}
        self.points: list[Cells] = []
        self.short: list[float] = []

    def allowed(self, z: Cells) -> Cells:
        """The nearest points that are allowed, in the precision in which the model is asked."""
        z = np.atleast_2d(z).astype(self.dtype).astype(np.float64)
        return self.within.nearest(z, self.own)

    def ask(self, z: Cells) -> Generator[Cells, Cells, Cells]:
        """(K,) shortfalls of allowed points; infinite where the budget is spent."""
        keys = [row.tobytes() for row in z]
        new = list(dict.fromkeys(k for k in keys if k not in self.seen))[: self.left]
        if new:
            place = {k: i for i, k in reversed(list(enumerate(keys)))}
            fresh = z[[place[k] for k in new]]
            self.left -= len(new)
            answers = yield fresh
            for k, p, s in zip(new, fresh, answers, strict=True):
                self.seen[k] = np.inf if s != s else self.guard if -self.guard < s < 0 else float(s)  # so near, that another batch may see it otherwise
                self.points.append(p)
                self.short.append(self.seen[k])
        return np.array([self.seen.get(k, np.inf) for k in keys])

    def price(self, z: Cells) -> Cells:
        """(K,) what points cost: the distance, and something for each column that changes."""
        moved = self.within.moves(np.atleast_2d(z), self.own)
        return np.asarray(moved.sum(-1) + self.sparsity * (moved > 0).sum(-1))

    def found(self) -> tuple[Cells, NDArray[np.float64]]:
        """The points that reach the goal, the cheapest first, and their prices."""
        good = [p for p, s in zip(self.points, self.short, strict=True) if s <= 0]
        z = np.array(good).reshape(-1, len(self.own))
        price = self.price(z) if len(z) else np.empty(0)
        order = np.argsort(price, kind="stable")
        return z[order], price[order]

    def changed(self, z: Cells) -> list[int]:
        """The units that a point changes."""
        return [int(u) for u in np.flatnonzero(self.within.moves(z, self.own) > 0)]

    def put(self, z: Cells, unit: int, cells: Cells) -> Cells:
        """(K, P) a point with other cells (K, cells of the unit) of one unit."""
        out = np.repeat(np.atleast_2d(z), len(cells), 0)
        out[:, list(self.within.units[unit])] = cells
        return out
