"""Holes filled by what is around them: each missing pixel is the weighted mean of its eight neighbours. All pictures are solved at once.

The equations are symmetric and positive, a Laplacian on the holes; conjugate gradients with a multigrid cycle as preconditioner
solve them in about ten sweeps, whatever the size of the holes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

COARSEST = 4
"""Pixels a side below which grids are not halved again."""
MOST = 200
"""Iterations at most."""


def inpaint(x: Tensor, missing: Tensor, tol: float = 1e-4) -> Tensor:
    """(N, C, H, W) pictures with `missing` (N, 1, H, W) pixels solved for; the residual is at most `tol` of the right-hand side's."""
    m = missing.to(x)
    known = x * (1 - m)
    b = m * _sum(known)
    u, r = torch.zeros_like(x), b
    levels = _levels(m)
    floor = tol * _norm(b)
    z = _cycle(r, levels, 0)
    p, rz = z, _dot(r, z)
    for _ in range(MOST):
        if bool((_norm(r) <= floor).all()):
            break
        ap = _apply(p, *levels[0])
        step = rz / _dot(p, ap).clamp_min(1e-30)
        u, r = u + step * p, r - step * ap
        z = _cycle(r, levels, 0)
        new = _dot(r, z)
        p, rz = z + (new / rz.clamp_min(1e-30)) * p, new
    return known + m * u


def _levels(m: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The holes at each halving, and the weights that each pixel's neighbours have inside the picture."""
    out = [(m, _sum(torch.ones_like(m[:1])))]
    while min(m.shape[2:]) > COARSEST and bool(m.any()):
        h, w = m.shape[2:]
        m = F.pad(m, (0, w % 2, 0, h % 2))
        m = -F.max_pool2d(-m, 2)
        out.append((m, _sum(torch.ones_like(m[:1]))))
    return out


def _sum(v: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours, 1/6 beside and 1/12 across: (1, 2, 1) both ways, less the middle."""
    p = F.pad(v, (1, 1, 0, 0))
    across = torch.add(p[..., :-2], v, alpha=2).add_(p[..., 2:])
    p = F.pad(across, (0, 0, 1, 1))
    return across.mul_(2).add_(p[..., :-2, :]).add_(p[..., 2:, :]).div_(12).sub_(v, alpha=1 / 3)


def _apply(v: Tensor, m: Tensor, inside: Tensor) -> Tensor:
    """The equations on the holes; `v` is zero elsewhere."""
    return m * (inside * v - _sum(v))


def _cycle(r: Tensor, levels: list[tuple[Tensor, Tensor]], k: int) -> Tensor:
    """One V-cycle for the error, symmetric: the same damped sweeps before and after the coarser grid."""
    m, inside = levels[k]
    damp = 0.8 * m / inside
    u = damp * r
    sweeps = 1 if k + 1 < len(levels) else 20
    for _ in range(sweeps):
        u = u + damp * (r - _apply(u, m, inside))
    if k + 1 < len(levels):
        u = u + m * _finer(_cycle(_coarser(r - _apply(u, m, inside), levels[k + 1][0]), levels, k + 1), r.shape)
    for _ in range(sweeps):
        u = u + damp * (r - _apply(u, m, inside))
    return u + damp * (r - _apply(u, m, inside)) if k + 1 < len(levels) else u


def _coarser(r: Tensor, m: Tensor) -> Tensor:
    """The adjoint of `_finer`, on the coarse holes: weights 1, 3, 3, 1 over four, both ways."""
    h, w = r.shape[2:]
    p = F.pad(r, (1, 1 + w % 2, 0, 0))
    p = (p[..., 1:-1:2] + p[..., 2::2]).mul_(3).add_(p[..., :-2:2]).add_(p[..., 3::2])
    p = F.pad(p, (0, 0, 1, 1 + h % 2))
    return (p[..., 1:-1:2, :] + p[..., 2::2, :]).mul_(3).add_(p[..., :-2:2, :]).add_(p[..., 3::2, :]).mul_(m / 16)


def _finer(v: Tensor, shape: torch.Size) -> Tensor:
    """Bilinear interpolation to twice the size, zero beyond the edge, cut to `shape`."""
    p = F.pad(v, (0, 0, 1, 1))
    tall = torch.stack([3 * v + p[..., :-2, :], 3 * v + p[..., 2:, :]], 3).flatten(2, 3)
    p = F.pad(tall, (1, 1, 0, 0))
    wide = torch.stack([3 * tall + p[..., :-2], 3 * tall + p[..., 2:]], 4).flatten(3, 4)
    return wide[..., : shape[2], : shape[3]] / 16


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _norm(a: Tensor) -> Tensor:
    return _dot(a, a).sqrt()
