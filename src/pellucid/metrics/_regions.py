"""A map beside a region that is known to matter: each row's numbers, flattened, and which of them lie inside."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.tree import leaves


@dataclass(frozen=True)
class Region:
    """(B, P) values of the map, and (B, P) which places are inside; `shape` is that of one row."""

    values: Tensor
    inside: Tensor
    shape: tuple[int, ...]


def region(e: Explanation, mask: Any, who: str) -> Region:
    """A picture's map at the mask's own size, channels summed; elsewhere the map as it is. One mask serves all rows, or each row has its own."""
    if mask is None:
        raise NotApplicable(f"{who} needs a mask of what is known to matter (mask=..., one a row or one for all); got none. Without one, look at grid-pointing-game.")
    inside = torch.as_tensor(mask).detach().cpu()
    parts = leaves(e.values)
    if len(parts) != 1:
        raise NotApplicable(f"{who} looks at one map; this explanation holds {len(parts)}.")
    v = parts[0].detach().cpu().double()
    v = v.sum(1) if v.ndim == 4 else v.sum(2) if v.ndim == 3 else v
    inside = inside[:, 0] if inside.ndim == v.ndim + 1 and inside.shape[1] == 1 else inside
    inside = inside[None] if inside.ndim == v.ndim - 1 else inside
    if inside.ndim != v.ndim or len(inside) not in (1, len(v)):
        raise UsageError(f"{who} needs a mask of shape {tuple(v.shape[1:])}, or one for each of {len(v)} rows; got {tuple(torch.as_tensor(mask).shape)}.")
    if v.ndim == 3 and v.shape[1:] != inside.shape[1:]:
        v = F.interpolate(v[:, None], size=inside.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    if v.shape[1:] != inside.shape[1:]:
        raise UsageError(f"{who} needs a mask as long as the map, {tuple(v.shape[1:])}; got {tuple(inside.shape[1:])}.")
    marks = (inside != 0).expand(v.shape).flatten(1)
    return Region(v.flatten(1), marks, tuple(v.shape[1:]))


def share(part: Tensor, whole: Tensor) -> Tensor:
    """(B,) part of whole; NaN of nothing."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), torch.nan)


def top_inside(r: Region, count: Tensor) -> Tensor:
    """(B,) how many of each row's `count` largest values lie inside; values that tie at the last place count by their share, so that order plays no part."""
    out = []
    for v, marks, n in zip(r.values, r.inside, count.tolist(), strict=True):
        last = v.sort(descending=True).values[n - 1] if n else v.new_tensor(torch.inf)
        above, tied = v > last, v == last
        left = n - int(above.sum())
        out.append(float((above & marks).sum()) + left * float((tied & marks).sum()) / max(int(tied.sum()), 1))
    return torch.tensor(out, dtype=torch.float64)
