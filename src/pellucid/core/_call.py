"""One operation as it runs under rules: what a rule or a predicate may ask of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._fold import Norm
from ._kept import Back, above, in_blocks, keep, safe, tensors
from ._memory import once
from ._transposed import transposed

if TYPE_CHECKING:
    from .rules import Mode


@dataclass(frozen=True)
class Rectified:
    """What a rectifier made of z, as seen by the rule that relevance passes it unchanged: nothing of what is not positive, and perhaps less of what is large."""

    y: Tensor
    cut: bool
    """Whether it is cut off above."""

    def through(self, o: Tensor, y: Tensor, z: Tensor, g: Tensor) -> Tensor:
        """g y / z where z is positive: what arrives at z when `g` arrives at y."""
        return above(torch.div(y, z, out=o).mul_(g) if self.cut else g, z, 0, grad_input=o)

    def arrives(self, z: Tensor, g: Tensor) -> Tensor:
        """The same for whole tensors."""
        return in_blocks(self.through, self.y, z, g)[0]


class Call:
    """One operation as it runs: what a rule or a predicate may ask."""

    def __init__(self, mode: "Mode", f: Any, name: str, kind: str, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        self.mode, self.f, self.name, self.kind, self.args, self.kwargs = mode, f, name, kind, list(args), kwargs
        self.old: list[Any] | None = None
        """The arguments at the baseline, for paired rules."""
        self.own = False
        """Whether the value that a rule gave flows back as the operation itself would."""
        self.last = False
        """Whether no operation with weights lies between this one and the target. Known when relevance flows back."""
        self._native: Tensor | None = None
        self._output: Tensor | None = None

    def run(self, *new: Any) -> Tensor:
        """The operation with its first arguments replaced."""
        return self.f(*new, *self.args[len(new) :], **self.kwargs)

    def native(self) -> Tensor:
        """The operation's value with its own gradient; what a bias takes is entered in the ledger."""
        if self._native is None:
            self._native = self.run()
            if self.kind == "weights" and self.bound[2] is not None:
                self.absorbs(self._native, self.lined(self.bound[2]))
        return self._native

    def output(self) -> Tensor:
        """The operation's value, without a gradient; computed at most once."""
        if self._native is not None:
            return self._native.detach()
        if self._output is None:
            if self.kind == "weights" or not torch.is_grad_enabled():  # weights: nothing of what they are given is live
                self._output = self._made()
            else:
                with torch.no_grad():
                    self._output = self._made()
        return self._output

    def _made(self) -> Tensor:
        """What the operation gives, worked out anew."""
        return self.op(self.given, *self.bound[1:]) if self.kind == "weights" else self.run()

    def lined(self, bias: Tensor) -> Tensor:
        """A bias in line with the channels of the output."""
        return bias if self.name == "linear" else bias.reshape(-1, *[1] * (int(self.name[-2]) if self.name[-1] == "d" else self.bound[1].ndim - 2))

    @once
    def module(self) -> str:
        """The name of the innermost module that is running. To be asked while it runs."""
        return self.mode.where()

    @once
    def bound(self) -> tuple[Any, Any, Any]:
        """(input, weight, bias) of an operation with weights."""
        given = self.args[:3] + [self.kwargs.get(n) for n in ("input", "weight", "bias")[len(self.args) :]]
        return given[0], given[1], given[2]

    @once
    def shift(self) -> Tensor | None:
        """What an operation with weights adds whatever its input is: its bias."""
        b: Tensor | None = self.bound[2]
        return b

    @property
    def source(self) -> Tensor:
        """The input of an operation with weights, through which relevance leaves."""
        x: Tensor = self.bound[0]
        return x

    @property
    def live_weights(self) -> bool:
        """Whether the weights depend on the point as well, so that this is a product."""
        return bool(self.bound[1].requires_grad)

    @once
    def given(self) -> Tensor:
        """The input of an operation with weights as it was then, whatever is written on it later."""
        return self.source.detach()

    def op(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """The operation with another input, weight and bias."""
        rest = {k: v for k, v in self.kwargs.items() if k not in ("input", "weight", "bias")}
        return self.f(x, w, b, *self.args[3:], **rest)

    def pulled(self, g: Tensor, w: Tensor | None = None) -> Tensor:
        """What arrives at the input of an operation with weights when `g` arrives at its output: by its own weight, or another."""
        return transposed(self, self.given, self.bound[1] if w is None else w, g)

    @property
    def groups(self) -> int:
        """Into how many groups a convolution parts its channels."""
        given: int = self.args[6] if len(self.args) > 6 else self.kwargs.get("groups", 1)
        return given

    @property
    def first(self) -> bool:
        """Whether no operation with weights lies between the point and this one."""
        return not self.mode.below(self.source, self.mode.weighted)

    def unpadded(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The input before zeros were put around it by another operation, and what puts them. To be asked while it runs."""
        x = self.source
        return self.mode.pads.get(x.grad_fn, (x, lambda t: t))

    def live(self) -> list[Tensor]:
        """The arguments through which relevance can leave."""
        return [t for t in tensors(self.args, self.kwargs) if t.requires_grad]

    def keep(self, value: Tensor, back: Back, *xs: Tensor, conserves: bool = False, own: bool = False) -> Tensor:
        """`value` whose gradient reaches `xs` by `back`, its `own` or another; what does not arrive is entered in the ledger."""
        self.own = own
        self.mode.held.update(t.untyped_storage().data_ptr() for t in (value, *xs, *self.live()))
        if conserves or not self.mode.counts:
            return keep(value, back, *xs)
        mode, where, held = self.mode, self.module, value.detach()
        seen, before = safe if mode.rules.zeros else torch.detach, [x.detach() for x in xs]

        def metered(g: Tensor) -> Any:
            given = back(g)
            mode.ledger.lost(where, self.name, seen(held), g, [seen(x) for x in before], given)
            return given

        return keep(held, metered, *xs)

    def absorbs(self, out: Tensor, amount: Tensor) -> Tensor:
        """Notes that of the relevance of `out`, what belongs to the constant `amount` goes nowhere."""
        return self.mode.absorbs(out, amount, self.module, self.name)

    def _shifted(self, norm: Norm, out: Tensor) -> Tensor:
        """Notes what the shift of a BatchNorm takes."""
        return self.absorbs(out, norm.offset().reshape(-1, *[1] * (out.ndim - 2))) if self.mode.counts else out


class Folded(Call):
    """A linear operation and the BatchNorm after it, seen as one: straight from the one's input to the other's output."""

    def __init__(self, made: Call, norm: Norm) -> None:
        super().__init__(made.mode, made.f, made.name, made.kind, made.args, made.kwargs)
        self.made, self.norm, self.module, self.given, self.place = made, norm, made.module, made.given, ""

    @property
    def source(self) -> Tensor:
        return self.made.source

    @property
    def live_weights(self) -> bool:
        return self.made.live_weights

    @once
    def bound(self) -> tuple[Any, Any, Any]:
        """(input, weight, bias) of both as one; made when it is asked for."""
        return self.made.bound[0], self.norm.folded(self.made), self.shift

    @once
    def shift(self) -> Tensor | None:
        return self.norm.offset(self.made.bound[2])

    def pulled(self, g: Tensor, w: Tensor | None = None) -> Tensor:
        """By weights of both as one; where these are many, what arrives is scaled in their place."""
        if w is None and g.numel() < self.made.bound[1].numel():
            return self.made.pulled(g * self.lined(self.norm.scale))
        return super().pulled(g, w)

    def native(self) -> Tensor:
        """The BatchNorm's own value over the linear operation's, which ran once."""
        if self._native is None:
            before = self.made.native()
            self._native = self._shifted(self.norm, self.norm.run(before))
        return self._native

    def _made(self) -> Tensor:
        value = self.norm.run(self.made.output())
        self.made._native = self.made._output = None  # nobody asks again, as a rule, and it is large
        return value

    def straight(self, where: str) -> Tensor:
        """Both operations' own values and gradients; what arrives goes by the weights of both as one, with nothing worked out in between."""
        self.own, self.place = True, where
        value = self._made()
        return self.mode.spreads_on(keep(value, self.reached, self.source), self, lambda g, r: self.reached(r.arrives(value, g)))

    def reached(self, g: Tensor) -> list[Tensor]:
        """What arrives at the source by the weights of both; what is added takes its part."""
        b, mode = self.made.bound[2], self.mode
        if mode.counts:
            mode.ledger.constant(self.place, "batch_norm", self.lined(self.norm.offset()), g)
            if b is not None:
                mode.ledger.constant(self.module, self.name, self.lined(b * self.norm.scale), g)
        return [self.pulled(g)]


class Normed(Call):
    """A BatchNorm by itself: a fixed scale and shift."""

    def __init__(self, mode: "Mode", f: Any, name: str, kind: str, args: Sequence[Any], kwargs: dict[str, Any], norm: Norm) -> None:
        super().__init__(mode, f, name, kind, (norm.x, *args[1:]) if args else (norm.x,), kwargs)
        self.norm = norm

    def run(self, *new: Any) -> Tensor:
        return self.norm.run(*new or (self.norm.x,))

    def native(self) -> Tensor:
        """Its value with its own gradient; what the shift takes is entered in the ledger."""
        if self._native is None:
            self._native = self._shifted(self.norm, self.run())
        return self._native
