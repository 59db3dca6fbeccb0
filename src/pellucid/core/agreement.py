"""How alike two maps are, row by row."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .tree import Tree, leaves

GRID = 28
"""Maps on a grid are compared at this many cells a side: finer detail than that is noise in most maps."""


def agreement(a: Tree, b: Tree) -> Tensor:
    """(B,) rank correlation (Spearman) of two maps; 1 where both are constant. Pictures are compared on a 28 x 28 grid."""
    flat = [torch.cat([_coarse(t.detach()).double().flatten(1) for t in leaves(m)], 1) for m in (a, b)]
    ra, rb = (_ranks(f) for f in flat)
    ra, rb = ra - ra.mean(1, keepdim=True), rb - rb.mean(1, keepdim=True)
    norm = (ra.norm(dim=1) * rb.norm(dim=1)).clamp(min=1e-30)
    same = (flat[0] == flat[1]).all(1)
    return torch.where(same, 1.0, (ra * rb).sum(1) / norm)


def _coarse(t: Tensor) -> Tensor:
    if t.ndim != 4:
        return t
    heat = t.double().sum(1, keepdim=True)
    size = (min(GRID, heat.shape[2]), min(GRID, heat.shape[3]))
    return F.adaptive_avg_pool2d(heat, size)


def _ranks(v: Tensor) -> Tensor:
    """Ranks with ties at their mean."""
    order = v.argsort(dim=1, stable=True)
    place = torch.empty_like(v).scatter_(1, order, torch.arange(v.shape[1], dtype=v.dtype, device=v.device).expand_as(v).contiguous())
    out = torch.empty_like(v)
    for i, row in enumerate(v):
        _, inverse, count = row.unique(return_inverse=True, return_counts=True)
        mean = torch.zeros(len(count), dtype=v.dtype, device=v.device).index_add_(0, inverse, place[i]) / count
        out[i] = mean[inverse]
    return out
