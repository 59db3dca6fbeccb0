"""Layer-wise relevance propagation: what each operation does with the relevance of its output, as small functions.

A rule for weights names a surrogate h of the operation, made of linear parts, and each input gets x * d/dx <h, R / h>. The parts
are run when relevance flows back, once; the operation's own value and gradient serve wherever h contains them.

Source: Bach, Binder, Montavon, Klauschen, Mueller, Samek 2015, doi:10.1371/journal.pone.0130140 (LRP-0, epsilon, alpha-beta);
Montavon, Lapuschkin, Binder, Samek, Mueller 2017, arXiv:1512.02479 (z+, w-square, z-box); Lapuschkin et al. 2019,
arXiv:1902.10178 (flat); Montavon, Binder, Lapuschkin, Samek, Mueller 2019, doi:10.1007/978-3-030-28954-6_10 (gamma).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core._kept import by_row, in_blocks, safe, tiny
from ..core.errors import NotApplicable
from ..core.rules import Call, Rule
from ._attention import constant, first_order, shared

__all__ = ["alpha_beta", "box", "constant", "contrasted", "epsilon", "first_order", "flat", "gamma", "identity", "passing", "positive", "shared", "square", "turned"]

NOBODY = "nobody to give to"
"""What a ledger calls relevance that arrived where no input takes part."""
Pulls = list[tuple[Tensor, Tensor]]
"""Linear parts of an operation, and what flows back through each."""

# ---------------------------------------------------------------- what a rule for weights is made of


class Parts:
    """A weighted operation while relevance flows back: its value, its relevance, and linear parts of it, told apart by sign."""

    def __init__(self, c: Call, g: Tensor, bias: bool) -> None:
        self.c, self.g, self.bias = c, g, bias
        _, self.w, self.b = c.bound
        self.leaf = c.given.detach().requires_grad_()

    @functools.cached_property
    def z(self) -> Tensor:
        """The operation's value; where biases are left out, without its bias."""
        z = self.c.output()
        return z if self.bias or self.b is None else z - self.c.lined(self.b)

    @functools.cached_property
    def whole(self) -> tuple[Tensor, bool]:
        """The relevance of each row's output."""
        z = self.c.output()
        return by_row(safe(z) if self.c.mode.rules.zeros else z, self.g, self.c.mode.rows)

    @functools.cached_property
    def mixed(self) -> bool:
        """Whether the input has negative numbers: after a ReLU it has none, and half of the work is spared."""
        return bool(self.leaf.detach().amin() < 0)

    def weights(self, sign: int) -> tuple[Tensor, Tensor | None]:
        """The positive or the negative part of the weight and of the bias, made once for all chunks."""
        part = (lambda t: t.clamp(min=0)) if sign > 0 else (lambda t: t.clamp(max=0))
        known = self.c.mode.rules.memory
        return known(f"part {sign}", [self.w], lambda: part(self.w)), None if self.b is None or not self.bias else part(self.b)

    @torch.enable_grad()
    def signed(self, sign: int) -> Tensor:
        """The sum of all products x * w of that sign, and the bias where it has it."""
        same, b = self.weights(sign)
        if not self.mixed:
            return self.c.op(self.leaf, same, b)
        return self.c.op(self.leaf.clamp(min=0), same, b) + self.c.op(self.leaf.clamp(max=0), self.weights(-sign)[0], None)

    def per(self, h: Tensor, part: float = 1.0) -> Tensor:
        """A part of R / h; where h is nothing, nobody can take R: nothing is handed out, and that is entered by its name."""
        h = h.detach()
        (s,) = in_blocks(_share, self.c.output(), self.g, h)
        mode = self.c.mode
        if mode.counts:
            (whole, known), (given, _) = self.whole, by_row(h, s, mode.rows)
            lost = part * (whole - given)
            mode.ledger.enter(self.c.module, NOBODY, lost, known)
            mode.ledger.enter(self.c.module, self.c.name, -lost, known)
        return s if part == 1 else s.mul_(part)

    def pull(self, pulls: Pulls) -> Tensor:
        """What reaches the input."""
        return torch.autograd.grad([h for h, _ in pulls], self.leaf, [s for _, s in pulls])[0]


def _share(s: Tensor, z: Tensor, g: Tensor, h: Tensor) -> None:
    """s = z g / h, 0 where h is. No z is nothing: its relevance may have come from elsewhere."""
    least = tiny(z)
    torch.abs(z, out=s).clamp_(min=least).copysign_(z).mul_(g).div_(F.threshold(h.abs(), least, float("inf")).copysign_(h))


def split(parts: Callable[[Parts], Pulls], bias: bool) -> Rule:
    """The rule that hands relevance out through linear parts of the operation."""

    def rule(c: Call) -> Tensor:
        def back(g: Tensor) -> Sequence[Tensor | None]:
            p = Parts(c, g, bias)
            return [p.pull(parts(p))]

        return c.keep(c.output(), back, c.source)

    return rule


# ---------------------------------------------------------------- rules for weights


def epsilon(eps: float = 1e-6, bias: bool = True) -> Rule:
    """x w R / (z + eps sign z): what contradicts itself is damped. The operation's own gradient, scaled."""

    def damped(o: Tensor, z: Tensor, g: Tensor) -> None:
        torch.abs(z, out=o).clamp_(min=tiny(z))
        torch.div(o, o + eps, out=o).mul_(g)

    def rule(c: Call) -> Tensor:
        native = c.native()

        def back(g: Tensor) -> Sequence[Tensor | None]:
            if not bias:
                p = Parts(c, g, bias)
                return [p.per(p.z + torch.full_like(p.z, eps).copysign_(p.z))]
            return in_blocks(damped, c.output(), g)

        return c.keep(native, back, native)

    return rule


def gamma(g: float = 0.25, bias: bool = True) -> Rule:
    """What pushes the output the way it went counts 1 + gamma times: h = z + gamma z+ for positive outputs, z + gamma z- for others."""

    def favoured(h: Tensor, z: Tensor, up: Tensor) -> None:
        torch.sub(up, z, alpha=0.5, out=h).abs_().copysign_(z).mul_(g).add_(z, alpha=1 + g / 2)

    def parted(through: Tensor, own: Tensor, s: Tensor, z: Tensor) -> None:
        """z+ gets g s where the output is positive, -g s elsewhere; the value itself what is left of s (1 + g) there."""
        through.fill_(g).copysign_(z).mul_(s)
        torch.sub(s, through, alpha=0.5, out=own).add_(s, alpha=g / 2)

    def rule(c: Call) -> Tensor:
        native = c.native()

        def back(grad: Tensor) -> Sequence[Tensor | None]:
            p = Parts(c, grad, bias)
            up = p.signed(1)
            (h,) = in_blocks(favoured, p.z, up.detach())
            s = p.per(h)
            through, own = in_blocks(parted, s, p.z, outs=2)
            return [p.pull([(up, through)]), own]

        return c.keep(native, back, c.source, native)

    return rule


def positive(bias: bool = True) -> Rule:
    """z+: only what raises the output takes part, x w > 0."""

    def parts(p: Parts) -> Pulls:
        up = p.signed(1)
        return [(up, p.per(up))]

    return split(parts, bias)


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, bias: bool = True) -> Rule:
    """Alpha times the relevance goes to what raises the output, -beta times to what lowers it."""

    def parts(p: Parts) -> Pulls:
        up = p.signed(1)
        if not beta:
            return [(up, p.per(up))]
        down = p.signed(-1)
        return [(up, p.per(up, alpha)), (down, p.per(down, -beta))]

    return split(parts, bias)


def turned(c: Call) -> Tensor:
    """z+ of the same weights turned round, without biases."""
    return split(lambda p: [(down := p.signed(-1), p.per(down))], False)(c)


def contrasted(c: Call) -> Tensor:
    """z+ without biases; at the last weights less the z+ of the same weights turned round."""

    def parts(p: Parts) -> Pulls:
        up = p.signed(1)
        if not c.last:
            return [(up, p.per(up))]
        down = p.signed(-1)
        return [(up, p.per(up)), (down, -p.per(down))]

    return split(parts, False)(c)


# ---------------------------------------------------------------- rules for the first weights, where zeros may be black pixels


def flat(c: Call) -> Tensor:
    """The same to every input, whatever it is."""
    return _stood_in(c, lambda t: torch.ones_like(t), lambda w: torch.ones_like(w), None)


def square(bias: bool = True) -> Rule:
    """By the squares of the weights, whatever the input is."""
    return lambda c: _stood_in(c, lambda t: torch.ones_like(t), lambda w: w * w, (lambda b: b * b) if bias else None)


def box(low: Any = None, high: Any = None) -> Rule:
    """z-box: x w - low w+ - high w-, for inputs between `low` and `high`: each row's own where they are not known."""

    def rule(c: Call) -> Tensor:
        live, pad = c.unpadded()
        x = live.detach()

        def back(g: Tensor) -> Sequence[Tensor | None]:
            p = Parts(c, g, False)
            ends = [_end(x, c, v, f) for v, f in ((low, torch.amin), (high, torch.amax))]
            with torch.enable_grad():
                at = [t.detach().requires_grad_() for t in (x, *ends)]
                here, bottom, top = map(pad, at)
                h = c.op(here, p.w, None) - c.op(bottom, p.weights(1)[0], None) - c.op(top, p.weights(-1)[0], None)
            grads = torch.autograd.grad(h, at, p.per(h))
            return [sum(t * s for t, s in zip((x, *ends), grads, strict=True)) / safe(x)]

        return c.keep(c.output(), back, live)

    return rule


def _stood_in(c: Call, inputs: Callable[[Tensor], Tensor], weights: Callable[[Tensor], Tensor], biases: Callable[[Tensor], Tensor] | None) -> Tensor:
    """A rule in which something else stands in for the input; zeros that were put around it get nothing."""
    live, pad = c.unpadded()
    x = live.detach()

    def back(g: Tensor) -> Sequence[Tensor | None]:
        p = Parts(c, g, True)
        with torch.enable_grad():
            at = inputs(x).requires_grad_()
            h = c.op(pad(at), weights(p.w), None if biases is None or p.b is None else biases(p.b))
        (given,) = torch.autograd.grad(h, at, p.per(h))
        return [at.detach() * given / safe(x)]

    return c.keep(c.output(), back, live)


def _end(x: Tensor, c: Call, given: Any, of_row: Callable[..., Tensor]) -> Tensor:
    """An end of the input's range, shaped like the input."""
    if given is not None:
        return torch.as_tensor(given, dtype=x.dtype, device=x.device).expand_as(x)
    if len(x) != c.mode.rows:
        where = f"{c.name!r} in module {c.module!r}"
        raise NotApplicable(f"The z-box rule needs the range of the input, or rows on the first axis to read it off; {where} has neither. Use the composite epsilon-plus-flat.")
    return of_row(x, tuple(range(1, x.ndim)), keepdim=True).expand_as(x)


# ---------------------------------------------------------------- rules for the other kinds


def identity(c: Call) -> Tensor:
    """R unchanged through a pointwise function: the gradient f(x) / x. Where rules give to zeros, also if x was cut off."""
    if c.name in PROPORTIONAL and not c.mode.rules.zeros:
        return c.native()
    if c.name == "pow" and c.args[1] in (0.5, -0.5):
        return constant(c)
    top = None if c.mode.rules.zeros else _ceiling(c)
    return passing(c) if top is None else _clipped(c, top)


def passing(c: Call) -> Tensor:
    """R unchanged through any operation that keeps the shape."""
    x, y = c.args[0].detach(), c.output()
    return c.keep(y, lambda g: in_blocks(_unchanged, y, x, g), c.args[0], conserves=True)


def _unchanged(o: Tensor, y: Tensor, x: Tensor, g: Tensor) -> None:
    torch.abs(y, out=o).clamp_(min=tiny(y)).copysign_(y).div_(safe(x)).mul_(g)


PROPORTIONAL = frozenset(["relu", "leaky_relu", "prelu", "abs"])
"""f(x) / x is their gradient."""


def _ceiling(c: Call) -> float | None:
    """Where a ReLU that is cut off above stops; None for other functions."""
    if c.name == "relu6":
        return 6.0
    if c.name != "hardtanh":
        return None
    low, high = (c.kwargs.get(n, c.args[i] if len(c.args) > i else d) for i, n, d in ((1, "min_val", -1.0), (2, "max_val", 1.0)))
    return float(high) if low == 0 and high > 0 else None


def _clipped(c: Call, top: float) -> Tensor:
    """min(x, top) / x for positive x, 0 for others, without a comparison."""
    x = c.args[0].detach()


    def back(o: Tensor, x: Tensor, g: Tensor) -> None:
        torch.div(g, torch.clamp(x, min=top, out=o), out=o).mul_(top)
        torch.ops.aten.threshold_backward.grad_input(o, x, 0, grad_input=o)

    return c.keep(c.output(), lambda g: in_blocks(back, x, g), c.args[0], conserves=True)
