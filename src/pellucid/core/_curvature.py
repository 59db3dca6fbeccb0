"""How a gradient changes along a direction: a double backward through the engine's own forward pass."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .planner import Step
from .tree import take

if TYPE_CHECKING:
    from .engine import Engine

Parts = tuple[Tensor, ...]


def curvature(engine: "Engine", v: Parts | None) -> tuple[Parts, Parts, Parts]:
    """Values at the places, their gradients, and the Hessian times `v` (times the values where None): one forward and two backward a row."""
    engine._need_gradient()
    found: list[Parts] = []

    def work(i: int, j: int, step: Step) -> None:
        rows = torch.arange(i, j)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            leaf, out = _forward(engine, rows, step)
            g = engine._pull(engine._met(out, rows, None).sum(), leaf, keep=True, twice=True)
            along = sum((a * b).sum() for a, b in zip(g, take(v, rows) if v is not None else [t.detach() for t in leaf], strict=True))
            bent = torch.autograd.grad(along, leaf, allow_unused=True) if along.requires_grad else (None,) * len(leaf)
        engine.count.backward += len(rows)
        found.append(tuple(t.detach() for t in (*leaf, *g, *(torch.zeros_like(t) if b is None else b for b, t in zip(bent, leaf, strict=True)), out)))

    engine._sweep("curvature", engine.size, work, grad=True)
    *parts, out = (torch.cat(t) for t in zip(*found, strict=True))
    if engine.out is None:
        engine.settle(out)
    n = len(parts) // 3
    return tuple(parts[:n]), tuple(parts[n : 2 * n]), tuple(parts[2 * n :])


def _forward(engine: "Engine", rows: Tensor, step: Step) -> tuple[Parts, Tensor]:
    """Leaves at the places, and what the target reads as computed from them."""
    if engine.moved is None:
        return engine._tap_forward(rows, step)
    leaf = tuple(take(m, rows).detach().clone().requires_grad_() for m in engine.moved)
    return leaf, engine._forward(step, leaf, rows)
