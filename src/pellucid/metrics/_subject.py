"""An explanation under test: its question, its maps on a grid, and the method that can be run again."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import catalogue
from ..core.errors import NotApplicable
from ..core.evidence import Cost
from ..core.explanation import Explanation
from ..core.planner import Plan
from ..core.procedure import Method
from ..core.question import Question
from ..core.tree import is_float, leaves
from ._mask_pool import SIDE, shrink

PICTURE, FEATURES = "picture", "features"
FEWEST = 4
"""Features below which moving a map about tells nothing."""


@dataclass(frozen=True)
class Grid:
    """Where hiding parts can test a map: on the picture, over the features along `axis` of the point, or nowhere (`why`)."""

    kind: str
    shape: tuple[int, ...] = ()
    axis: int = 1
    why: str = ""

    @property
    def compared(self) -> tuple[int, ...]:
        """The shape on which maps and masks are compared."""
        return tuple(min(SIDE, d) for d in self.shape) if self.kind == PICTURE else self.shape


@dataclass(frozen=True)
class Subject:
    """What is tested. `method` is None for a map that was made elsewhere."""

    q: Question
    e: Explanation
    method: Method | None
    grid: Grid

    @property
    def size(self) -> int:
        """How many rows."""
        return self.q.size

    def maps(self) -> Tensor:
        """The maps on the grid of the test."""
        return on_grid(self.e, self.grid)

    def row_name(self) -> str:
        """The target in words."""
        return named(self.e.target)


def subject(q: Question, e: Explanation, method: Method | None) -> Subject:
    """An explanation with all that its tests need."""
    return Subject(q, e, method, _grid(q, e))


def live(e: Explanation) -> Subject:
    """The subject of a lone metric: the method is made again from the explanation's record where the catalogue has it."""
    known = e.method in catalogue.entries("methods")
    return subject(e.question.fresh(), e, catalogue.make("methods", e.method, **e.parameters) if known else None)


def named(target: tuple[str, ...]) -> str:
    """One name for the target of all rows."""
    return target[0] if len(set(target)) == 1 else "the target"


def _grid(q: Question, e: Explanation) -> Grid:
    floats = [t for t in leaves(q.x) if is_float(t) and t.ndim > 1]
    if not isinstance(e.values, Tensor):
        return Grid("", why="The explanation holds several tensors; hiding parts tests one.")
    if len(floats) == 1 and floats[0].ndim == e.values.ndim == 4 and min(e.values.shape[2:]) > 1:
        return Grid(PICTURE, tuple(floats[0].shape[2:]))
    if q.places and floats:
        return Grid("", why=f"The map lies at {q.at}, which has no grid like the picture's; hiding parts of the input cannot test it.")
    if len(floats) > 1 or e.values.ndim not in (2, 3) or (q.places and e.values.ndim == 2):
        return Grid("", why="The map has neither the picture's grid nor one axis of features.")
    axis = 1 if e.values.ndim == 2 or q.places or e.values.shape[1] >= e.values.shape[2] else 2
    count = e.values.shape[axis]
    return Grid(FEATURES, (count,), axis) if count >= FEWEST else Grid("", why=f"A map of {count} features is too short to be moved about.")


def on_grid(e: Explanation, grid: Grid) -> Tensor:
    """(B, h, w) or (B, P) double-precision maps: channels summed, pictures averaged down to the grid of the masks."""
    if not isinstance(e.values, Tensor):
        return torch.cat([t.detach().cpu().double().flatten(1) for t in leaves(e.values)], 1)
    v = e.values.detach().cpu().double()
    if grid.kind == PICTURE:
        return shrink(v.sum(1), grid.compared)
    if grid.kind == FEATURES and v.ndim == 3:
        return v.sum(3 - grid.axis)
    return v.sum(1) if v.ndim == 4 else v.flatten(1)


def spent(q: Question, work: Callable[[], object]) -> Cost:
    """What `work` cost on this question's own engine."""
    c = q.cost()
    before = (c.forward, c.backward, c.seconds, len(c.steps))
    work()
    steps = c.steps[before[3] :]
    return Cost(c.forward - before[0], c.backward - before[1], c.seconds - before[2], max((s.size for s in steps), default=0), str(Plan(steps)) if steps else "")


Rows = tuple[float | None, ...]


def known(rows: Rows) -> list[float]:
    """The rows that could be tested."""
    return [v for v in rows if v is not None]


def mean_of(rows: Rows) -> float:
    """The mean of the rows that could be tested; NaN where none could."""
    kept = known(rows)
    return sum(kept) / len(kept) if kept else float("nan")


def scores(rows: Rows, verdict: str, sentence: str) -> Tensor:
    """Rows as a metric's scores, NaN where a row could not be tested; refuses where none could."""
    if verdict == "not applicable":
        raise NotApplicable(sentence)
    return torch.tensor([float("nan") if v is None else v for v in rows], dtype=torch.float64)
