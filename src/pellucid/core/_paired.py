"""Rules that compare the point with a baseline: one pass at the baseline is recorded, one at the point reads it back."""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._call import Folded
from ._fold import Norm
from ._kept import overwrite, tensors
from ._operations import KIND, LOOKED, PICKS, canonical
from ._recurrent import fits, unrolled
from ._twins import TWINS
from .errors import CannotComplete, NotApplicable
from .rules import Call, Mode, Rules

WINNERS = frozenset(["max", "min", "amin", *(f"{kind}max_pool{n}d_with_indices" for kind in ("", "adaptive_") for n in (1, 2, 3))])
"""More operations of the kind "max"; most of them also say where each value came from."""
LIGHT = frozenset(op for op, kind in KIND.items() if kind == "pass") - LOOKED - {"detach", "__setitem__", "copy", "fill", "zero"}
"""Linear operations that need no look at their arguments."""


class Paired(Mode):
    """Two passes under one mode, over the same operations in the same order; what runs within `recording()` is the baseline's.

    Against a batch of both, nothing is assumed about where the rows lie, nothing flows back through the baseline, and each record is freed once read.
    The baseline's pass knows what depends on the point as autograd does, but keeps nothing for a backward pass.
    """

    paired = True

    def __init__(self, rules: Rules, names: dict[str, nn.Module], rows: int) -> None:
        super().__init__(rules, names, rows)
        self.records = False
        self.before: Any = None
        """What the model answered at the baseline, until the target has read it."""
        self._tape: deque[tuple[str, list[Any]]] = deque()
        self._aliases: dict[int, list[tuple[list[Any], int]]] = {}
        self._unseen: dict[int, Tensor] = {}
        """Masks and indices that depend on the point, as comparisons give them: no gradient sees them."""

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """What runs here is recorded, to be read back in the same order."""
        self.records = True
        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_nothing, _nothing):
                yield
        finally:
            self.records = False
            self._aliases.clear()

    def met(self, given: Iterable[Tensor]) -> bool:
        return any(t.requires_grad or id(t) in self._unseen for t in given)

    def meet(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        if name == "numpy" and args[0].requires_grad:  # what is detached is live here
            self.same(name, [args[0].detach()])
            return f(args[0].detach(), **kwargs)
        if inplace or self._unseen or not self._light(name, args, kwargs):
            return self._heavy(f, name, inplace, args, kwargs)
        live = _live(args) + _live(kwargs.values())
        if any(t.grad_fn is not None and t.grad_fn not in self.seen for t in live):
            self._known(live)
        out = self._straight(f, args, kwargs) if name == "batch_norm" and live and not self.records else f(*args, **kwargs)
        if not live:
            return out
        if not self.records and KIND.get(name) == "weights":
            self.tags[out.grad_fn] = Call(self, f, name, "weights", args, kwargs)
        if type(out) is not Tensor:
            return self.note(out)
        self.seen.add(out.grad_fn)
        return out

    def _straight(self, f: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A BatchNorm, at the point as one with the linear operation before it: its own gradient is part of that one's weights."""
        n = Norm.of(f, args, kwargs)
        made = self.tags.pop(n.x.grad_fn, None)
        if made is None or (made.name == "linear" and n.x.ndim > 2) or n.live or any(t is not None and t.requires_grad for t in made.bound[1:]):
            return f(*args, **kwargs)
        made._native = n.x
        return Folded(made, n).straight("")

    def _light(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether an operation is linear whatever its other arguments are: there is nothing to record or to replace."""
        if KIND.get(name) == "weights":
            return not self.rules.split and not _live(args[1:]) and not _live(kwargs.values())
        if name == "batch_norm":  # a fixed scale and shift, unless it is in training
            return not (args[5] if len(args) > 5 else kwargs.get("training", False)) and not _live(args[1:]) and not _live(kwargs.values())
        return name in LIGHT

    def _heavy(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        out = super().meet(f, name, inplace, args, kwargs)
        if self._unseen or not (type(out) is Tensor and out.requires_grad):
            self._follow(name, args, kwargs, out)
        return out

    def _follow(self, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Masks and indices that depend on the point may differ at the baseline as long as no number comes of it."""
        given = tensors(args, kwargs)
        if not self.met(given):
            return
        given = [t for t in given if id(t) in self._unseen]
        made = list(tensors((out,))) or [t for t in args[:1] if isinstance(t, Tensor)]
        if given and any(t.requires_grad for t in made):
            self.same(name, given)
        for t in made:
            if t.is_floating_point() and not t.requires_grad and not name.startswith("new_") and not name.endswith("_like"):
                self.same(name, [t])
            elif not t.is_floating_point():
                self._unseen[id(t)] = t

    # -- the tape ----------------------------------------------------------------------------------------------------

    def taped(self, name: str, values: Iterable[Any]) -> list[Any] | None:
        """At the baseline: records; at the point: what the baseline had here."""
        if self.records:
            self._record(name, [a.detach() if isinstance(a, Tensor) else a for a in values])
            return None
        if not self._tape or self._tape[0][0] != name:
            raise CannotComplete(f"Rules that compare with a baseline need the same operations at both; they part ways at {name!r} in {self.place()}. Choose another baseline.")
        return self._tape.popleft()[1]

    def _record(self, name: str, held: list[Any]) -> None:
        self._tape.append((name, held))
        for i, t in enumerate(held):
            if isinstance(t, Tensor):
                self._aliases.setdefault(t.untyped_storage().data_ptr(), []).append((held, i))

    def spare(self, target: Tensor) -> None:
        """Before `target` is written on: records that share its memory get a copy of theirs."""
        if self.records:
            for held, i in self._aliases.pop(target.untyped_storage().data_ptr(), ()):
                held[i] = held[i].clone()

    def same(self, name: str, values: list[Tensor]) -> None:
        """Refuses what depends on the point, differs at the baseline, and is seen by no gradient."""
        old = self.taped(name, values)
        if old is not None and not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(values, old, strict=True)):
            told = f"Rules that compare with a baseline need masks and indices that are the same at both; those of {name!r} in {self.place()} differ."
            raise NotApplicable(f"{told} Use a method without rules, such as integrated-gradients.")

    # -- one operation -----------------------------------------------------------------------------------------------

    def _written(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """In place, and no copy made of the point's value: the rules look at it at once."""
        target, native = args[0], canonical(f)[1]
        self.spare(target)
        if KIND.get(name) != "pointwise" or not target.requires_grad or _live(args[1:]) or _live(kwargs.values()):
            return super()._written(f, name, args, kwargs)
        if self.records:
            self._record(name, [target.detach().clone(), *args[1:]])
            return self.written(f(*args, **kwargs) if native else f(*args, **kwargs, inplace=True))
        f = (getattr(torch.Tensor, name, None) or getattr(F, name)) if native else f
        return self.written(overwrite(target, self.ruled(f, name, args, kwargs)))

    def passed(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        """A linear operation. What is detached still depends on the point."""
        if inplace or name == "__setitem__":
            self.spare(args[0])
        if name == "detach" and not inplace:
            return self.note(args[0].view_as(args[0]))
        return super().passed(f, name, inplace, args, kwargs)

    def apply(self, c: Call) -> Any:
        if not c.live():
            return c.run()
        if c.kind == "weights" and c.bound[1].requires_grad:
            raise NotApplicable(f"Rules that compare with a baseline need weights that do not depend on the point; those of {c.name!r} in {self.place()} do.")
        if not self.rules.split and (c.kind == "weights" or (c.kind == "product" and len(c.live()) == 1)):
            return super().apply(c)
        if c.name == "einsum" and isinstance(c.args[1], (list, tuple)):
            c.args = [c.args[0], *c.args[1]]
        c.old = self.taped(c.name, c.args)
        return c.run() if self.records else super().apply(c)

    def _tag(self, c: Call, out: Tensor) -> None:
        """Nobody asks, and what a call was given need not stay in memory."""

    def _twin(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if fits(name, args, kwargs):
            return unrolled(self, f, name, args)
        return self.inside(TWINS[name], *args, **kwargs) if self.records else super()._twin(f, name, args, kwargs)

    def batch_norm(self, f: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        """A fixed scale and shift: linear."""
        n = Norm.of(f, args, kwargs)
        if n.training or n.live:
            return super().batch_norm(f, args, kwargs)
        return f(*args, **kwargs)

    def _unknown(self, f: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if name in WINNERS and args[0].requires_grad:
            return self.apply(Call(self, f, name, "max", args, kwargs))
        return super()._unknown(f, name, args, kwargs)

    def unruled(self, name: str, args: Any, out: Any) -> Any:
        """What sorts or picks is linear if it picks the same at both."""
        picks = [t for t in tensors((out,)) if not t.is_floating_point()]
        if name not in PICKS or not picks:
            return self.barred(out, f"There is no rule for the operation {name!r} in {self.place()} that compares with a baseline. Use a method without rules, such as integrated-gradients.")
        self.same(name, picks)
        return out


def _live(values: Iterable[Any]) -> list[Tensor]:
    """The arguments through which multipliers can leave."""
    found = []
    for a in values:
        if isinstance(a, Tensor):
            if a.requires_grad:
                found.append(a)
        elif type(a) in (tuple, list):
            found += _live(a)
    return found


def _nothing(_: Any) -> Any:
    """Saved for a backward pass that will not be."""

