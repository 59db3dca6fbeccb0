"""Rules that carry positive and negative contributions apart, through every operation, from the point to the target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._fold import Norm
from ._kept import keep, overwrite, tensors
from ._operations import ADDITIVE, canonical
from ._paired import Paired
from ._twins import TWINS
from .rules import Call, Rules

NEGATIVE = {"neg": (0,), "sub": (1,), "rsub": (0,)}
"""Which arguments a linear operation subtracts: what was positive in them is negative in the output."""


@dataclass(frozen=True)
class Parts:
    """The difference of a value to its baseline in two: what raised it and what lowered it. Both are live; they sum to the difference."""

    up: Tensor
    down: Tensor
    known: bool = True
    """Whether the parts came through the network; else the difference was split by its sign on the spot."""

    def map(self, f: Callable[[Tensor], Tensor]) -> "Parts":
        """Through a linear operation that subtracts nothing."""
        return Parts(f(self.up), f(self.down))

    def scaled(self, k: Any) -> "Parts":
        """Times a constant: where it is negative the parts change places."""
        k = torch.as_tensor(k, dtype=self.up.dtype, device=self.up.device)
        plus, minus = k.clamp(min=0), k.clamp(max=0)
        return Parts(self.up * plus + self.down * minus, self.down * plus + self.up * minus)


class Split(Paired):
    """Two passes, in the second of which every live value comes with its `Parts`.

    The parts are live tensors beside the values: a value made by a rule hands its multiplier to both of its parts, and
    multipliers then flow back through the parts. A value without parts is split by sign where a rule asks for them.
    """

    def __init__(self, rules: Rules, names: dict[str, nn.Module], rows: int) -> None:
        super().__init__(rules, names, rows)
        self._parts: dict[Any, Parts] = {}
        self._entered: dict[tuple[bool, int], Tensor] = {}

    # -- parts of values ---------------------------------------------------------------------------------------------

    def parts(self, c: Call, i: int) -> Parts:
        """The parts of a call's argument."""
        x: Tensor = c.args[i]
        found = self._parts.get(_key(x))
        return found if found is not None else self._by_sign(x, c.old[i])  # type: ignore[index]

    def _by_sign(self, x: Tensor, x0: Tensor) -> Parts:
        d = x.detach() - x0
        up = (d.sign() + 1) / 2  # half and half where nothing changed
        return Parts(keep(d * up, lambda g: (g * up,), x), keep(d * (1 - up), lambda g: (g * (1 - up),), x), known=x.grad_fn is None)

    def made(self, value: Tensor, parts: Parts) -> Tensor:
        """A value whose multiplier goes to both of its parts."""
        return self._with(keep(value, lambda g: (g, g), parts.up, parts.down), parts)

    def _with(self, out: Tensor, parts: Parts | None) -> Tensor:
        if parts is not None and out.requires_grad:
            self._parts[_key(out)] = parts
        return out

    # -- operations that need no rule ----------------------------------------------------------------------------------

    def _light(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        return False

    def passed(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        self._enter(name, args, kwargs)
        carried = None if self.records else self._carried(f, name, inplace, args, kwargs)
        out = super().passed(f, name, inplace, args, kwargs)
        if carried is not None:
            ends = [args[0]] if name == "__setitem__" else list(tensors((out,)))
            for end, up, down in zip(ends, *carried, strict=True):
                self._with(end, Parts(up, down))
        return out

    def _enter(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        """The point itself, where its first operation is a linear one: its parts are told by the baseline's."""
        for t in tensors(args, kwargs):
            if t.requires_grad and t.grad_fn is None and (self.records, id(t)) not in self._entered:
                self._entered[self.records, id(t)] = t
                old = self.taped(f"{name} of the point", [t])
                if old is not None:
                    self._parts[_key(t)] = self._by_sign(t, old[0])

    def _carried(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]] | None:
        """The parts of the outputs: the operation on the parts of its inputs, without what it adds. None where an input has none."""
        if any(_key(t) not in self._parts for t in tensors(args, kwargs) if t.requires_grad):
            return None
        if inplace:
            f = getattr(torch.Tensor, {"copy": "expand_as"}.get(name, name), None)
        if f is None or name in ("zero", "fill"):
            return None
        ends = []
        for up in (True, False):
            given = [self._part(a, up != (i in NEGATIVE.get(name, ())), name) for i, a in enumerate(args)]
            named = {k: self._part(v, up, "fill" if k in ("value", "other") else "") for k, v in kwargs.items()}
            ends.append(self._linear_part(f, name, inplace, given, named))
        return ends[0], ends[1]

    def _linear_part(self, f: Any, name: str, inplace: bool, args: list[Any], kwargs: dict[str, Any]) -> list[Tensor]:
        if name == "detach":
            return [args[0]]
        if name == "copy" and inplace:
            return [args[1].expand_as(args[0])]
        if name == "__setitem__":
            args[0] = args[0].clone()
            f(*args, **kwargs)
            return [args[0]]
        return list(tensors((f(*args, **kwargs),)))

    def _part(self, a: Any, up: bool, name: str) -> Any:
        """An argument as the parts see it: the part of a live value, nothing of a constant that would be added."""
        if isinstance(a, Tensor):
            if a.requires_grad:
                return self._parts[_key(a)].up if up else self._parts[_key(a)].down
            return torch.zeros_like(a) if a.is_floating_point() and name in ADDITIVE else a
        if type(a) in (tuple, list):
            return type(a)(self._part(v, up, name) for v in a)
        added = isinstance(a, (int, float)) and not isinstance(a, bool) and name in ("add", "sub", "rsub", "masked_fill", "where", "fill", "__setitem__")
        return 0 if added else a

    def batch_norm(self, f: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        n = Norm.of(f, args, kwargs)
        if n.live:
            return super().batch_norm(f, args, kwargs)
        self._enter("batch_norm", (n.x,), {})
        out = super().batch_norm(f, args, kwargs)
        found = None if self.records else self._parts.get(_key(n.x))
        return out if found is None else self._with(out, found.scaled(n.scale.reshape(-1, *[1] * (n.x.ndim - 2))))

    def ruled(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        scaled = name == "div" and self._divides_by_constant(args)
        if scaled:
            self._enter(name, args, kwargs)
        out = super().ruled(f, name, args, kwargs)
        found = self._parts.get(_key(args[0])) if scaled and not self.records else None
        return out if found is None else self._with(out, found.scaled(1 / torch.as_tensor(args[1], dtype=out.dtype, device=out.device)))

    # -- operations with a rule ----------------------------------------------------------------------------------------

    def _twin(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        return self.inside(TWINS[name], *args, **kwargs)

    def _written(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.records:
            return super()._written(f, name, args, kwargs)
        f = (getattr(torch.Tensor, name, None) or getattr(torch.nn.functional, name)) if canonical(f)[1] else f
        out = self.ruled(f, name, args, kwargs)
        return self._with(self.written(overwrite(args[0], out)), self._parts.get(_key(out)))


def _key(t: Tensor) -> Any:
    """What a tensor holds now, whatever is later written on it: the node that made it, or itself at the point."""
    return (t.grad_fn, t.output_nr) if t.grad_fn is not None else id(t)


