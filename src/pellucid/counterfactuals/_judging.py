"""Which counterfactuals are shown, and what is known beside each: whether it lies near data, whether small changes undo it, what stands in the way."""

from collections.abc import Generator, Sequence

import numpy as np

from ..modalities.actions import Actions, Cells
from ._asking import Pool, together
from ._exploring import neighbours, polish, singles

NOISE = 0.05
"""The size of the small changes that a counterfactual is tried with, in median absolute deviations."""
USUAL = 0.95
"""The share of the data that counts as usual."""


def nearness(within: Actions, z: Cells, data: Cells, k: int, draw: np.random.Generator) -> tuple[Cells, Cells]:
    """(K,) the mean distance to the `k` nearest of some data rows, and the share of those rows that lie as far from each other."""
    some = data if len(data) <= 400 else data[np.sort(draw.permutation(len(data))[:400])]
    if len(some) < 2:
        return np.full(len(z), np.nan), np.full(len(z), np.nan)
    k = min(k, len(some) - 1)
    among = np.stack([np.sort(within.moves(some, r).sum(-1))[1 : k + 1].mean() for r in some])
    far = np.stack([np.sort(within.moves(some, r).sum(-1))[:k].mean() for r in z]) if len(z) else np.empty(0)
    return far, np.array([(among >= f - 1e-12).mean() for f in far])


def shaken(pool: Pool, z: Cells, times: int) -> Cells:
    """(times, P) the point with all numbers of its columns moved a little; words and fixed columns stay as they are."""
    out = np.repeat(z[None], times, 0)
    for j, c in enumerate(pool.within.columns):
        if c.ordered and j not in pool.within.fixed and z[j] == z[j]:
            out[:, j] += NOISE * pool.within.scale[j] * pool.draw.standard_normal(times)
            out[:, j] = np.round(out[:, j]) if c.kind == "whole" else out[:, j]
    return out.astype(pool.dtype).astype(np.float64)


def relaxed(pool: Pool, rows: Cells, short: Cells, most: int) -> Generator[Cells, Cells, list[tuple[str, float]]]:
    """Which rule, left out alone, would let the goal be reached, and at which price: rule by rule, as far as the budget goes."""
    told = pool.within.rules()
    kinds = ("fixed", "sign", "range")
    rules = sorted(told, key=lambda r: (r[0] == "range" and r[1] not in pool.within.ranged, kinds.index(r[0])))[: max(1, most // 30)]
    each = most // max(1, len(rules))
    parts = [_without(pool, pool.within.without(r), told[r], rows, short, each) for r in rules]
    found = yield from together(*parts)
    return sorted((f for f in found if f is not None), key=lambda f: f[1])


def _without(pool: Pool, within: Actions, told: str, rows: Cells, short: Cells, most: int) -> Generator[Cells, Cells, tuple[str, float] | None]:
    free = Pool(pool.own, within, most, pool.sparsity, pool.dtype, pool.draw, pool.guard)
    yield from neighbours(free, rows, short, max(4, most // 4))
    yield from singles(free, max(0, free.left // 2))
    z, _ = free.found()
    if len(z):
        yield from polish(free, z[0])
        return told, float(free.found()[1][0])
    return None


def words(relaxations: Sequence[tuple[str, float]]) -> str:
    """What would help, in words."""
    return "; ".join(f"without '{told}' it can be reached at a distance of about {price:.2g}" for told, price in relaxations[:3])
