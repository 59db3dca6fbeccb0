"""Recurrent networks under paired rules: all times at once forward, one short loop back.

Once the states are known, what a cell does at one time does not depend on the others: its multipliers, which are those of an
elementwise function, are found for all times together. What remains of time is how multipliers of states add up backwards.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ._kept import keep
from ._twins import CELLS

if TYPE_CHECKING:
    from ._paired import Paired

Cell = Callable[..., tuple[Tensor, ...]]


def fits(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a call is a recurrent network on padded tensors, without dropout and projections."""
    if name not in CELLS or kwargs or len(args) != 9 or not isinstance(args[3], bool):
        return False
    _, _, weights, bias, layers, dropout, train, both, _ = args
    plain = len(weights) == layers * (1 + both) * (4 if bias else 2) and not any(w.requires_grad for w in weights)
    return plain and not (train and dropout)


def unrolled(mode: "Paired", f: Callable[..., Any], name: str, args: Any) -> tuple[Tensor, ...]:
    """(output, last states...) as the fused operation gives them, each with its multipliers."""
    x, hx, weights, bias, layers, _, _, both, batch_first = args
    starts, n = hx if isinstance(hx, (tuple, list)) else (hx,), 4 if bias else 2
    x = x.transpose(0, 1) if batch_first else x
    last: list[list[Tensor]] = [[] for _ in starts]
    for layer in range(layers):
        sides = []
        for way in range(1 + both):
            i = layer * (1 + both) + way
            side = _Side(mode, f, name, weights[i * n : i * n + n])
            states = side(x.flip(0) if way else x, [s[i] for s in starts])
            for kept, s in zip(last, states, strict=True):
                kept.append(s[-1])
            sides.append(states[0].flip(0) if way else states[0])
        x = torch.cat(sides, -1) if both else sides[0]
    return (x.transpose(0, 1) if batch_first else x, *[torch.stack(s) for s in last])


class _Side:
    """One layer in one direction."""

    def __init__(self, mode: "Paired", f: Callable[..., Any], name: str, weights: Any) -> None:
        self.mode, self.f, self.name = mode, f, name
        self.weights, (self.w, self.v, self.b, self.c) = list(weights), [*weights, None, None][:4]

    def __call__(self, x: Tensor, starts: list[Tensor]) -> list[Tensor]:
        """(T, B, H) each state at all times."""
        u = F.linear(x, self.w, self.b)
        with torch.no_grad():
            states = self._states(x, u, starts)
            before = [torch.cat([s0[None], s[:-1]]) for s0, s in zip(starts, states, strict=True)]
            given = [t.detach().requires_grad_() for t in (u, F.linear(before[0], self.v, self.c), *before)]
        outs = self.mode.inside(CELLS[self.name], *given)
        value = torch.cat(states, -1)
        slopes = [] if self.mode.records else [torch.autograd.grad(o, given, torch.ones_like(o), retain_graph=True, allow_unused=True) for o in outs]
        return list(keep(value, lambda g: self._back(g.chunk(len(states), -1), slopes), u, *starts).chunk(len(states), -1))

    def _states(self, x: Tensor, u: Tensor, starts: list[Tensor]) -> list[Tensor]:
        """By the fused operation; it does not tell the cells of an LSTM, which follow from its gates."""
        hx = tuple(s[None] for s in starts)
        h = self.f(x.detach(), hx if len(hx) > 1 else hx[0], self.weights, self.b is not None, 1, 0.0, False, False, False)[0]
        if len(starts) == 1:
            return [h]
        i, f, g, _ = (u + F.linear(torch.cat([starts[0][None], h[:-1]]), self.v, self.c)).chunk(4, -1)
        new, keeps, c, cells = i.sigmoid() * g.tanh(), f.sigmoid(), starts[1], []
        for a, k in zip(new, keeps, strict=True):
            c = torch.addcmul(a, k, c)
            cells.append(c)
        return [h, torch.stack(cells)]

    def _back(self, g: Any, slopes: list[Any]) -> tuple[Tensor, ...]:
        """Multipliers of (what the inputs give to the gates, the states at the start), from those of the states at all times."""
        k, size = len(g), self.v.shape[1]
        by_gate = lambda m: m.unflatten(-1, (-1, size))  # noqa: E731 - (T, B, gates, H)
        to_u, to_v = [by_gate(s[0]) for s in slopes], [by_gate(s[1]).unbind(0) for s in slopes]
        to_state = [[None if m is None else m.unbind(0) for m in s[2:]] for s in slopes]
        carried: list[Any] = [0] * k
        at: list[list[Tensor]] = [[] for _ in range(k)]
        gs = [t.unbind(0) for t in g]
        for t in range(len(gs[0]) - 1, -1, -1):
            here = [gs[o][t] + carried[o] for o in range(k)]
            dv = sum(here[o].unsqueeze(1) * to_v[o][t] for o in range(k))
            carried = [sum(here[o] * to_state[o][j][t] for o in range(k) if to_state[o][j] is not None) for j in range(k)]  # type: ignore[index]
            carried[0] = carried[0] + dv.flatten(1) @ self.v
            for o in range(k):
                at[o].append(here[o])
        whole = [torch.stack(a[::-1]) for a in at]
        du = sum(w.unsqueeze(2) * m for w, m in zip(whole, to_u, strict=True))
        return du.flatten(2), *carried
