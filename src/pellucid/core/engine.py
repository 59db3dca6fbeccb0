"""The engine behind a question: chunks, roads, counting, equal rows, progress. Methods never see it.

One sweep is `n` points for each of the question's rows, streamed through the model in chunks that the planner measures.
Unit `u` of a sweep is sample `u // B` of row `u % B`.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ._ledger import Account
from .card import Needs
from .chance import seeded
from .errors import CannotComplete, ModelError, NotApplicable, PellucidError, UsageError
from .full import FullRoad, Unfit
from .model import STRANGERS, Model, Runner, arguments, call_args, stranger
from .paying import paying
from .places import Place
from .planner import Plan, Step, scarce
from .points import Points
from .progress import report
from .rows import Memory, equal_groups, row_keys
from .rules import Mode, Rules
from .suffix import SuffixRoad
from .target import Target, read_tensor
from .tree import Tree, is_float, leaves, map_leaves, refill, rows_of, take

SUFFIX_PAYS = 10
"""Rows beyond those that are recorded from which recording a prefix (two to four whole rows of work more) is worth it."""
RECORDED = 4  # rows on which a recorded prefix is tried out; the others follow in chunks


@dataclass
class Count:
    """What was spent so far."""

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)

    def chunk(self) -> int:
        """The chunk that most rows went through."""
        rows: Counter[int] = Counter()
        for s in self.steps:
            rows[s.size] += s.size
        return rows.most_common(1)[0][0] if rows else 0


class Engine:
    """Runs one question's model at one place, for one thread."""

    def __init__(self, model: Model, x: Tree, target: Target, places: tuple[Place, ...], *, seed: int, batch_size: int | Plan | None, fan: int = 1, moved: tuple[Tensor, ...] | None = None,
                 rules: Rules | None = None, against: Points | None = None) -> None:
        self.moved = moved
        self.rules, self.against = rules, against
        self.account = Account(rows_of(x) or 0)
        self.model, self.x, self.target, self.places, self.seed, self.fan = model, x, target, places, seed, fan
        self.size = rows_of(self.x) or 0
        self.read = target.reads if target.reads is None or isinstance(target.reads, Place) else Place.parse(target.reads, dict.fromkeys(i.name for i in model.layers()))
        self.slots = [i for i, v in enumerate(leaves(x)) if is_float(v) and v.ndim]
        self.count = Count()
        self.fixed = batch_size if isinstance(batch_size, int) else None if batch_size else model.chunk
        self.replay = iter(batch_size) if isinstance(batch_size, Plan) else None
        self.notes: list[str] = []
        self.resolved = False
        self.out: Tensor | None = None
        self.fx: Tensor | None = None
        self._memo = Memory()
        self._suffix: SuffixRoad | None = None
        self._hold = contextlib.ExitStack()
        self._held: Runner | None = None
        self.lender: Engine | None = None
        self._whole = rules is not None
        self.above: Engine | None = None
        """The same question at another place, which learns the outputs as well."""

    def inherit(self, parent: "Engine", rows: Tensor | None = None) -> None:
        """Goes on counting, recording and replaying where the parent does, on its shadow; with `rows`, knows those rows' outputs too."""
        self.lender = parent
        self.count, self.replay, self.notes, self.resolved = parent.count, parent.replay, parent.notes, parent.resolved
        if rows is None:
            self.target = parent.target
        elif parent.out is not None and parent.fx is not None:
            self.out, self.fx = parent.out[rows.to(parent.out.device)], parent.fx[rows.to(parent.fx.device)]

    def share(self, parent: "Engine") -> None:
        """Remembers values where the parent does: it is asked the same at the same place."""
        self._memo = parent._memo

    # -- runners ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Gives the shadows back."""
        self._suffix = self._held = None
        self._hold.close()

    def _runner(self, channels_last: bool = False, named: tuple[str, ...] | None = None) -> Runner:
        named = tuple(p.layer for p in (*self.places, self.read) if p is not None) if named is None else named
        if self.lender is not None:
            return self.lender._runner(channels_last, named)
        if self._held is None:
            with paying(self.spend):
                self._held = self._hold.enter_context(self.model.lease(self.x))
        self._held.lay(channels_last, named)
        return self._held

    @contextlib.contextmanager
    def _care(self) -> Iterator[None]:
        """The caller's random generators and inference mode, cuDNN's settings and our clock."""
        cuda = self.model.device.type == "cuda"
        flags = torch.backends.cudnn.flags(enabled=False) if cuda and self.model.has(nn.RNNBase) else contextlib.nullcontext()
        started = time.perf_counter()
        with torch.inference_mode(False), seeded(self.seed, self.model.device, alone=self.model.training), flags:
            try:
                yield
            finally:
                self.count.seconds += time.perf_counter() - started

    # -- running the model -----------------------------------------------------------------------------------------

    def _inputs(self, rows: Tensor, parts: tuple[Tensor, ...] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments for these rows, with the explained leaves replaced where the place is the input."""
        if parts is None or self.places:
            return call_args(take(self.x, rows))
        put = dict(zip(self.slots, parts, strict=True))
        flat = [put[i] if i in put else take(v, rows) for i, v in enumerate(leaves(self.x))]
        return call_args(refill(self.x, flat))

    def _forward(self, step: Step, parts: tuple[Tensor, ...] | None, rows: Tensor) -> Tensor:
        """What the target reads, of these rows, with `parts` at the place."""
        parts = tuple(_layout(p, step.channels_last) for p in parts) if parts is not None else None
        out = self._above(parts, rows)
        if out is None:
            args, kwargs = self._inputs(rows, parts)
            if step.channels_last:
                args, kwargs = map_leaves(lambda v: _layout(v, True), (args, kwargs))
            inside = self.places if parts is not None else ()
            road = FullRoad(self._runner(step.channels_last), inside, self.read)
            out = self._guard(lambda: road(args, kwargs, parts if inside and parts is not None else ()))
        self.count.forward += len(rows)
        return self._readable(out, len(rows))

    def _above(self, parts: tuple[Tensor, ...] | None, rows: Tensor) -> Any:
        """The output by the recorded prefix; None where there is none, or where it turns out not to fit these values."""
        suffix = self._suffix
        if parts is None or not self.places or suffix is None:
            return None
        self._runner()  # laid out as it was when the prefix was recorded
        try:
            return self._guard(lambda: suffix(*call_args(suffix.inputs(self.x, rows)), parts[0], rows // self.fan))
        except Unfit as why:
            self._give_up_suffix(why)
            return None

    def _give_up_suffix(self, why: BaseException) -> None:
        self._suffix, self._whole = None, True
        self.notes.append(f"the whole network was run for each point: {why}")

    def _guard(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except (PellucidError, torch.OutOfMemoryError, MemoryError, Unfit):
            raise
        except STRANGERS as e:
            if scarce(e):
                raise
            raise stranger(self.model.name, self.x, e) from e

    def _readable(self, out: Any, n: int) -> Tensor:
        tensor = read_tensor(out[0] if self.read is not None and isinstance(out, tuple) else out if self.read is not None else self.model.pick(out))
        if tensor.ndim == 0 or len(tensor) != n:
            raise ModelError(f"A target reads one row of outputs for each of {n} rows of inputs; {self.model.name} gave shape {tuple(tensor.shape)}. Mark inputs without a batch axis with pel.shared.")
        return tensor

    def _values(self, out: Tensor, rows: Tensor) -> Tensor:
        """(n,) target values, finite."""
        y = self.target.read(out, rows.to(out.device))
        if not torch.isfinite(y.detach()).all():
            bad = int(rows[int((~torch.isfinite(y.detach())).nonzero()[0, 0])])
            raise CannotComplete(f"The target needs finite outputs; {self.model.name} gave {float(y.detach()[~torch.isfinite(y.detach())][0])} for row {bad}. Check range and dtype.")
        return y

    # -- sweeps ----------------------------------------------------------------------------------------------------

    def _sweep(self, stage: str, n: int, work: Callable[[int, int, Step], None], grad: bool, how: str = "") -> None:
        shapes = tuple(tuple(t.shape[1:]) for t in leaves(self.x) if isinstance(t, Tensor) and t.ndim)
        key = (shapes, self.model.dtype, tuple(map(str, self.places)), str(self.read), grad, self._suffix is not None, self.rules and self.rules.kin(), how)
        layouts = stage != "layer" and not how and self._suffix is None and self.model.device.type != "mps" and Needs.MODULES in self.model.can and self._pictures() and self.model.has(nn.Conv2d)
        numel = max((t[0].numel() for t in leaves(self.x) if isinstance(t, Tensor) and t.ndim and len(t)), default=1)
        with self._care():
            self._runner()  # made before the clock of the planner runs
            steps = self.model.planner.run(
                key, n, work, numel=numel, layouts=layouts, device=self.model.device.type, fixed=self.fixed, replay=self.replay,
                tick=lambda done: report(stage, done, n),
            )
        self.count.steps += steps

    def _pictures(self) -> bool:
        return any(isinstance(t, Tensor) and t.ndim == 4 for t in leaves(self.x))

    def _units(self, points: Points, start: int, stop: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        u = torch.arange(start, stop)
        s, rows = u // self.size, u % self.size
        return tuple(leaves(points.make(s, rows))), s, rows

    def _settled(self) -> None:
        """The target in numbers, whatever it takes."""
        if not self.resolved:
            self.ready()

    def ready(self) -> None:
        """The target in numbers, and the outputs at the rows themselves; asked once."""
        if self.out is None:
            box: list[Tensor] = []

            def work(i: int, j: int, step: Step) -> None:
                with torch.inference_mode():
                    rows = self.fan * torch.arange(i, j)
                    box.append(self._forward(step, None if self.moved is None else take(self.moved, rows), rows).detach())

            self._sweep("model", self.size // self.fan, work, grad=False)
            self.settle(torch.cat(box).repeat_interleave(self.fan, 0))

    def settle(self, out: Tensor) -> None:
        """Fixes the target on the outputs of the question's own rows."""
        self.out = out.clone()
        if self.above is not None and self.above.out is None:
            self.above.settle(out)
        if not self.resolved:
            self.target, self.resolved = self.target.resolve(self.out, self.model.labels if self.read is None else None), True
        with torch.no_grad():
            self.fx = self._values(self.out, torch.arange(self.size)).detach()

    def value(self, points: Points) -> Tensor:
        """(n, B) target values; equal rows are asked once."""
        return self._asked("values", points, self._remembered).to(self.model.device)

    def outputs(self, points: Points) -> Tensor:
        """(n, B, ...) whole outputs, for many targets that share the forwards."""
        return self._asked("outputs", points, lambda parts, rows, step: self._forward(step, parts, rows))

    def _asked(self, stage: str, points: Points, ask: Callable[[tuple[Tensor, ...], Tensor, Step], Tensor]) -> Tensor:
        """(n, B, ...) what `ask(parts, rows, step)` gives for every unit, no gradient kept."""
        self._settled()
        self._enter_suffix(points.n * self.size)
        box: list[Tensor] = []

        def work(i: int, j: int, step: Step) -> None:
            with torch.inference_mode():
                parts, _, rows = self._units(points, i, j)
                y = ask(parts, rows, step)
            box.append(y.clone())

        self._sweep(stage, points.n * self.size, work, grad=False)
        out = torch.cat(box)
        return out.reshape(points.n, self.size, *out.shape[1:])

    def _remembered(self, parts: tuple[Tensor, ...], rows: Tensor, step: Step) -> Tensor:
        """Values of a chunk, from memory where the same row was asked before."""
        if self.model.training:
            return self._values(self._forward(step, parts, rows), rows).cpu()
        keys = row_keys(parts, rows)
        fresh = {k: i for i, k in enumerate(keys) if k not in self._memo}
        if fresh:
            pick = torch.tensor(list(fresh.values()))
            y = self._values(self._once(step, take(parts, pick) if len(fresh) < len(keys) else parts, rows[pick]), rows[pick]).cpu()
            self._memo.learn(fresh, y, keys)
        return y if len(fresh) == len(keys) else torch.tensor([self._memo[k] for k in keys], dtype=self._memo.dtype)

    def _once(self, step: Step, parts: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """Outputs of rows of which some differ only in their target: those share a forward."""
        groups = equal_groups(parts, rows // self.fan) if self.fan > 1 else None
        if groups is None:
            return self._forward(step, parts, rows)
        first, inverse, _ = groups
        return self._forward(step, take(parts, first), rows[first]).index_select(0, inverse)

    def grad(self, points: Points, fold: Callable[[tuple[Tensor, ...], Tensor, Tensor], None]) -> None:
        """Gradients of every unit, handed chunk by chunk to `fold(gradients, samples, rows)`."""
        self._need_gradient()
        self._settled()
        self._enter_suffix(points.n * self.size)

        def work(i: int, j: int, step: Step) -> None:
            parts, s, rows = self._units(points, i, j)
            start = tuple(leaves(self.against.make(s, rows))) if self.against is not None else None
            fold(self._pulled(parts, rows, step, start), s, rows)

        self._sweep("gradients", points.n * self.size, work, grad=True)

    def _need_gradient(self) -> None:
        if Needs.GRADIENT not in self.model.can:
            raise NotApplicable(f"A gradient needs a model that autograd sees through; {self.model.name} is a plain callable. Use occlusion, or pel.wrap(f, differentiable=True).")

    def _pulled(self, parts: tuple[Tensor, ...], rows: Tensor, step: Step, start: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]:
        """Gradients of one chunk; rows that differ only in their target share a forward."""
        groups = equal_groups(parts, rows // self.fan) if self.fan > 1 and start is None else None
        if groups is None:
            with self._ruled(len(rows), step, rows, start) as mode, torch.enable_grad():
                leaf = tuple(_leaf(p) for p in parts)
                y = self._met(self._forward(step, leaf, rows), rows, mode, start)
            pulled = self._pull(y.sum(), leaf, keep=False)
            self.account.enter(mode, rows, torch.arange(len(rows)))
            return pulled
        first, inverse, turn = groups
        found = tuple(torch.empty_like(p) for p in parts)
        with self._ruled(len(first), step, rows) as mode, torch.enable_grad():
            leaf = tuple(_leaf(p.index_select(0, first)) for p in parts)
            y = self._met(self._forward(step, leaf, rows[first]).index_select(0, inverse), rows, mode)
        for k in range(int(turn.max()) + 1):
            mine = (turn == k).nonzero()[:, 0]
            for f, g in zip(found, self._pull(y[mine].sum(), leaf, keep=True), strict=True):
                f[mine] = g[inverse[mine]]
            self.account.enter(mode, rows[mine], inverse[mine])
        return found

    @contextlib.contextmanager
    def _ruled(self, n: int, step: Step, rows: Tensor, start: tuple[Tensor, ...] | None = None) -> Iterator[Mode | None]:
        """One forward of `n` rows under the question's rules, if it has any; paired rules see the baseline's pass first."""
        if self.rules is None:
            yield None
            return
        mode = self.rules.mode(self._runner(step.channels_last).names, n)
        with mode:
            if start is not None:
                with mode.recording():
                    mode.before = self._forward(step, tuple(_leaf(p) for p in start), rows)
            yield mode

    def _met(self, out: Tensor, rows: Tensor, mode: Mode | None, start: tuple[Tensor, ...] | None = None, inverse: Tensor | None = None) -> Tensor:
        """Target values, whose every step the rules must have seen; paired rules see the baseline's first, which are remembered."""
        with self._settled_by(out, rows):
            if mode is not None and start is not None:
                there, mode.before = mode.before, None
                with mode.recording():
                    before = self._values(there if inverse is None else there[inverse], rows)
                self._remember(start, rows, before if inverse is None else None)
            y = self._values(out, rows)
        if mode is not None:
            mode.check([y])
        return y

    @torch.no_grad()
    def _remember(self, parts: tuple[Tensor, ...], rows: Tensor, y: Tensor | None) -> None:
        """Values that came on the way, so that nobody asks for them again."""
        if y is not None and not self.model.training:
            self._memo.learn(row_keys(parts, rows), y)

    def _pull(self, y: Tensor, to: tuple[Tensor, ...], keep: bool, twice: bool = False) -> tuple[Tensor, ...]:
        where = ", ".join(map(str, self.places)) or "the input"
        if not y.requires_grad:
            raise NotApplicable(f"A gradient needs a target that depends differentiably on {where}; this one does not (an argmax, a detach or no_grad lies between, or it is read before that place).")
        grads = torch.autograd.grad(y, to, retain_graph=keep, create_graph=twice, allow_unused=True)
        if all(g is None for g in grads):
            raise NotApplicable(f"A gradient needs a target that depends on {where}; this target does not. Choose a layer that comes before what the target reads.")
        self.count.backward += len(to[0])
        return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(grads, to, strict=True))

    # -- the point itself --------------------------------------------------------------------------------------------

    def points(self, x: Tree | None = None) -> tuple[Tensor, ...]:
        """The values at the places, for the question's rows or for others of the same number."""
        source = self.x if x is None else x
        if not self.places:
            flat = leaves(source)
            return tuple(flat[i] for i in self.slots)
        whole = x is None and self.out is None  # what comes after the places is wanted too: the same pass gives it
        box: list[tuple[Tensor, ...]] = []
        outs: list[Tensor] = []

        def work(i: int, j: int, step: Step) -> None:
            args, kwargs = call_args(take(source, self.fan * torch.arange(i, j)))
            road = FullRoad(self._runner(), self.places, self.read if whole else None)
            with torch.no_grad():
                got, out = self._guard(lambda: road.passed(args, kwargs) if whole else (road.points(args, kwargs), None))
            self.count.forward += j - i
            box.append(tuple(t.detach() for t in got))
            if whole:
                outs.append(self._readable(out, j - i).detach())

        self._sweep("layer", self.size // self.fan, work, grad=False)
        if whole:
            self.settle(torch.cat(outs).repeat_interleave(self.fan, 0))
        return tuple(torch.cat(ts).repeat_interleave(self.fan, 0) for ts in zip(*box, strict=True))

    def tap(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(values, gradients) at the places, from one forward pass of the question's own rows."""
        self._need_gradient()
        if not self.places and not self.slots:
            raise NotApplicable("The inputs hold no floating-point tensor to differentiate; explain an embedding layer (at=...).")
        points: list[tuple[Tensor, ...]] = []
        grads: list[tuple[Tensor, ...]] = []
        outs: list[Tensor] = []

        def work(i: int, j: int, step: Step) -> None:
            p, g, o = self._tapped(torch.arange(i, j), step)
            points.append(p)
            grads.append(g)
            outs.append(o)

        self._sweep("gradients", self.size, work, grad=True)
        if self.out is None:
            self.settle(torch.cat(outs))
        return tuple(torch.cat(t) for t in zip(*points, strict=True)), tuple(torch.cat(t) for t in zip(*grads, strict=True))

    def _tapped(self, rows: Tensor, step: Step) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """(values, gradients, outputs) of a chunk; copies of a row that differ in their target share its forward."""
        first, inverse, turn = self._copies(rows)
        start = tuple(leaves(self.against.make(torch.zeros_like(first), first))) if self.against is not None else None
        with self._ruled(len(first), step, first, start) as mode, torch.enable_grad():
            leaf, out = self._tap_forward(first, step)
            whole = out if self.fan == 1 else out[inverse]
            y = self._met(whole, rows, mode, start, None if self.fan == 1 else inverse)
        turns, pulls = int(turn.max()) + 1, []
        for k in range(turns):
            pulls.append(self._pull(y[turn == k].sum(), leaf, keep=k + 1 < turns))
            self.account.enter(mode, rows[turn == k], inverse[turn == k])
        if self.fan == 1:
            return tuple(t.detach().contiguous() for t in leaf), tuple(g.contiguous() for g in pulls[0]), out.detach()
        grads = tuple(torch.stack(g)[turn, inverse] for g in zip(*pulls, strict=True))
        return tuple(t.detach()[inverse] for t in leaf), grads, whole.detach()

    def _copies(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(first, inverse, turn): one row for each input, each row's input, and its turn among the copies."""
        if self.fan == 1:
            return rows, torch.arange(len(rows)), torch.zeros_like(rows)
        base, inverse = (rows // self.fan).unique(return_inverse=True)
        return base * self.fan, inverse, rows % self.fan - (rows % self.fan).min()

    def _tap_forward(self, rows: Tensor, step: Step) -> tuple[tuple[Tensor, ...], Tensor]:
        if not self.places:
            flat = leaves(self.x)
            leaf = tuple(_leaf(take(flat[i], rows)) for i in self.slots)
            return leaf, self._forward(step, leaf, rows)
        args, kwargs = map_leaves(lambda v: _layout(v, step.channels_last), call_args(take(self.x, rows)))
        road = FullRoad(self._runner(step.channels_last), self.places, self.read)
        leaf, out = self._guard(lambda: road.tap(args, kwargs))
        self.count.forward += len(rows)
        return leaf, self._readable(out, len(rows))

    @contextlib.contextmanager
    def _settled_by(self, out: Tensor, rows: Tensor) -> Iterator[None]:
        """Before the target is settled, a prediction is read off these rows' own outputs."""
        if self.resolved:
            yield
            return
        with torch.no_grad():
            labels = self.model.labels if self.read is None else None
            whole = out.detach().new_zeros(self.size, *out.shape[1:])
            whole[rows.to(out.device)] = out.detach()
            held, self.target = self.target, self.target.resolve(whole, labels)
        try:
            yield
        finally:
            self.target = held

    # -- suffix ------------------------------------------------------------------------------------------------------

    def spend(self, rows: int) -> None:
        """Rows that were run beside the sweeps."""
        self.count.forward += rows

    def _enter_suffix(self, n: int) -> None:
        """Records what lies below the layer once, where that pays; the whole forward is the road where it does not fit."""
        if self._suffix is not None or self._whole or len(self.places) != 1 or (n - self.size) // self.fan < SUFFIX_PAYS or self.model.training:
            return
        rows = self.size // self.fan
        some = lambda i, j: arguments(take(self.x, self.fan * torch.arange(i, j)))  # noqa: E731
        try:
            with self._care():
                suffix = self._guard(lambda: SuffixRoad(self._runner(), self.places[0], *some(0, min(rows, RECORDED)), self.read, self.spend))
            if rows > RECORDED:
                self._sweep("layer", rows - RECORDED, lambda i, j, step: self._guard(lambda: suffix.extend(*some(RECORDED + i, RECORDED + j))), grad=False)
            self._suffix = suffix.settle()
        except (Unfit, ModelError, UsageError, MemoryError, RuntimeError) as why:
            if not isinstance(why, (Unfit, PellucidError)) and not scarce(why):
                raise
            self._give_up_suffix(why)


def _leaf(t: Tensor) -> Tensor:
    return t.detach().clone().requires_grad_(True)


def _layout(v: Any, channels_last: bool) -> Any:
    return v.contiguous(memory_format=torch.channels_last) if channels_last and isinstance(v, Tensor) and v.ndim == 4 else v
