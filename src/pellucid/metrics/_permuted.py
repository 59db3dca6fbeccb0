"""A live network that knows nothing: the same architecture with the numbers of every weight tensor shuffled."""

import copy
import itertools
import operator
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import NotApplicable
from ..core.model import call_args
from ..core.tree import Tree, is_float, map_leaves, rows_of, take

PICTURES = 22
"""Rows on which BatchNorm's statistics are estimated again: without that, a shuffled network is dead."""


def permuted(module: nn.Module, x: Tree, seed: int, layers: Collection[str] | None = None) -> nn.Module:
    """A deep copy of `module` with each parameter shuffled, of those `layers` or of all; the user's stays as it was.

    BatchNorms, from the first shuffled layer on, are estimated on variants of `x`.
    """
    twin = _twin(module)
    gen = torch.Generator().manual_seed(seed)
    named = [(m, layers is None or name in layers) for name, m in twin.named_modules()]
    with torch.no_grad():
        for p in dict.fromkeys(p for m, chosen in named if chosen for p in m.parameters(recurse=False)):
            order = torch.randperm(p.numel(), generator=gen).to(p.device)
            p.copy_(p.flatten()[order].view_as(p))
    reached = itertools.accumulate((chosen for _, chosen in named), operator.or_)
    _estimate(twin, [m for (m, _), behind in zip(named, reached, strict=True) if behind and _counts(m)], x, gen)
    return twin.eval()


def rows_needed(module: nn.Module) -> int:
    """Forward rows that making one permuted network costs."""
    return PICTURES if any(map(_counts, module.modules())) else 0


def variants(x: Tree, n: int, gen: torch.Generator) -> Tree:
    """`n` rows from those of `x`: pictures rolled, mirrored and with other contrast, other numbers with a little noise."""
    rows = torch.arange(n) % (rows_of(x) or 1)
    return map_leaves(lambda leaf: _varied(leaf, gen) if is_float(leaf) else leaf, take(x, rows))


def _twin(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).requires_grad_(False).eval()
    except (TypeError, RuntimeError, NotImplementedError) as why:
        raise NotApplicable(f"A permuted network needs a module that can be copied; {type(module).__name__} cannot: {why}") from None


def _counts(m: nn.Module) -> bool:
    """Whether a module is a BatchNorm that keeps statistics."""
    return isinstance(m, _BatchNorm) and m.track_running_stats


def _estimate(twin: nn.Module, norms: list[_BatchNorm], x: Tree, gen: torch.Generator) -> None:
    if not norms:
        return
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    args, kwargs = call_args(variants(x, PICTURES, gen))
    try:
        with torch.no_grad():
            twin(*args, **kwargs)
    except ValueError as why:
        raise NotApplicable(f"A permuted network needs its BatchNorm estimated again, and this batch does not allow it: {why}") from None


def _varied(leaf: Tensor, gen: torch.Generator) -> Tensor:
    vary: Callable[[Tensor, torch.Generator], Tensor] = _picture if leaf.ndim == 4 else _jittered
    return torch.cat([vary(row, gen) for row in leaf.split(1)])


def _picture(row: Tensor, gen: torch.Generator) -> Tensor:
    h, w = row.shape[-2:]
    down, right, mirror = (int(torch.randint(k, (), generator=gen)) for k in (h, w, 2))
    row = row.roll((down, right), (-2, -1))
    row = row.flip(-1) if mirror else row
    mean = row.mean((-2, -1), keepdim=True)
    return mean + (0.5 + float(torch.rand((), generator=gen))) * (row - mean)


def _jittered(row: Tensor, gen: torch.Generator) -> Tensor:
    noise = torch.randn(row.shape, generator=gen, dtype=torch.float32).to(row)
    return row + 0.3 * row.float().std(correction=0).to(row) * noise
