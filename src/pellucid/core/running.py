"""Mean, variance and their standard errors of trees of tensors as they come, without keeping them.

Source: Welford 1962, doi:10.1080/00401706.1962.10490022; third and fourth moments: Pebay 2008, Sandia report SAND2008-6212, equations 3.1 and 3.2.
"""

import torch
from torch import Tensor

from .tree import Tree, each


class Running:
    """What has been added so far: how many samples, their mean, and the sums of powers of the deviations from it.

    `spread_too` keeps the third and fourth power as well, from which the standard error of the variance follows.
    16-bit numbers are added up in float32.
    """

    def __init__(self, spread_too: bool = False) -> None:
        self.n = 0
        self.spread_too = spread_too
        self._like: Tree = None
        self._mean: Tree = None
        self._powers: list[Tree] = []

    def add(self, one: Tree) -> None:
        """Takes in one sample."""
        wide = each(lambda v: v.float() if v.dtype.itemsize < 4 else v, one)
        self.n += 1
        if self.n == 1:
            self._like, self._mean = each(lambda v: v.new_empty(0), one), each(torch.clone, wide)
            self._powers = [each(torch.zeros_like, wide) for _ in range(3 if self.spread_too else 1)]
            return
        step = each(lambda v, m: (v - m) / self.n, wide, self._mean)
        self._mean = each(torch.add, self._mean, step)
        self._powers = self._moved(step)

    def _moved(self, step: Tree) -> list[Tree]:
        """The sums of powers once the mean has moved by `step`."""
        n, second = self.n, self._powers[0]
        fresh = each(lambda d: d * d * (n * (n - 1)), step)
        new = [each(torch.add, second, fresh)]
        if self.spread_too:
            third, fourth = self._powers[1:]
            new.append(each(lambda c, f, d, b: c + f * d * (n - 2) - 3 * d * b, third, fresh, step, second))
            new.append(each(lambda e, f, d, b, c: e + f * d * d * (n * n - 3 * n + 3) + 6 * d * d * b - 4 * d * c, fourth, fresh, step, second, third))
        return new

    @property
    def mean(self) -> Tree:
        """The mean; None before the first sample."""
        return None if self.n == 0 else self._back(self._mean)

    def error(self) -> Tree:
        """The standard error of the mean; None from a single sample."""
        return self._back(each(lambda s: (s / (self.n - 1) / self.n).sqrt(), self._powers[0])) if self.n > 1 else None

    def variance(self) -> Tree:
        """The variance without bias (divided by n - 1); None from a single sample."""
        return self._back(each(lambda s: s / (self.n - 1), self._powers[0])) if self.n > 1 else None

    def error_of_variance(self) -> Tree:
        """The standard error of the variance, for any distribution; None where `spread_too` was not asked for, or from a single sample."""
        return self._back(each(self._error_of_variance, self._powers[0], self._powers[2])) if self.spread_too and self.n > 1 else None

    def _error_of_variance(self, second: Tensor, fourth: Tensor) -> Tensor:
        """Var(s^2) = (m4 - s^4 (n - 3) / (n - 1)) / n."""
        n = self.n
        return ((fourth / n - (second / (n - 1)).square() * (n - 3) / (n - 1)).clamp(min=0) / n).sqrt()

    def _back(self, tree: Tree) -> Tree:
        return each(lambda v, like: v.to(like.dtype), tree, self._like)
