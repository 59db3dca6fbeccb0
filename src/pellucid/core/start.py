"""Baselines: what "nothing" looks like in input space."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import UsageError
from .rows import row_seed
from .tree import Tree, has_rows, leaves, refill

if TYPE_CHECKING:
    from .question import Question

NAMED = ("blur", "mean", "noise")


class Samples:
    """Many baselines: a method is run against each and averaged (expected gradients, with IG)."""

    def __init__(self, x: Any) -> None:
        self.parts = tuple(torch.tensor(v) if isinstance(v, np.ndarray) and v.dtype.kind in "fiub" else v for v in leaves(x))
        self.n = len(self.parts[0])

    def __repr__(self) -> str:
        return f"{self.n} samples"


def blur(x: Tensor, sigma: float | None = None) -> Tensor:
    """A Gaussian blur of (B, C, H, W) pictures, of an eighteenth of their height unless said; edges are repeated."""
    height = x.shape[-2]
    sigma = height / 18 if sigma is None else sigma
    reach = min(max(int(3 * sigma), 1), 4 * height)
    k = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32, device=x.device) ** 2) / (2 * sigma * sigma))
    k = (k / k.sum()).to(x.dtype)
    c = x.shape[1]
    wide = F.pad(x, (reach, reach, reach, reach), "replicate")
    rows = F.conv2d(wide, k.view(1, 1, 1, -1).expand(c, 1, 1, -1).contiguous(), groups=c)
    return F.conv2d(rows, k.view(1, 1, -1, 1).expand(c, 1, -1, 1).contiguous(), groups=c)


def start_of(baseline: Any, parts: tuple[Tensor, ...], q: "Question") -> tuple[Tensor, ...]:
    """The baseline as tensors like `parts`."""
    if isinstance(baseline, str):
        return tuple(_named(baseline, p, q) for p in parts)
    if isinstance(baseline, bool) or baseline is None:
        raise UsageError(f"A baseline needs a number, a tensor, one of {', '.join(NAMED)}, or pel.Samples; got {baseline!r}.")
    if isinstance(baseline, (int, float)):
        return tuple(torch.full_like(p, float(baseline)) for p in parts)
    given = tuple(torch.as_tensor(t) for t in leaves(baseline))
    if len(given) != len(parts):
        raise UsageError(f"A baseline needs one tensor for each of {len(parts)} explained inputs; got {len(given)}.")
    return tuple(_fitted(b, p) for b, p in zip(given, parts, strict=True))


def _fitted(b: Tensor, p: Tensor) -> Tensor:
    if b.shape not in (p.shape, p.shape[1:], (1, *p.shape[1:]), ()):
        raise UsageError(f"A baseline needs the shape of the inputs, {tuple(p.shape)}, or of one row, {tuple(p.shape[1:])}; got {tuple(b.shape)}. Many baselines are given as pel.Samples(tensor).")
    if not torch.isfinite(b).all():
        raise UsageError("A baseline needs finite numbers; it holds NaN or infinity.")
    return b.to(p).expand_as(p).clone()


def tokens_of(baseline: Any, x: Tree) -> Tree:
    """A baseline of integer inputs, row for row like `x`; one row serves all."""
    given, own = leaves(baseline), leaves(x)
    if isinstance(baseline, str) or len(given) != len(own):
        got = repr(baseline) if isinstance(baseline, str) else f"{len(given)} of them"
        raise UsageError(f"A baseline of integer inputs needs a number, or integers for each of the {len(own)} inputs; got {got}.")
    return refill(x, [_fitted(torch.as_tensor(b), t) if has_rows(t) else b for b, t in zip(given, own, strict=True)])


def _named(name: str, p: Tensor, q: "Question") -> Tensor:
    if name == "mean":
        axes = tuple(range(2, p.ndim)) if p.ndim > 2 else (1,)
        return p.mean(axes, keepdim=True).expand_as(p).clone() if p.ndim > 1 else p.mean().expand_as(p).clone()
    if name == "blur":
        if p.ndim != 4:
            raise UsageError(f'The baseline "blur" needs pictures (rows, channels, height, width); got {tuple(p.shape)}. Use a number, "mean" or "noise".')
        return blur(p)
    if name == "noise":
        return _noise(p, q)
    raise UsageError(f"A baseline by name is one of {', '.join(NAMED)}; got {name!r}.")


def _noise(p: Tensor, q: "Question") -> Tensor:
    """Uniform noise over each row's own range, drawn by the row's name."""
    out = []
    for row, name in zip(p, q.ids, strict=True):
        g = torch.Generator().manual_seed(row_seed(q.seed, name, -1))
        u = torch.rand(row.shape, generator=g, dtype=torch.float64).to(p)
        out.append(row.min() + u * (row.max() - row.min()))
    return torch.stack(out)
