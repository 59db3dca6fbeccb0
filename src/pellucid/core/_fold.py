"""BatchNorm in eval mode is a scale and a shift: what it is by itself, and as one with the linear operation before it."""

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._memory import once

if TYPE_CHECKING:
    from ._call import Call


_REST = ("weight", "bias", "training", "momentum", "eps")


@dataclass(frozen=True)
class Norm:
    """The arguments of one batch_norm, in the order of `torch.nn.functional`, however they were given."""

    f: Any
    x: Tensor
    args: tuple[Any, ...]

    @classmethod
    def of(cls, f: Any, args: Any, kwargs: dict[str, Any]) -> "Norm":
        functional = isinstance(f, types.FunctionType)
        if functional and len(args) == 3 and tuple(kwargs) == _REST:  # as it hands itself over
            return cls(f, args[0], (*args[1:], *kwargs.values()))
        first = ("running_mean", "running_var", "weight", "bias") if functional else ("weight", "bias", "running_mean", "running_var")
        names = ("input", *first, "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | kwargs
        get = lambda n, default=None: given.get(n, default)  # noqa: E731
        kept = (get("running_mean"), get("running_var"), get("weight"), get("bias"), get("training", False), get("momentum", 0.1), get("eps", 1e-5))
        return cls(torch.nn.functional.batch_norm, given["input"], kept)

    @property
    def live(self) -> bool:
        """Whether what it multiplies with or adds depends on the point."""
        return any(t is not None and t.requires_grad for t in self.args[:4])

    @property
    def training(self) -> bool:
        return bool(self.args[4]) or self.args[0] is None

    def run(self, x: Tensor) -> Tensor:
        """The operation on another input."""
        return self.f(x, *self.args)

    @once
    def scale(self) -> Tensor:
        """(C,) what each channel is multiplied with."""
        k = (self.args[1] + self.args[6]).rsqrt()
        return k if self.args[2] is None else k * self.args[2]

    def offset(self, bias: Tensor | None = None) -> Tensor:
        """(C,) what is added to each channel, with the bias of the operation before."""
        before = -self.args[0] if bias is None else bias - self.args[0]
        return before * self.scale if self.args[3] is None else torch.addcmul(self.args[3], before, self.scale)

    def folded(self, c: "Call") -> Tensor:
        """The weight of the linear operation `c` with this BatchNorm after it."""
        w, (_, var, weight, *_) = c.bound[1], self.args
        made_of = [w, var] if weight is None else [w, var, weight]
        made: Tensor = c.mode.rules.memory(f"folded {c.name} {c.groups} {self.args[6]}", made_of, lambda: self._scaled(c, w))
        return made

    def _scaled(self, c: "Call", w: Tensor) -> Tensor:
        k = self.scale
        if "transpose" in c.name:
            return (w.unflatten(0, (c.groups, -1)) * k.reshape(c.groups, 1, -1, *[1] * (w.ndim - 2))).flatten(0, 1)
        return w * k.reshape(-1, *[1] * (w.ndim - 1))
