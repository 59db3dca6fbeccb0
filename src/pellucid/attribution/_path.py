"""Sums along any path: what each step adds, from points and gradients that come one after the other."""

import torch
from torch import Tensor

from ..core.procedure import sum_of
from ..core.tree import Tree, each


class Trapezoid:
    """The mean gradient of both ends of every step, times the step; beside it the same over every other point.

    The two differ by about three times the error of the first on a smooth path: `half` tells how far to trust `whole`.
    Memory does not grow with the number of points.
    """

    def __init__(self) -> None:
        self.n = 0
        self.whole: Tree = None
        self.half: Tree = None

    def add(self, z: Tree, g: Tree) -> None:
        """The next point of the path, and the gradient there."""
        here = (each(wide, z), each(wide, g))
        if not self.n:
            self.whole = self.half = each(torch.zeros_like, here[0])
            self._even = here
        else:
            self.whole = each(torch.add, self.whole, _step(self._last, here))
        self._last = here
        if self.n % 2 == 0:
            self._catch_up()
        self.n += 1

    def _catch_up(self) -> None:
        self.half, self._even = each(torch.add, self.half, _step(self._even, self._last)), self._last

    def sums(self) -> tuple[Tree, Tree]:
        """(the sum over all points, the sum over every other point)."""
        self._catch_up()
        return self.whole, self.half


def _step(a: tuple[Tree, Tree], b: tuple[Tree, Tree]) -> Tree:
    return each(lambda y, g, z, h: (z - y) * (g + h) / 2, *a, *b)


def told(steps: int, values: Tree, change: Tensor) -> str:
    """How nearly the values sum to the change of the target from one end of the path to the other."""
    gap = float(((sum_of(values) - change).abs() / change.abs().clamp(min=1e-30)).max())
    return f"{steps} steps; the values sum to the change of the target to within {gap:.2%} of it"


def wide(t: Tensor) -> Tensor:
    """In single precision at least."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
