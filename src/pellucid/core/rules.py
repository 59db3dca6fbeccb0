"""Rules on operations: every operation keeps its value; what flows back through it follows a rule.

Relevance is point times gradient. A linear operation then needs no rule (its plain gradient shares relevance by z),
and a residual sum conserves it. What is left are seven kinds of operation, each with one rule.
"""

import contextlib
import sys
import types
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ._call import Call as Call, Folded, Normed, Rectified as Rectified
from ._fold import Norm
from ._kept import keep, tensors
from ._ledger import Ledger
from ._memory import Memory
from ._operations import ADDITIVE, FACTS, KIND, NUMBERS, PICKS, canonical, opened, outright, positional
from ._recomputed import kept_whole
from ._spelt import COMPOSED, SPELT, normed
from ._twins import TWINS
from .errors import NotApplicable

Rule = Callable[[Call], Tensor]
Chosen = Callable[[Call], bool]
Spread = Callable[[Tensor, Rectified], Sequence[Tensor | None]]
"""What reaches the source of an operation with weights when `g` arrives at what a rectifier right after it made of its value."""


def plain(c: Call) -> Tensor:
    """The operation as it is, with its own gradient."""
    return c.native()


@dataclass(frozen=True)
class Rules:
    """What each kind of operation does to the relevance that flows back through it: a composite, as data.

    `over` holds exceptions, (predicate of the call, rule), the first that fits wins. With `fold`, a BatchNorm next to the
    linear operation before it is seen as one with it. `paired` rules compare the point with a baseline.
    """

    weights: Rule = plain
    pointwise: Rule = plain
    product: Rule = plain
    scale: Rule = plain
    softmax: Rule = plain
    max: Rule = plain
    norm: Rule = plain
    """For a BatchNorm that is not one with a linear operation before it."""
    over: tuple[tuple[Chosen, Rule], ...] = ()
    fold: bool = True
    zeros: bool = False
    """Whether a rule may give to a value that is zero, such as a black pixel: relevance is then followed through zeros, at some cost."""
    counted: bool = True
    """Whether what operations absorb is entered in a ledger: of use where relevance should be conserved."""
    ledger: Callable[[int], Ledger] = Ledger
    """What keeps the account, made for a number of rows."""
    paired: bool = False
    split: bool = False
    """Whether paired rules carry what raises a value and what lowers it apart."""
    memory: Memory = field(default_factory=Memory, repr=False, compare=False)
    """What is made of weights and serves every chunk."""

    def kin(self) -> tuple[Any, ...]:
        """What rules of the same speed have in common."""
        each = (self.weights, self.pointwise, self.product, self.scale, self.softmax, self.max, self.norm, *(rule for _, rule in self.over))
        return (type(self), *(getattr(rule, "__qualname__", type(rule)) for rule in each), self.fold, self.zeros, self.counted, self.paired, self.split)

    def mode(self, names: dict[str, nn.Module], rows: int) -> "Mode":
        """The mode of one forward pass over `rows` rows; of two, the baseline's first, for paired rules."""
        if self.paired:
            from ._paired import Paired
            from ._split import Split

            return (Split if self.split else Paired)(self, names, rows)
        return Mode(self, names, rows)

    def of(self, c: Call) -> Rule:
        """The rule for a call."""
        for chosen, rule in self.over:
            if chosen(c):
                return rule
        return getattr(self, c.kind)


class Mode(TorchFunctionMode):
    """One forward pass under rules: every operation on a live value is met, known and ruled, or refused by name."""

    paired = False
    before: Any = None
    """What the baseline's pass gave, for paired rules."""

    def __init__(self, rules: Rules, names: dict[str, nn.Module], rows: int) -> None:
        super().__init__()
        self.rules, self.rows, self.counts = rules, rows, rules.counted and not self.paired
        self.names = {id(m): n for n, m in names.items()}
        self.seen: set[Any] = set()
        self.weighted: dict[Any, Call] = {}
        """What made values that operations with weights gave, and rectifiers whose rule is one with that of such an operation."""
        self.tags: dict[Any, Call] = {}
        self.spreads: dict[Any, tuple[Call, Spread]] = {}
        self.bars: dict[Any, str] = {}
        """What made values that no rule can explain, and the sentence that says so."""
        self.opening: list[Any] = []
        self.held: set[int] = set()
        """Memory that rules look at again when relevance flows back."""
        self.views: dict[int, list[weakref.ref[Tensor]]] = {}
        self.pads: dict[Any, tuple[Tensor, Callable[[Tensor], Tensor]]] = {}
        self.ledger = rules.ledger(rows)
        self.changed = 0
        """How many operations got another gradient than their own."""

    def recording(self) -> contextlib.AbstractContextManager[None]:
        """What runs inside is the baseline's pass, which paired rules record."""
        return contextlib.nullcontext()

    # -- where and whether ---------------------------------------------------------------------------------------------

    def where(self) -> str:
        """The innermost running module, read from the Python stack: no hook at all."""
        frame, code = sys._getframe(1), nn.Module._call_impl.__code__
        while frame is not None:
            if frame.f_code is code and (name := self.names.get(id(frame.f_locals["self"]))) is not None:
                return name
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def check(self, ts: list[Tensor]) -> None:
        """The pass is over: what it gave must be known, and is where relevance will start. The graph is let go, so that it is freed once relevance has flowed."""
        self._known(ts)
        self._mark_last(ts)
        for kept in (self.seen, self.bars, self.weighted, self.tags, self.spreads, self.pads, self.views, self.held):
            kept.clear()

    def _known(self, ts: Iterable[Tensor]) -> None:
        """Refuses a live value whose maker no rule saw: scripts, autograd functions, compiled code."""
        for t in ts:
            made = t.grad_fn if t.requires_grad else None
            if made in self.bars:
                raise NotApplicable(self.bars[made])
            if t.is_complex():
                raise NotApplicable(f"Rules need real numbers; got complex ones in {self.place()}. Use a method without rules, such as integrated-gradients.")
            if made is None or made in self.seen or (t._is_view() and t._base is not None and (t._base.grad_fn is None or t._base.grad_fn in self.seen)):
                continue
            what = f"{made.name()}, before or in {self.place()}, is none: a script, an autograd.Function, compiled code or another thread"
            raise NotApplicable(f"Rules act on operations that PyTorch shows; {what}. Use a plain module there, or a method without rules.")

    def below(self, t: Tensor, marked: Container[Any]) -> bool:
        """Whether a marked node lies between the point and `t`."""
        todo, done = [t.grad_fn], set()
        while todo:
            node = todo.pop()
            if node in marked:
                return True
            if node is not None and node not in done:
                done.add(node)
                todo += [n for n, _ in node.next_functions]
        return False

    def _mark_last(self, ts: list[Tensor]) -> None:
        """Marks the operations with weights from which none other is met on the way to the target."""
        todo, done = [t.grad_fn for t in ts], set()
        while todo:
            node = todo.pop()
            if node in self.weighted:
                self.weighted[node].last = True
            elif node is not None and node not in done:
                done.add(node)
                todo += [n for n, _ in node.next_functions]

    def place(self) -> str:
        """Where that is, in words."""
        where = self.where()
        return f"module {where!r}" if where else "the model's own forward"

    def note(self, out: Any) -> Any:
        """Remembers that these values are known."""
        for t in (out,) if type(out) is Tensor else tensors((out,)):
            made = t.grad_fn
            if made is not None and made not in self.bars:
                self.seen.add(made)
                if t._is_view():
                    self.views.setdefault(t.untyped_storage().data_ptr(), []).append(weakref.ref(t))
        return out

    def spare(self, target: Tensor) -> None:
        """Before `target` is written on: rules that will still look at what it held keep that, and it moves to memory of its own, with all views of it."""
        base = target._base if target._is_view() and target._base is not None else target
        here = base.untyped_storage().data_ptr()
        if here not in self.held:
            return
        first = base.storage_offset()
        fresh = torch.empty_strided(base.size(), base.stride(), dtype=base.dtype, device=base.device).copy_(base.detach())
        for t in (base, *(v for ref in self.views.pop(here, ()) if (v := ref()) is not None)):
            t.data = fresh.as_strided(t.size(), t.stride(), t.storage_offset() - first)

    def written(self, target: Tensor) -> Tensor:
        """Remembers what was written on, and what it is a view of."""
        if target._is_view() and target._base is not None:
            self.note(target._base)
        return self.note(target)

    def inside(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs `f` with its operations met one by one."""
        with self:
            return f(*args, **kwargs)

    # -- one operation -------------------------------------------------------------------------------------------------

    def __torch_function__(self, f: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, inplace = canonical(f)
        if name in FACTS or not torch.is_grad_enabled():
            return f(*args, **(kwargs or {}))
        with kept_whole():
            return self.meet(f, name, inplace, args, kwargs or {})

    def meet(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        """One operation."""
        given = tensors(args, kwargs)
        if not self.met(given):
            return f(*args, **kwargs)
        self._known(given)
        if kwargs:
            args, kwargs = positional(name, args, dict(kwargs))
        if KIND.get(name) == "pass":
            return self.passed(f, name, inplace, args, kwargs)
        if type(f) is types.FunctionType:
            args, kwargs, writes = outright(f, args, kwargs)
            inplace |= writes
        if not inplace:
            return self.note(self.ruled(f, name, args, kwargs))
        return self._written(f, name, args, kwargs)

    def met(self, given: Iterable[Tensor]) -> bool:
        """Whether an operation on these tensors is any business of the rules."""
        return any(t.requires_grad for t in given)

    def _written(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """In place: out of place on a copy, then written back, so that aliases stay right."""
        if canonical(f)[1]:
            f = getattr(torch.Tensor, name, None) or getattr(F, name)
        target = args[0]
        copy = self.note(target.clone())
        value = self.note(self.ruled(f, name, (copy, *args[1:]), kwargs))
        self._known([value])
        self.spare(target)
        target.copy_(value)
        self.written(target)
        if not value.requires_grad:
            end, amount = _whole(target, value)
            self.absorbs(end, amount, self.where(), name)
        return target

    def passed(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        """A linear operation: its plain gradient, and a constant that it adds entered as absorbed."""
        self._linear(name, args, kwargs)
        constant = self._constant(f, name, inplace, args, kwargs) if name in ADDITIVE and self.counts else None
        if inplace or name == "__setitem__":
            self.spare(args[0])
        out = self.note(f(*args, **kwargs))
        written = args[0] if name == "__setitem__" else out
        if name == "__setitem__" or inplace:
            self.written(written)
        if constant is not None and isinstance(written, Tensor) and written.requires_grad:
            end, amount = (written, constant) if written is out and not inplace else _whole(written, constant)
            self.absorbs(end, amount, self.where(), name)
        if name == "pad":
            self._padded(f, args, kwargs, out)
        return out

    def _padded(self, f: Any, args: Any, kwargs: dict[str, Any], out: Tensor) -> None:
        """Remembers what lay inside a frame of zeros below all weights: rules that give to zeros give nothing to the frame."""
        x, *rest = args or (kwargs["input"],)
        around = {k: v for k, v in kwargs.items() if k != "input"}
        how, value = (around.get(n, rest[i] if len(rest) > i else default) for i, n, default in ((1, "mode", "constant"), (2, "value", 0)))
        if how == "constant" and not value and not self.below(x, self.weighted):
            self.pads[out.grad_fn] = (x, lambda t: f(t, *rest, **around))

    def _linear(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        """Some operations are linear only with some arguments."""
        if name == "embedding_bag" and (kwargs.get("mode") == "max" or "max" in args):
            raise NotApplicable(f"A rule needs embedding_bag with mode sum or mean; {self.place()} calls it with max.")
        if name == "scatter_reduce" and kwargs.get("reduce", args[-1]) not in ("sum", "mean"):
            raise NotApplicable(f"A rule needs scatter_reduce with sum or mean; {self.place()} calls it with {kwargs.get('reduce', args[-1])}.")
        if name in ("grid_sample", "grid_sampler", "ldexp") and any(t.requires_grad for t in tensors(args[1:], kwargs)):
            raise NotApplicable(f"A rule needs {name} with a grid or exponent that does not depend on the point; that in {self.place()} does.")

    def _constant(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        """What the operation gives where all live values are zero; None where that is nothing."""
        if not any(_adds(a, name) for a in args) and not kwargs.get("value"):
            return None
        zero = [_zeroed(a) for a in args]
        with torch.no_grad():
            if name == "__setitem__" or inplace:
                zero[0] = zero[0].clone()
            out = f(*zero, **{k: _zeroed(v) for k, v in kwargs.items()})
        return zero[0] if name == "__setitem__" else out

    def absorbs(self, out: Tensor, amount: Tensor, where: str, name: str) -> Tensor:
        """Enters the relevance of the constant part of `out` in the ledger once it is known."""
        if out.requires_grad and self.counts:
            held = amount.detach()
            out.register_hook(lambda g: None if g is None else self.ledger.constant(where, name, held, g))
        return out

    def ruled(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operation by its rule."""
        if name == "batch_norm":
            return self.batch_norm(f, args, kwargs)
        if name in SPELT and not isinstance(f, types.FunctionType):
            return self.inside(SPELT[name], *args, **kwargs)
        f, name, args, kwargs = self._spelled(f, name, args, kwargs)
        kind = KIND.get(name)
        if name in TWINS and not (name == "div" and self._divides_by_constant(args)):
            return self._twin(f, name, args, kwargs)
        if name == "div":
            return f(*args, **kwargs)
        if kind is None:
            return self._unknown(f, name, args, kwargs)
        if kind in ("pointwise", "scale", "softmax", "max") and any(t.requires_grad for t in tensors(args[1:], kwargs)):
            return self._composed(f, name, args, kwargs)
        c = Call(self, f, name, kind, args, kwargs)
        if kind == "weights" and (b := c.bound[2]) is not None and b.requires_grad:
            return self._biased(c)
        return self.apply(c)

    def _spelled(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, str, Any, dict[str, Any]]:
        """Other spellings of an operation: x @ W is linear(x, W'), max(a, b) is maximum, torch.instance_norm has its arguments in another order."""
        if name in ("matmul", "mm") and not self.paired and not kwargs and args[1].dim() == 2 and not args[1].requires_grad:
            return F.linear, "linear", (args[0], args[1].mT), {}
        if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
            return getattr(torch, f"{name}imum"), f"{name}imum", args, kwargs
        if name == "instance_norm" and not isinstance(f, types.FunctionType):
            x, w, b, mean, var, *rest = args
            return F.instance_norm, name, (x, mean, var, w, b, *rest[:3]), kwargs
        return f, name, args, kwargs

    def _biased(self, c: Call) -> Tensor:
        """A bias that depends on the point is a summand like any other."""
        x, w, b = c.bound
        rest = {k: v for k, v in c.kwargs.items() if k not in ("input", "weight", "bias")}
        return self.apply(Call(self, c.f, c.name, "weights", (x, w, None, *c.args[3:]), rest)) + c.lined(b)

    def _divides_by_constant(self, args: Any) -> bool:
        return not (isinstance(args[1], Tensor) and args[1].requires_grad)

    def _twin(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """The fused value, the twin's gradient."""
        out = self.inside(TWINS[name], *args, **kwargs)
        if isinstance(out, tuple) or not out.requires_grad:
            return out
        with torch.no_grad():
            value = f(*args, **kwargs)
        return keep(value, lambda g: (g,), out)

    def _composed(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if name in COMPOSED:
            return self.inside(COMPOSED[name], *args, **kwargs)
        raise NotApplicable(f"A rule for {name!r} needs parameters that do not depend on the point; in {self.place()} they do. Use a method without rules, or a later layer (at=...).")

    def _unknown(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """A Python function of torch is opened; another operation may run if nothing of it is differentiated."""
        call = Call(self, f, name, "unknown", args, kwargs)
        rule = next((r for chosen, r in self.rules.over if chosen(call)), None)
        if rule is not None:
            self.changed += 1
            return rule(call)
        if isinstance(f, types.FunctionType) and f not in self.opening and name not in PICKS:
            self.opening.append(f)
            try:
                return self.inside(opened(f), *args, **kwargs)
            finally:
                self.opening.remove(f)
        out = f(*args, **kwargs)
        if not any(t.requires_grad for t in tensors((out,))):
            return out
        return self.unruled(name, args, out)

    def unruled(self, name: str, args: Any, out: Any) -> Any:
        """What picks values by their size is linear once it has picked; anything else is refused."""
        if name in PICKS:
            return out
        return self.barred(out, f"There is no rule for the operation {name!r} in {self.place()}. Give one (over=...), or use a method without rules, such as integrated-gradients.")

    def barred(self, out: Any, why: str) -> Any:
        """What has no rule is refused once it is used: a branch that leads nowhere harms nobody."""
        for t in tensors((out,)):
            if t.grad_fn is not None:
                self.bars[t.grad_fn] = why
        return out

    def apply(self, c: Call) -> Tensor:
        """Runs a call by the rule that is meant for it."""
        if c.kind == "weights" and c.live_weights:
            c.kind = "product"
        if c.kind == "weights":  # noted now: a BatchNorm after it asks when it is no longer running, and something may be written on its input
            c.given  # noqa: B018
            if self.counts or self.rules.over:
                c.module  # noqa: B018
        out = self.rules.of(c)(c)
        self.changed += not (c.own or out is c._native)
        if c.kind == "weights":
            self._tag(c, out)
        return out

    def _tag(self, c: Call, out: Tensor) -> None:
        """Marks an output as one of a weighted operation, so that a BatchNorm or an activation after it finds what it belongs to."""
        if out.grad_fn is not None:
            self.weighted[out.grad_fn] = self.tags[out.grad_fn] = c

    def spreads_on(self, out: Tensor, c: Call, spread: Spread) -> Tensor:
        """The output of weights whose rule a rectifier right after them may join."""
        if out.grad_fn is not None:
            self.spreads[out.grad_fn] = c, spread
        return out

    def rectified(self, c: Call, r: Rectified) -> Tensor:
        """The value of a rectifier that relevance passes unchanged; right after weights it joins their rule."""
        x: Tensor = c.args[0]
        onto, spread = self.spreads.get(x.grad_fn, (None, None))
        if onto is None or spread is None:
            z = x.detach()
            return c.keep(r.y, lambda g: [r.arrives(z, g)], x, conserves=True, own=not r.cut)
        out = c.keep(r.y, lambda g: spread(g, r), onto.source, conserves=True, own=not r.cut)
        self.weighted[out.grad_fn] = onto
        return out

    def batch_norm(self, f: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        """A fixed scale and shift; after a linear operation under a rule, one with it."""
        n = Norm.of(f, args, kwargs)
        if n.training and not self.counts and not self.paired:
            return n.run(n.x)
        if n.training:
            raise NotApplicable(f"A rule needs batch_norm in eval mode; in {self.place()} it normalizes by the batch, which mixes the rows. Call model.eval().")
        if n.live:
            return self.inside(normed, n.x, *n.args)
        made = self.tags.get(n.x.grad_fn)
        if made is None or (made.name == "linear" and n.x.ndim > 2):
            return self.apply(Normed(self, f, "batch_norm", "norm", args, kwargs, n))
        if self.rules.of(made) is not plain:
            return self.apply(Folded(made, n) if self.rules.fold else Normed(self, f, "batch_norm", "norm", args, kwargs, n))
        if self.rules.over or self.rules.norm is not plain:
            alone = Normed(self, f, "batch_norm", "norm", args, kwargs, n)
            if self.rules.of(alone) is not plain:
                return self.apply(alone)
        both = Folded(made, n)
        out = both.straight(self.where())
        self._tag(both, out)
        return out


def _adds(a: Any, name: str) -> bool:
    """Whether an argument of an additive operation is a constant that may be added."""
    if isinstance(a, Tensor):
        return not a.requires_grad and a.dtype != torch.bool
    if isinstance(a, (tuple, list)):
        return any(isinstance(v, Tensor) and _adds(v, name) for v in a)
    return isinstance(a, (int, float)) and not isinstance(a, bool) and bool(a) and name in NUMBERS


def _zeroed(a: Any) -> Any:
    if isinstance(a, Tensor):
        return torch.zeros_like(a) if a.requires_grad else a
    return type(a)(_zeroed(v) for v in a) if type(a) in (tuple, list) else a


def _whole(written: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor that was written on and a constant in it; if it is a view, both as what it is a view of sees them, where gradients arrive."""
    base = written._base if written._is_view() else None
    if base is None or not base.requires_grad:
        return written, amount
    memory = amount.new_zeros(written.untyped_storage().nbytes() // written.element_size())
    memory.as_strided(written.size(), written.stride(), written.storage_offset()).copy_(amount)
    return base, memory.as_strided(base.size(), base.stride(), base.storage_offset())
