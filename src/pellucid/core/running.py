"""Mean and standard error of trees of tensors as they come, without keeping them (Welford 1962, doi:10.1080/00401706.1962.10490022)."""

import torch

from .tree import Tree, each


class Running:
    """What has been added so far: how many samples, their mean, and the sum of squared deviations from it."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tree = None
        self.square: Tree = None

    def add(self, one: Tree) -> None:
        """Takes in one sample."""
        self.n += 1
        if self.n == 1:
            self.mean, self.square = each(torch.clone, one), each(torch.zeros_like, one)
            return
        delta = each(torch.sub, one, self.mean)
        self.mean = each(lambda m, d: m + d / self.n, self.mean, delta)
        self.square = each(lambda s, d, v, m: s + d * (v - m), self.square, delta, one, self.mean)

    def error(self) -> Tree:
        """The standard error of the mean; None from a single sample."""
        return each(lambda s: (s / (self.n - 1) / self.n).sqrt(), self.square) if self.n > 1 else None
