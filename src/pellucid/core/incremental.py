"""Windows of a convolutional network: of what a change inside a window cannot reach, nothing is computed again. Exact, and checked.

The model's own forward runs under a `TorchFunctionMode`. Local operations (convolutions, pools, activations, BatchNorm, sums) see the changed
part and as much around it as they need; what the row itself gave is known. Where the part has grown too large, or an operation looks at
everything, it is put into what is known, and the rest runs as it is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ._operations import KIND, canonical
from ._patches import ALIGNED, LARGE, Held, Slide, Starts, joined, left_pads, slide, still, writes
from .card import Needs
from .errors import ModelError
from .full import FullRoad, Unfit, or_unfit
from .model import call_args
from .planner import Step, scarce
from .points import Points
from .tree import leaves, map_leaves, refill, take

if TYPE_CHECKING:
    from .engine import Engine
    from .question import Question

FEWEST = 32
"""Windows below which nothing is tried: knowing the row, and the check, cost about four rows."""
GAIN = 1.6
"""How much cheaper it has to be by reckoning, which leaves out what a busy machine adds to many small operations."""
SLIGHT = 1e-3
"""Seconds a row, by the most its convolutions can come to, below which nothing is tried."""
PRODUCT, MOVE, CALL = 3e-11, 1e-9, 2e-5
"""Seconds that a product, a value that is moved, and an operation on one row's part take, on one core."""
EXACT = {torch.float32: 2e-5, torch.float64: 1e-11}
"""How far from the whole forward an answer may be, of the largest output."""

SLOWER = "it would not be faster"
_PLAIN = frozenset(("size", "dim", "ndimension", "numel", "nelement", "shape", "ndim", "dtype", "layout", "requires_grad", "is_floating_point", "__len__"))


class _Step:
    """One local operation on the row itself: what it was given, and what it gave."""

    def __init__(self, name: str, given: list[Any], base: Tensor, source: Tensor | None) -> None:
        self.name, self.given, self.base, self.source = name, given, base, source


class Pass(TorchFunctionMode):
    """One pass of `n` windows over one row; without `steps`, the row's own pass, which records them."""

    def __init__(self, n: int, steps: list[_Step] | None = None) -> None:
        super().__init__()
        self.n, self.known, self.steps, self.at = n, steps, steps if steps is not None else [], 0
        self.held: dict[int, tuple[Tensor, Held]] = {}
        self.spent = self.whole = 0.0
        """Seconds by reckoning, of this pass and of a plain one."""

    # -- values

    def enter(self, held: Held) -> Tensor:
        """A tensor of the value's size that stands for it: whoever reads it without being seen is told so."""
        if held.full is not None:
            return self._known(held.full, held)
        return self._known(torch.empty((self.n, *held.base.shape[1:]), dtype=held.base.dtype, device="meta"), held)

    def _known(self, t: Tensor, held: Held) -> Tensor:
        self.held[id(t)] = (t, held)
        return t

    def of(self, t: Any) -> Held | None:
        """What a tensor stands for."""
        found = self.held.get(id(t))
        return found[1] if found is not None else None

    def real(self, tree: Any) -> Any:
        """The tree with the values themselves."""
        return map_leaves(lambda t: t if (h := self.of(t)) is None else self._whole(h), tree)

    def _whole(self, h: Held) -> Tensor:
        if h.full is None:
            self.spent += MOVE * self.n * h.base.numel()
        return h.whole(self.n)

    # -- operations

    def __torch_function__(self, f: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [h for t in leaves((args, kwargs)) if isinstance(t, Tensor) and (h := self.of(t)) is not None]
        if not given:
            return self._elsewhere(f, args, kwargs)
        name, _ = canonical(f)
        if name in _PLAIN:
            return f(*args, **kwargs)
        if name in ("device", "is_cuda"):
            return f(given[0].base, *args[1:], **kwargs)
        found = self._local(name, f, args, kwargs, given)
        return self._elsewhere(f, *self.real((args, kwargs))) if found is None else found

    def _elsewhere(self, f: Any, args: Any, kwargs: Any) -> Any:
        """An operation as it is; what it costs is the same on either road."""
        out = f(*args, **kwargs)
        if isinstance(out, Tensor) and out.ndim:
            weights = [t for t in args[1:2] if isinstance(t, Tensor)] if KIND.get(canonical(f)[0]) == "weights" else []
            cost = out.numel() * (MOVE + PRODUCT * sum(w[0].numel() for w in weights))
            self.spent, self.whole = self.spent + cost, self.whole + cost
        return out

    def _local(self, name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Held]) -> Any:
        """The operation on the parts alone; None where it looks at more than what lies around."""
        first = args[0] if args else kwargs.get("input")
        if still(name, args, kwargs) and self.of(first) is given[0]:
            return first if name != "clone" else self.enter(Held(given[0].base, given[0].part, given[0].start, given[0].full if given[0].full is None else given[0].full.clone()))
        if self._aligned(name, args, kwargs, given):
            return self._beside(name, f, args, kwargs, given)
        if len(given) > 1 or self.of(first) is not given[0]:
            return None
        op = slide(name, f, args, kwargs)
        if op is not None:
            return self._slid(name, op, f, args, kwargs, given[0])
        left = left_pads(args, kwargs) if name == "pad" else None
        return None if left is None else self._moved(f, args, kwargs, given[0], left)

    def _aligned(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Held]) -> bool:
        """Whether the operation takes each position by itself, all values that have any lying alike."""
        base, n = given[0].base, base_ndim(given)
        if any(h.space != given[0].space for h in given) or n is None:
            return False
        others = [t for t in leaves((args, kwargs)) if isinstance(t, Tensor) and self.of(t) is None]
        if name == "batch_norm":
            return not _argument(args, kwargs, 5, "training", True) and len(given) == 1
        if name in ("cat", "concat"):
            return not others and _argument(args, kwargs, 1, "dim", 0) in (1, 1 - n)
        if name == "prelu":
            return len(given) == 1
        return name in ALIGNED and "out" not in kwargs and all(h.base.shape == base.shape for h in given) and all(_a_channel(t, n) for t in others)

    def _beside(self, name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Held]) -> Tensor:
        """An operation on positions by themselves."""
        onto = writes(f, args, kwargs)
        step = self._next(name, args, kwargs, lambda: (self._with(f, args, kwargs, lambda h: h.base.clone() if onto else h.base), None))
        if self.known is None or any(h.full is not None for h in given):
            new = Held(step.base, full=None if self.known is None else self._with(f, args, kwargs, self._whole))
            self._enter_cost(step.base, step.base.numel() * self.n, 0, 0)
        else:
            start, size = joined(given)
            part = self._with(f, args, kwargs, lambda h: h.cut(start, size).clone() if onto else h.cut(start, size))
            new = Held(step.base, part, start)
            self._enter_cost(step.base, part.numel(), 0, 0)
        return self._answer(new, args[0] if onto else None)

    def _slid(self, name: str, op: Slide, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], h: Held) -> Tensor:
        """A convolution or a pooling."""
        step = self._next(name, args, kwargs, lambda: (self._with(f, args, kwargs, lambda h: h.base), op.padded(h.base)))
        space = tuple(step.base.shape[2:])
        if self.known is not None and h.full is None and h.part is not None and h.start is not None and step.source is not None:
            start, size = op.reach(h.start, tuple(h.part.shape[2:]), space)
            if np.prod(size) <= LARGE * np.prod(space):
                part = op.run(self._patch(h, op, step.source, start, size))
                self._enter_cost(step.base, part.numel(), op.work, part.numel() * int(np.prod(op.stride)))
                return self._answer(Held(step.base, part, start), None)
        full = None if self.known is None else self._with(f, args, kwargs, self._whole)
        self._enter_cost(step.base, step.base.numel() * self.n, op.work, 0)
        return self._answer(Held(step.base, full=full), None)

    def _patch(self, h: Held, op: Slide, source: Tensor, start: Starts, size: tuple[int, ...]) -> Tensor:
        """The padded input from which those outputs are computed."""
        origin, room = op.reads(start, size)
        left = np.array([p for p, _ in op.pads])
        return Held(source, h.part, h.start + left).cut(origin, room)

    def _moved(self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], h: Held, left: tuple[int, ...]) -> Tensor:
        """A constant put around."""
        step = self._next("pad", args, kwargs, lambda: (self._with(f, args, kwargs, lambda h: h.base), None))
        if self.known is None or h.full is not None:
            return self._answer(Held(step.base, full=None if self.known is None else self._with(f, args, kwargs, self._whole)), None)
        return self._answer(Held(step.base, h.part, None if h.start is None else h.start + np.array(left)), None)

    # -- what all of them do

    def _next(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], make: Callable[[], tuple[Tensor, Tensor | None]]) -> _Step:
        """The step as the row itself took it; another one means that the model's code took another way."""
        given = [v for v in leaves((args, kwargs)) if self.of(v) is None]
        if self.known is None:
            self.steps.append(_Step(name, given, *make()))
            return self.steps[-1]
        if self.at >= len(self.steps) or self.steps[self.at].name != name or not _same(self.steps[self.at].given, given):
            raise Unfit("the model's operations differ between windows")
        self.at += 1
        return self.steps[self.at - 1]

    def _with(self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Callable[[Held], Tensor]) -> Tensor:
        args, kwargs = map_leaves(lambda t: t if (h := self.of(t)) is None else value(h), (args, kwargs))
        out: Tensor = f(*args, **kwargs)
        return out

    def _answer(self, new: Held, onto: Tensor | None) -> Tensor:
        if onto is None:
            return self.enter(new)
        if new.full is not None:
            self._known(new.full, new)
        return self._known(onto, new)

    def _enter_cost(self, base: Tensor, values: int, work: int, moved: int) -> None:
        """Adds what an operation costs here and on the plain road."""
        self.spent += values * (PRODUCT * work + MOVE) + MOVE * moved + CALL * self.n
        self.whole += self.n * base.numel() * (PRODUCT * work + MOVE)


def base_ndim(given: list[Held]) -> int | None:
    """The common number of axes; None where they differ or nothing lies in space."""
    n = {h.base.ndim for h in given}
    return n.pop() if len(n) == 1 and min(n) > 2 else None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, default: Any) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def _a_channel(t: Tensor, n: int) -> bool:
    """Whether a constant is the same for all windows and positions."""
    shape = (1,) * (n - t.ndim) + tuple(t.shape)
    return len(shape) == n and shape[0] == 1 and all(s == 1 for s in shape[2:])


def _same(one: list[Any], two: list[Any]) -> bool:
    return len(one) == len(two) and all(a is b or _equal(a, b) for a, b in zip(one, two, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    return bool(a == b)


# ---------------------------------------------------------------- the road


class Windows:
    """Answers for windows over a question's rows, one row after the other."""

    def __init__(self, engine: "Engine", points: Points, edges: Tensor) -> None:
        self.engine, self.points, self.edges = engine, points, edges.cpu().numpy()[:, 1:]
        self.slot = engine.slots[0]
        self.row, self.steps = -1, list[_Step]()
        self.spent = self.whole = 0.0

    @property
    def gain(self) -> float:
        """How many times cheaper this was than every window whole, by reckoning."""
        return self.whole / max(self.spent, 1e-12)

    def outputs(self, row: int, samples: Tensor) -> Tensor:
        """What the target reads for those windows over that row."""
        twice = samples.repeat(2) if len(samples) == 1 else samples  # two rows at least: what is told by their number must show
        rows = torch.full((len(twice),), row)
        if row != self.row:
            self.row, self.steps = row, self._own(row)
        part = leaves(self.points.make(twice, rows))[0]
        low, high = self.edges[twice.numpy(), :, 0], self.edges[twice.numpy(), :, 1]
        size = (high - low).max(0)
        start = np.minimum(low, np.array(part.shape[2:]) - size)
        cut = torch.stack([p[(slice(None), *(slice(a, a + s) for a, s in zip(at, size.tolist(), strict=True)))] for p, at in zip(part, start.tolist(), strict=True)])
        base = leaves(self.engine.x)[self.slot][row : row + 1]
        mode = Pass(len(twice), self.steps)
        out = self._run(mode, Held(base, cut, start), rows)
        self.spent, self.whole = self.spent + mode.spent, self.whole + mode.whole
        self.engine.spend(len(twice))
        return out[: len(samples)]

    def _own(self, row: int) -> list[_Step]:
        """The row's own pass."""
        base, mode = leaves(self.engine.x)[self.slot][row : row + 1], Pass(2)
        self._run(mode, Held(base), torch.full((2,), row))
        self.engine.spend(2)
        return mode.steps

    def _run(self, mode: Pass, held: Held, rows: Tensor) -> Tensor:
        flat = [mode.enter(held) if i == self.slot else take(v, rows) for i, v in enumerate(leaves(self.engine.x))]
        args, kwargs = call_args(refill(self.engine.x, flat))
        road = FullRoad(self.engine._runner(), (), self.engine.read)
        with or_unfit():
            with mode:
                out = road(args, kwargs, ())
            out = mode.real(out)
        return self.engine._readable(out, len(rows))

    def check(self, gain: float) -> None:
        """A few windows by both roads, once it is reckoned that this one is `gain` times cheaper."""
        n = self.points.n
        samples = torch.tensor(sorted({n // 2, n - 1}))
        got = self.outputs(0, samples)
        if self.gain < gain:
            raise Unfit(SLOWER)
        rows = torch.zeros(len(samples), dtype=torch.long)
        want = self.engine._forward(Step(len(samples)), tuple(leaves(self.points.make(samples, rows))), rows)
        size = float(want.abs().max()) if want.numel() else 0.0
        if want.dtype not in EXACT or not torch.allclose(got, want, rtol=0, atol=EXACT[want.dtype] * size + 1e-30, equal_nan=True):
            raise Unfit("the two roads differ")


def values_inside(q: "Question", points: Points, edges: Tensor, when: str) -> Tensor:
    """(n, B) target values at points that differ from the question's own only inside `edges`, (n, axes, 2): (start, stop) along every axis of a row.

    `when` "auto" takes the incremental road where it is cheaper by reckoning, "always" wherever it is exact, "never" never. One note says what was done.
    """
    engine = q.engine
    why = "asked for" if when == "never" else _hindrance(q, points, when)
    if why is None:
        engine._settled()
        windows = Windows(engine, points, edges)
        try:
            with engine._care(), torch.inference_mode():
                windows.check(GAIN if when == "auto" else 0.0)
        except (Unfit, ModelError, MemoryError, RuntimeError) as e:
            if not isinstance(e, (Unfit, ModelError)) and not scarce(e):
                raise
            why = str(e)
        else:
            return _swept(engine, windows)
    if when == "always" or why == "the two roads differ":
        engine.notes.append(f"every window ran through the whole network: {why}")
    return q.value(points)


def _hindrance(q: "Question", points: Points, when: str) -> str | None:
    """Why windows cannot be answered incrementally, as far as that can be told without asking."""
    engine = q.engine
    if engine.places or engine.fan > 1 or len(engine.slots) != 1 or Needs.MODULES not in q.model.can:
        return "the incremental road begins at one input of a network of modules"
    x = leaves(q.x)[engine.slots[0]]
    if x.ndim < 3 or x.dtype not in EXACT or q.model.training:
        return "the incremental road needs positions, single or double precision, and a network in evaluation mode"
    if when == "auto" and (points.n < FEWEST or x.device.type != "cpu" or _most(engine, x) < SLIGHT):
        return SLOWER
    return None


def _most(engine: "Engine", x: Tensor) -> float:
    """Seconds a row, were every weight of a convolution used at every position of the input."""
    weights = sum(p.numel() for m in engine._runner().names.values() for p in m._parameters.values() if p is not None and p.ndim > 2)
    return PRODUCT * weights * x[0, 0].numel()


def _swept(engine: "Engine", windows: Windows) -> Tensor:
    """All windows, row by row."""
    n, points = windows.points.n, windows.points
    box: list[Tensor] = []
    lost: list[str] = []

    def work(i: int, j: int, step: Step) -> None:
        with torch.inference_mode():
            done = []
            for row in range(i // n, (j - 1) // n + 1):
                samples = torch.arange(max(i - row * n, 0), min(j - row * n, n))
                rows = torch.full((len(samples),), row)
                done.append(engine._values(_one(samples, row, rows, step), rows).cpu())
        box.append(torch.cat(done))

    def _one(samples: Tensor, row: int, rows: Tensor, step: Step) -> Tensor:
        if not lost:
            try:
                return engine._guard(lambda: windows.outputs(row, samples))
            except Unfit as e:
                lost.append(str(e))
                engine.notes.append(f"some windows ran through the whole network: {e}")
        return engine._forward(step, tuple(leaves(points.make(samples, rows))), rows)

    engine._sweep("values", n * engine.size, work, grad=False, how="windows")
    engine.notes.append(f"only what each window reaches was computed again, {windows.gain:.1f} times cheaper by reckoning")
    return torch.cat(box).reshape(engine.size, n).T.to(engine.model.device)
