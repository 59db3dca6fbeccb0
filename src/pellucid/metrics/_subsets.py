"""Random subsets of units of given sizes: what each holds of a map, and how much hiding it lowers the answer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.rows import row_seed
from ._units import Units


@dataclass(frozen=True)
class Subsets:
    """(K, B) subsets of P units, eight units a byte."""

    packed: np.ndarray
    count: int

    def __len__(self) -> int:
        return len(self.packed)

    def __call__(self, s: Tensor, rows: Tensor) -> Tensor:
        """(k, P) marks of those samples and rows."""
        bits = np.unpackbits(self.packed[s.numpy(), rows.numpy()], axis=-1, count=self.count)
        return torch.from_numpy(bits).bool()

    def sums(self, scores: Tensor) -> Tensor:
        """(K, B) what each subset holds of (B, P) scores."""
        k = torch.arange(len(self))
        return torch.stack([self(k, torch.full_like(k, i)).double() @ scores[i] for i in range(len(scores))], 1)


def subsets(u: Units, sizes: list[float], draws: int, purpose: str = "subset") -> Subsets:
    """`draws` subsets of each size, a share of the row's units; drawn by the question's seed and the row's name, so that other maps of the row are asked the same."""
    packed = np.zeros((len(sizes) * draws, u.size, -(-u.count // 8)), np.uint8)
    for i, (row, n) in enumerate(zip(u.q.ids, u.counts().tolist(), strict=True)):
        rng = np.random.default_rng(row_seed(u.q.seed, (purpose, row), 0))
        for k in range(len(packed)):
            bits = np.zeros(u.count, bool)
            bits[rng.choice(n, size_of(sizes[k // draws], n), replace=False, shuffle=False)] = True
            packed[k, i] = np.packbits(bits)
    return Subsets(packed, u.count)


def size_of(share: float, n: int) -> int:
    """A share of `n` units as a number of them: at least one, and at least one is left out."""
    return min(max(1, round(share * n)), max(n - 1, 1))


def drops(u: Units, chosen: Subsets) -> Tensor:
    """(K, B) how much hiding each subset lowers the answer."""
    return u.whole()[None] - u.values(len(chosen), chosen)
