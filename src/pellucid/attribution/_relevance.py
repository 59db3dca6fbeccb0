"""Layer-wise relevance propagation: what each operation does with the relevance of its output, as small functions.

A rule for weights names a surrogate h of the operation, made of linear parts, and each input gets x * d/dx <h, R / h>. The parts
are run when relevance flows back, once; the operation's own value and transpose serve wherever h contains them.

Source: Bach, Binder, Montavon, Klauschen, Mueller, Samek 2015, doi:10.1371/journal.pone.0130140 (LRP-0, epsilon, alpha-beta);
Montavon, Lapuschkin, Binder, Samek, Mueller 2017, arXiv:1512.02479 (z+, w-square, z-box); Lapuschkin et al. 2019,
arXiv:1902.10178 (flat); Montavon, Binder, Lapuschkin, Samek, Mueller 2019, doi:10.1007/978-3-030-28954-6_10 (gamma).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core._kept import above, all_finite, dot, in_blocks, in_rows, safe, small, tiny
from ..core._memory import once
from ..core.errors import NotApplicable
from ..core.rules import Call, Rectified, Rule
from ._attention import constant, first_order, shared

__all__ = ["alpha_beta", "box", "constant", "contrasted", "epsilon", "first_order", "flat", "gamma", "identity", "passing", "positive", "shared", "square", "turned"]

NOBODY = "nobody to give to"
"""What a ledger calls relevance that arrived where no input takes part."""

# ---------------------------------------------------------------- what a rule for weights is made of


class Parts:
    """A weighted operation while relevance flows back: its input, its value, its relevance, and linear parts of it, told apart by sign.

    `g` arrives at its value or, where that is given, at what a rectifier right after it made of that.
    """

    def __init__(self, c: Call, g: Tensor, bias: bool, after: Rectified | None = None) -> None:
        self.c, self.g, self.x, self.after = c, g, c.given, after
        self.b = c.shift if bias else None

    @once
    def w(self) -> Tensor:
        """The operation's weight."""
        w: Tensor = self.c.bound[1]
        return w

    @once
    def z(self) -> Tensor:
        """The operation's value; where biases are left out, without its bias."""
        z, b = self.c.output(), self.c.shift
        return z if b is None or self.b is not None else z - self.c.lined(b)

    @once
    def mixed(self) -> bool:
        """Whether the input has negative numbers: after a ReLU it has none, and half of the work is spared."""
        return bool(self.x.amin() < 0)

    def weights(self, sign: int) -> Tensor:
        """The positive or the negative part of the weight, made once for all chunks."""
        made: Tensor = self.c.mode.rules.memory(f"part {sign}", [self.w], lambda: _part(self.w, sign))
        return made

    def signed(self, sign: int) -> Tensor:
        """The sum of all products x * w of that sign, and the bias where it has it."""
        same, b = self.weights(sign), None if self.b is None else _part(self.b, sign)
        if not self.mixed:
            return self.c.op(self.x, same, b)
        return self.c.op(self.x.clamp(min=0), same, b).add_(self.c.op(self.x.clamp(max=0), self.weights(-sign), None))

    def through(self, sign: int, s: Tensor) -> Tensor:
        """What reaches the input when `s` flows back through the sum of that sign."""
        if self.b is not None:
            self.keeps(_part(self.b, sign), s)
        given = self.c.pulled(s, self.weights(sign))
        if not self.mixed:
            return given
        (both,) = in_blocks(_by_sign, self.x, given, self.c.pulled(s, self.weights(-sign)))
        return both

    def whole(self, s: Tensor) -> Tensor:
        """What reaches the input when `s` flows back through the operation itself."""
        if self.b is not None:
            self.keeps(self.b, s)
        return self.c.pulled(s)

    def keeps(self, b: Tensor, s: Tensor) -> None:
        """Enters what a bias takes of `s`."""
        if self.c.mode.counts:
            self.c.mode.ledger.constant(self.c.module, self.c.name, self.c.lined(b), s)

    def shared(self, f: Callable[..., Tensor | None], *hs: Tensor, outs: int = 1, name: str = NOBODY, sole: bool = False) -> list[Tensor]:
        """What `f(*outs, z, g, *hs)` fills; what it gives back goes nowhere, and is entered by that name. `sole`: z and g matter as their product only."""
        mode = self.c.mode
        f, hs = (f, (self.g, *hs)) if self.after is None else (_below(self.after, f, outs, sole), (self.after.y, self.g, *hs))
        made, lost, known = in_rows(f, mode.rows, self.c.output(), *hs, outs=outs)
        if mode.counts and name:
            mode.ledger.enter(self.c.module, name, lost, known)
        return made

    def per(self, h: Tensor) -> Tensor:
        """R / h, for a rule whose loss is metered: what nobody can take is entered by that name instead of the operation's."""
        mode = self.c.mode
        (s,), lost, known = in_rows(_shared, mode.rows, self.c.output(), self.g, h.detach())
        if mode.counts:
            mode.ledger.enter(self.c.module, NOBODY, lost, known)
            mode.ledger.enter(self.c.module, self.c.name, -lost, known)
        return s


def _below(r: Rectified, f: Callable[..., Tensor | None], outs: int, sole: bool) -> Callable[..., Tensor | None]:
    """`f(*outs, z, y, g, ...)` where g has arrived at what a rectifier made of z."""

    def through(*ts: Tensor) -> Tensor | None:
        made, (z, y, g), rest = ts[:outs], ts[outs : outs + 3], ts[outs + 3 :]
        if sole and small(g):
            return f(*made, y, g, *rest)
        return f(*made, z, r.through(torch.empty_like(z), y, z, g), *rest)

    return through


def _by_sign(o: Tensor, x: Tensor, over: Tensor, below: Tensor) -> None:
    """One where x is positive, the other where it is negative: `torch.where` takes ten times as long."""
    above(over, x, 0, grad_input=o)
    o.add_(above(below, x.neg(), 0, grad_input=torch.empty_like(o)))


def _part(t: Tensor, sign: int) -> Tensor:
    return t.clamp(min=0) if sign > 0 else t.clamp(max=0)


def _relevance(r: Tensor, z: Tensor, g: Tensor) -> Tensor:
    """r = z g. No z is nothing: its relevance may have come from elsewhere."""
    return torch.abs(z, out=r).clamp_(min=tiny(z)).copysign_(z).mul_(g)


def _over(h: Tensor, r: Tensor) -> Tensor | None:
    """r / h in the place of r, for an h that is not negative. Where that is nothing, nobody can take R: nothing is handed out, and (rows,) what that comes to is given back."""
    h = F.threshold(h, tiny(h), torch.inf)
    lost = dot(r, torch.isinf(h).to(r)) if h.device.type != "cpu" or float(h.amax()) == torch.inf else None
    r.div_(h)
    return lost


def _share(s: Tensor, z: Tensor, g: Tensor, h: Tensor) -> Tensor | None:
    """s = z g / h, for an h that is not negative."""
    if small(g):
        if all_finite(torch.mul(z, g, out=s).div_(h)):
            return None
        if all_finite(torch.nan_to_num(s, 0.0, torch.inf, -torch.inf, out=s)):  # 0 / 0: nothing arrived where nobody can take it
            return None
    return _over(h, _relevance(s, z, g))


def _shared(s: Tensor, z: Tensor, g: Tensor, h: Tensor) -> Tensor | None:
    """s = z g / h."""
    lost = _over(h.abs(), _relevance(s, z, g))
    s.mul_(torch.ones_like(h).copysign_(h))
    return lost


def split(parts: Callable[[Parts], Tensor], bias: bool, conserves: bool = True) -> Rule:
    """The rule that hands relevance out through linear parts of the operation."""

    def rule(c: Call) -> Tensor:
        out = c.keep(c.output(), lambda g: [parts(Parts(c, g, bias))], c.source, conserves=conserves)
        return c.mode.spreads_on(out, c, lambda g, r: [parts(Parts(c, g, bias, r))]) if conserves else out

    rule.__qualname__ = parts.__qualname__  # what it is, for whoever tells rules apart by name
    return rule


# ---------------------------------------------------------------- rules for weights


def epsilon(eps: float = 1e-6, bias: bool = True) -> Rule:
    """x w R / (z + eps sign z): what contradicts itself is damped. The operation's own gradient, scaled."""

    def damped(s: Tensor, z: Tensor, g: Tensor) -> Tensor:
        torch.abs(z, out=s)
        if small(g):  # g |z| / (|z| + eps) is g less what eps takes
            taken = torch.div(g, s.add_(eps))
            torch.sub(g, taken, alpha=eps, out=s)
        else:
            taken = g / (s.clamp_(min=tiny(z)) + eps)
            s.mul_(taken)
        return dot(z, taken).mul_(eps)

    def unbiased(s: Tensor, z: Tensor, g: Tensor, h: Tensor) -> Tensor | None:
        lost, sign = _over(h.abs().add_(eps), _relevance(s, z, g)), torch.ones_like(h).copysign_(h)
        return dot(sign, s.mul_(sign)).mul_(eps) if eps else lost

    def rectified(s: Tensor, z: Tensor, y: Tensor, g: Tensor) -> None:
        torch.div(y, torch.abs(z, out=s).add_(eps), out=s).mul_(g)

    def parts(p: Parts) -> Tensor:
        if bias and eps and p.after is not None:  # above zero, where all of y lies, eps takes what a bias of its size would
            (s,) = in_blocks(rectified, p.c.output(), p.after.y, p.g)
            p.keeps(s.new_full((1,), eps) if p.b is None else p.b + eps, s)
            return p.c.pulled(s)
        name = p.c.name if eps else NOBODY
        (s,) = p.shared(damped, name=name) if bias else p.shared(unbiased, p.z, name=name)
        return p.whole(s)

    return split(parts, bias)


def gamma(g: float = 0.25, bias: bool = True) -> Rule:
    """What pushes the output the way it went counts 1 + gamma times: h = z + gamma z+ for positive outputs, z + gamma z- for others.

    With q = R / |h|, gamma q flows back through z+, and the rest of R / h (1 + gamma) through the operation itself.
    """

    def parted(up: Tensor, own: Tensor, z: Tensor, relevance: Tensor, plus: Tensor, h: Tensor) -> Tensor | None:
        if bias and small(relevance):  # |h| = |z| + gamma |z+| or |z| + gamma |z-|, and z- is z less z+
            torch.ops.aten.leaky_relu.out(z, -1 - g, out=own)
            torch.div(relevance, torch.add(own, plus, alpha=g, out=up), out=up)
            own.mul_(up)
            if all_finite(own, up.mul_(z).mul_(g)):
                return None
        torch.sub(plus, h, alpha=0.5, out=own).abs_().mul_(g).add_(h.abs(), alpha=1 + g / 2)
        lost = _over(own, _relevance(up, z, relevance))
        own.fill_(1 + g / 2).copysign_(h).sub_(g / 2).mul_(up)
        up.mul_(g)
        return lost

    def parts(p: Parts) -> Tensor:
        up, own = p.shared(parted, p.signed(1), p.z, outs=2)
        return p.through(1, up).add_(p.whole(own))

    return split(parts, bias)


def positive(bias: bool = True) -> Rule:
    """z+: only what raises the output takes part, x w > 0."""
    return split(_raising, bias)


def _raising(p: Parts) -> Tensor:
    return p.through(1, *p.shared(_share, p.signed(1), sole=True))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, bias: bool = True) -> Rule:
    """Alpha times the relevance goes to what raises the output, -beta times to what lowers it."""

    def parted(up: Tensor, down: Tensor, z: Tensor, g: Tensor, plus: Tensor, minus: Tensor) -> Tensor | None:
        if small(g):
            torch.div(torch.mul(z, g, out=down), plus, out=up).mul_(alpha)
            if all_finite(up, down.div_(minus).mul_(-beta)):
                return None
        down.copy_(_relevance(up, z, g))
        high, low = _over(plus, up.mul_(alpha)), _over(-minus, down.mul_(beta))
        if low is None:
            return high
        return low.neg_() if high is None else high.sub_(low)

    def parts(p: Parts) -> Tensor:
        if not beta:
            return _raising(p)
        up, down = p.shared(parted, p.signed(1), p.signed(-1), outs=2, sole=True)
        return p.through(1, up).add_(p.through(-1, down))

    return split(parts, bias)


def turned(c: Call) -> Tensor:
    """z+ of the same weights turned round, without biases."""
    return split(_lowering, False)(c)


def _lowering(p: Parts) -> Tensor:
    return p.through(-1, *p.shared(lambda s, z, g, h: _share(s, -z, g, -h), p.signed(-1), sole=True))


def contrasted(c: Call) -> Tensor:
    """z+ without biases; at the last weights less the z+ of the same weights turned round."""
    return split(lambda p: _raising(p).sub_(_lowering(p)) if c.last else _raising(p), False)(c)


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
                h = c.op(here, p.w, None) - c.op(bottom, p.weights(1), None) - c.op(top, p.weights(-1), None)
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
    zeros = c.mode.rules.zeros
    if not zeros and (c.name == "relu" or _cut_off(c)):
        return _rectified(c)
    if c.name in PROPORTIONAL and not zeros:
        return c.native()
    if c.name == "pow" and c.args[1] in (0.5, -0.5):
        return constant(c)
    return passing(c)


def passing(c: Call) -> Tensor:
    """R unchanged through any operation that keeps the shape."""
    x, y = c.args[0].detach(), c.output()
    return c.keep(y, lambda g: in_blocks(_unchanged, y, x, g), c.args[0], conserves=True)


def _unchanged(o: Tensor, y: Tensor, x: Tensor, g: Tensor) -> None:
    torch.abs(y, out=o).clamp_(min=tiny(y)).copysign_(y).div_(safe(x)).mul_(g)


PROPORTIONAL = frozenset(["leaky_relu", "prelu", "abs"])
"""f(x) / x is their gradient."""


def _cut_off(c: Call) -> bool:
    """Whether a call is a ReLU that is cut off above."""
    if c.name != "hardtanh":
        return c.name == "relu6"
    low, high = (c.kwargs.get(n, c.args[i] if len(c.args) > i else d) for i, n, d in ((1, "min_val", -1.0), (2, "max_val", 1.0)))
    return low == 0 and high > 0


def _rectified(c: Call) -> Tensor:
    """R unchanged through what is nothing unless its input is positive; right after weights, at once through their rule."""
    c.own = c.name == "relu"
    if c.own and c.args[0].grad_fn not in c.mode.spreads:
        return c.native()
    return c.mode.rectified(c, Rectified(c.output(), not c.own))
