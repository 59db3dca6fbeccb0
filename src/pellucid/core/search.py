"""Searches for inputs: counterfactuals, attacks. The author writes `find`; the base class checks what was found and records what it cost."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .errors import CannotComplete
from .estimator import Fitted, stamped
from .paying import paying
from .procedure import Procedure
from .question import Question
from .tree import Tree


class Budget(Protocol):
    """What may be changed, and how far: a norm and its size, ranges, what must stay. Projection is the budget's business."""

    def project(self, z: Tree, q: Question) -> Tree:
        """The nearest points that are allowed, (n, B, ...)."""

    def excess(self, z: Tree, q: Question) -> Tensor:
        """(n, B) by how much points break what is allowed; 0 where they do not."""


class Goal(Protocol):
    """When is a point good enough?"""

    def shortfall(self, outputs: Tensor, value: Tensor, q: Question) -> Tensor:
        """(n, B) how far answers are from what is wanted, from the whole outputs (n, B, ...) and the target's values (n, B); 0 and below: reached."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found(Fitted):
    """What a search found for every row: up to `n` points, whether each reaches the goal, and how near the best came where none does."""

    points: Tree = None
    """(n, B, ...) the points, the nearest first."""
    success: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    """(n, B) whether each reaches the goal within the budget."""
    shortfall: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) how far from the goal each is; 0 where it is reached."""
    distance: Tensor = field(default_factory=lambda: torch.empty(0))
    """(n, B) how far each is from its row, in units that the search names."""


class Search(Procedure):
    """Looks for inputs that reach a goal within a budget."""

    def find(self, q: Question, within: Budget, goal: Goal) -> Found:
        """The mathematics."""
        raise NotImplementedError

    def __call__(self, q: Question, within: Budget, goal: Goal) -> Found:
        """Checks needs, searches, asks the model again whether what was found holds, and records how it came about."""
        self._check_needs(q)
        q = q.fresh()
        try:
            with paying(q.engine.spend):
                found = self.find(q, within, goal)
                self._verify(q, found, within, goal)
            return stamped(found, self, q)
        finally:
            q.close()

    def _verify(self, q: Question, found: Found, within: Budget, goal: Goal) -> None:
        """A success that breaks the budget or misses the goal is a fault of the search, never a result."""
        if not found.success.any():
            return
        short = goal.shortfall(q.outputs(found.points), q.value(found.points), q)
        wrong = found.success & ((short > 0) | (within.excess(found.points, q) > 0))
        if wrong.any():
            raise CannotComplete(f"{self.name} counted {int(wrong.sum())} points as found that miss the goal or break the budget. This is a fault of the search.")
