"""Non-negative matrices as sums of a few non-negative parts."""

import torch
from torch import Tensor

FLOOR = 0.01
"""The least entry to start from, as a share of the matrix's mean: smooth, so that rounding moves no entry far."""


def factorized(v: Tensor, k: int, rounds: int) -> tuple[Tensor, Tensor]:
    """(B, n, k) and (B, k, m) whose product is close to `v`, (B, n, m): no entry is negative, and the same `v` gives the same parts.

    Multiplicative updates for the squared error (Lee, Seung 2001) from the singular vectors' larger halves (NNDSVD: Boutsidis, Gallopoulos 2008), lifted
    off zero, where an update would be stuck.
    """
    v = v.double()
    w, h = _halves(v, k)
    tiny = torch.finfo(v.dtype).tiny
    for _ in range(rounds):
        h = h * (w.mT @ v) / (w.mT @ w @ h).clamp(min=tiny)
        w = w * (v @ h.mT) / (w @ (h @ h.mT)).clamp(min=tiny)
    return w, h


def _halves(v: Tensor, k: int) -> tuple[Tensor, Tensor]:
    u, s, vt = torch.linalg.svd(v, full_matrices=False)
    u, s, z = u[:, :, :k].mT, s[:, :k, None], vt[:, :k]
    floor = FLOOR * v.mean((1, 2), keepdim=True)
    up = [t.clamp(min=0) for t in (u, z)]
    down = [(-t).clamp(min=0) for t in (u, z)]
    sizes = [(a.norm(dim=2, keepdim=True), b.norm(dim=2, keepdim=True)) for a, b in (up, down)]
    first = sizes[0][0] * sizes[0][1] >= sizes[1][0] * sizes[1][1]
    parts = [torch.where(first, a / m.clamp(min=1e-30), b / n.clamp(min=1e-30)) for a, b, m, n in zip(up, down, sizes[0], sizes[1], strict=True)]
    scale = (s * torch.where(first, sizes[0][0] * sizes[0][1], sizes[1][0] * sizes[1][1])).sqrt()
    w, h = ((scale * p).maximum(floor) for p in parts)
    return w.mT, h
