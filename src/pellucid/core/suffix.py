"""Roads through a model with a layer's value replaced: the whole forward, or only what lies above the layer."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import UsageError
from .model import Runner
from .places import Place
from .shadow import Handler, Stop
from .tree import Shared, is_float, leaves, refill, rows_of, take, unshare

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]

MISFITS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What a forward raises when it meets cached values it did not expect."""


class Unfit(RuntimeError):
    """What lies above the layer cannot be run alone here; the whole forward can."""


@contextlib.contextmanager
def _or_unfit() -> Iterator[None]:
    """What goes wrong on rows or cached values that the caller never gave is no fault of the caller's."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except MISFITS as e:
        raise Unfit(str(e)) from e


def _forward(runner: Runner, handler: Handler, args: Args, kwargs: Kwargs) -> tuple[Any, bool]:
    """(output, whether the pass came to its end)."""
    if any(isinstance(leaf, Shared) for leaf in leaves((args, dict(kwargs)))):
        args, kwargs = unshare((args, dict(kwargs)))
    try:
        return runner.run(handler, args, dict(kwargs)), True
    except Stop:
        return None, False


# ---------------------------------------------------------------- reading and replacing one tensor of a tree


def _index(tree: Any, place: Place) -> int:
    """Which leaf of a layer's inputs or outputs the place means."""
    floats = [i for i, leaf in enumerate(leaves(tree)) if is_float(leaf)]
    part = place.part or 0
    if part >= len(floats):
        have = f"{len(floats)} floating-point tensor{'' if len(floats) == 1 else 's'}"
        raise UsageError(f"Layer {place.layer!r} has {have} on its {place.side} side; part {part} was asked for. Name another part or layer.")
    return floats[part]


def _get(tree: Any, place: Place) -> Tensor:
    return leaves(tree)[_index(tree, place)]


def _put(tree: Any, place: Place, z: Tensor) -> Any:
    """The tree with that one leaf replaced by a copy of `z`: the layers above may write in place, and `z` is the caller's."""
    values = leaves(tree)
    values[_index(tree, place)] = z.clone()
    return refill(tree, values)


# ---------------------------------------------------------------- one pass, watched


class _Pass:
    """One forward pass that meets some places: counts their layers' calls and hands values to `meet(i, value)`.

    `meet` answers with the value to go on with, or None to leave it; it may raise Stop.
    """

    def __init__(self, runner: Runner, places: tuple[Place, ...], meet: Any) -> None:
        self.runner, self.places, self.meet = runner, places, meet
        self.modules = [runner.names[p.layer] for p in places]
        self.counts = dict.fromkeys(map(id, self.modules), 0)
        self.met: set[int] = set()

    def __call__(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        if id(module) not in self.counts:
            return module._call_impl(*args, **kwargs)
        call = self.counts[id(module)]
        self.counts[id(module)] += 1
        here = [i for i, (p, m) in enumerate(zip(self.places, self.modules, strict=True)) if m is module and (p.call or 0) == call]
        args, kwargs = self._side("input", here, (args, kwargs))
        return self._side("output", here, module._call_impl(*args, **kwargs))

    def _side(self, side: str, here: list[int], tree: Any) -> Any:
        for i in here:
            if self.places[i].side == side:
                self.met.add(i)
                z = self.meet(i, _get(tree, self.places[i]))
                tree = tree if z is None else _put(tree, self.places[i], z)
        return tree

    def go(self, args: Args, kwargs: Kwargs) -> Any:
        out, ended = _forward(self.runner, self, args, kwargs)
        if ended:
            self._judge()
        return out

    def _judge(self) -> None:
        """After a whole pass: every place was met, and none without a number means one of several calls."""
        for i, (place, module) in enumerate(zip(self.places, self.modules, strict=True)):
            calls = self.counts[id(module)]
            if calls > 1 and place.call is None:
                raise UsageError(_which(place, calls))
            if i not in self.met:
                raise UsageError(_unmet(place, calls))
        self.runner.once.update(p.layer for p in self.places if p.call is None)


def _which(place: Place, calls: int) -> str:
    named = [repr(str(Place(place.layer, call=c))) for c in range(min(calls, 3))]
    few = " or ".join(named) if calls <= 3 else f"{', '.join(named)} ... or {str(Place(place.layer, call=calls - 1))!r}"
    return f"layer {place.layer} is called {calls} times in the forward pass; say which: {few}"


def _unmet(place: Place, calls: int) -> str:
    if not calls:
        return f"layer {place.layer} is never called in this forward pass, so it has no value; choose a layer that is used."
    return f"layer {place.layer} is called {calls} times in the forward pass, counted from 0; there is no call {place.call}."


# ---------------------------------------------------------------- the whole forward


class FullRoad:
    """The model's output (or the value at `read`) when the values at `places` are replaced, by a whole forward pass."""

    def __init__(self, shadow: Runner, places: tuple[Place, ...], read: Place | None = None) -> None:
        self.shadow, self.places, self.read = shadow, tuple(places), read
        for place in self._all():
            shadow.open(place.layer)

    def _all(self) -> tuple[Place, ...]:
        return self.places if self.read is None else (*self.places, self.read)

    def _may_stop(self) -> bool:
        """A pass may end early once one whole pass has shown that unnumbered places are called once."""
        return all(p.call is not None or p.layer in self.shadow.once for p in self._all())

    def __call__(self, args: Args, kwargs: Kwargs, z: tuple[Tensor, ...]) -> Any:
        if len(z) != len(self.places):
            raise UsageError(f"A road with {len(self.places)} places needs as many values; got {len(z)}.")
        box: list[Tensor] = []
        stop = self._may_stop()

        def meet(i: int, value: Tensor) -> Tensor | None:
            if i < len(z):
                return z[i]
            box.append(value if stop else value.clone())
            if stop:
                raise Stop
            return None

        out = _Pass(self.shadow, self._all(), meet).go(args, kwargs)
        return out if self.read is None else (box[0],)

    def tap(self, args: Args, kwargs: Kwargs) -> tuple[tuple[Tensor, ...], Any]:
        """One forward that gives the values at the places as leaves and the output (or what is read) computed from them."""
        points: dict[int, Tensor] = {}

        def meet(i: int, value: Tensor) -> Tensor:
            points[i] = value.detach().clone().requires_grad_()
            return points[i]

        return self._tapped(args, kwargs, points, meet)

    def _tapped(self, args: Args, kwargs: Kwargs, points: dict[int, Tensor], meet: Any) -> tuple[tuple[Tensor, ...], Any]:
        box: list[Tensor] = []

        def either(i: int, value: Tensor) -> Tensor | None:
            if i < len(self.places):
                return meet(i, value)
            box.append(value.clone())
            if self._may_stop() and len(points) == len(self.places):
                raise Stop
            return None

        with torch.inference_mode(False), torch.enable_grad():
            out = _Pass(self.shadow, self._all(), either).go(args, kwargs)
        return tuple(points[i] for i in range(len(self.places))), out if self.read is None else (box[0],)

    def passed(self, args: Args, kwargs: Kwargs) -> tuple[tuple[Tensor, ...], Any]:
        """The values at the places and the output (or what is read), from one forward without gradients."""
        found: dict[int, Tensor] = {}
        out = _Pass(self.shadow, self._all(), lambda i, value: found.update({i: value.detach().clone()})).go(args, kwargs)
        return tuple(found[i] for i in range(len(self.places))), out if self.read is None else (found[len(self.places)],)

    def points(self, args: Args, kwargs: Kwargs) -> tuple[Tensor, ...]:
        """The values at the places; the forward stops after the last of them."""
        found: dict[int, Tensor] = {}
        stop = self._may_stop()

        def meet(i: int, value: Tensor) -> None:
            found[i] = value.detach().clone()
            if stop and len(found) == len(self.places):
                raise Stop

        _Pass(self.shadow, self.places, meet).go(args, kwargs)
        return tuple(found[i] for i in range(len(self.places)))


# ---------------------------------------------------------------- recording what lies below


class _Node:
    """One call of a layer. `out` stays None while it is unfinished: its own code runs again when the rest is replayed."""

    __slots__ = ("axes", "call", "kids", "module", "out", "used")

    def __init__(self, module: nn.Module, call: int = 0) -> None:
        self.module, self.call = module, call
        self.out: Any = None
        self.kids: list[_Node] = []
        self.axes: list[tuple[int, int] | None] = []
        self.used: list[bool] = []


class _Recording:
    """The tree of calls up to a place, with their outputs. The pass stops there, so that nothing above writes into what is kept."""

    def __init__(self, runner: Runner, place: Place, args: Args, kwargs: Kwargs) -> None:
        self.place, self.module = place, runner.names[place.layer]
        self.counts: dict[int, int] = {}
        self.root = self.at = _Node(runner.module)
        self.stack = [self.root]
        _forward(runner, self._call, args, kwargs)
        if self.at is self.root:
            raise UsageError(_unmet(place, self.counts.get(id(self.module), 0)))

    def _call(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        node = _Node(module, self.counts.get(id(module), 0))
        self.counts[id(module)] = node.call + 1
        self.stack[-1].kids.append(node)
        here = module is self.module and node.call == (self.place.call or 0)
        if here and self.place.side == "input":
            self._arrive(node, (args, kwargs))
        self.stack.append(node)
        try:
            out = module._call_impl(*args, **kwargs)
        finally:
            self.stack.pop()
        if here:
            self._arrive(node, out)
        node.out, node.kids = out, []  # frees what a finished parent hides
        return out

    def _arrive(self, node: _Node, tree: Any) -> None:
        self.at, node.out, node.kids = node, tree, []
        raise Stop

    def nodes(self) -> list[_Node]:
        return list(_walk(self.root))


def _walk(node: _Node) -> Iterator[_Node]:
    for kid in node.kids:
        yield kid
        yield from _walk(kid)


def _axis(one: Any, two: Any) -> tuple[int, int] | None:
    """(axis, units a row) that doubles from one row to two; None: shared by all rows, or no tensor."""
    if not isinstance(one, Tensor) or one.shape == two.shape:
        return None
    changed = [i for i, (p, q) in enumerate(zip(one.shape, two.shape, strict=False)) if p != q]
    if one.ndim != two.ndim or len(changed) != 1 or two.shape[changed[0]] != 2 * one.shape[changed[0]]:
        raise Unfit("a cached value has no batch axis")
    return changed[0], one.shape[changed[0]]


def _rows(value: Any, axis: tuple[int, int] | None, rows: Tensor) -> Any:
    """Those rows of a cached value, as a copy: what runs above may write in place."""
    if not isinstance(value, Tensor):
        return value
    if axis is None:
        return value.clone()
    d, units = axis
    rows = rows.to(value.device)
    if units == 1:
        return value.index_select(d, rows)
    return value.unflatten(d, (-1, units)).index_select(d, rows).flatten(d, d + 1)


# ---------------------------------------------------------------- only what lies above


class _Reads(TorchFunctionMode):
    """Remembers by identity which tensors any operation was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Tensor] = {}

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note((args, kwargs or {}))
        return function(*args, **(kwargs or {}))

    def note(self, tree: Any) -> None:
        self.seen.update({id(t): t for t in leaves(tree) if isinstance(t, Tensor)})


class _Replay:
    """One pass in which finished calls answer from the recording, the place answers `z`, and the rest runs."""

    def __init__(self, road: "SuffixRoad", z: Tensor, rows: Tensor) -> None:
        self.road, self.z, self.rows = road, z, rows
        self.stack, self.position = [road.root], [0]
        self.arrived = False
        self.read: Tensor | None = None
        self.reads = road.reads_before
        self.served: list[tuple[_Node, list[Any]]] | None = None

    def __call__(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        return self._live(module, args, kwargs) if self.arrived else self._below(module, args, kwargs)

    def _below(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        parent, i = self.stack[-1], self.position[-1]
        if i >= len(parent.kids) or parent.kids[i].module is not module:
            raise Unfit("the order of calls changed")
        node, self.position[-1] = parent.kids[i], i + 1
        if node is self.road.at:
            return self._at(node, args, kwargs)
        if node.out is not None:
            return self._cached(node)
        return self._parent(node, args, kwargs)

    def _cached(self, node: _Node) -> Any:
        values = [_rows(v, a, self.rows) if used else v for v, a, used in zip(leaves(node.out), node.axes, node.used, strict=True)]
        if self.served is not None:
            self.served.append((node, values))
        return refill(node.out, values)

    def _parent(self, node: _Node, args: Args, kwargs: dict[str, Any]) -> Any:
        self.stack.append(node)
        self.position.append(0)
        try:
            out = node.module._call_impl(*args, **kwargs)
        finally:
            self.stack.pop()
            self.position.pop()
        return self._look("output", node.module, node.call, out)

    def _at(self, node: _Node, args: Args, kwargs: dict[str, Any]) -> Any:
        place = self.road.place
        self.arrived = True
        if self.road.read is None:
            self.road.shadow.handler = None  # all that follows is a plain call
        if place.side == "output":
            values = [_rows(v, a, self.rows) for v, a in zip(leaves(node.out), node.axes, strict=True)]
            return self._look("output", node.module, node.call, _put(refill(node.out, values), place, self.z))
        args, kwargs = _put((args, kwargs), place, self.z)
        return self._run(node.module, node.call, args, kwargs)

    def _live(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        call = -1
        if module is self.road.reader:
            call, self.reads = self.reads, self.reads + 1
        return self._run(module, call, args, kwargs)

    def _run(self, module: nn.Module, call: int, args: Args, kwargs: dict[str, Any]) -> Any:
        self._look("input", module, call, (args, kwargs))
        return self._look("output", module, call, module._call_impl(*args, **kwargs))

    def _look(self, side: str, module: nn.Module, call: int, tree: Any) -> Any:
        read = self.road.read
        if read is not None and module is self.road.reader and side == read.side and call == (read.call or 0):
            self.read = _get(tree, read)
            raise Stop
        return tree


class SuffixRoad:
    """The model's output when a layer answers `z[i]` for row `rows[i]` of the recorded inputs; all below the layer is cached.

    Making one costs two to four whole rows, which `spend` is told of. It compares itself with the whole forward on perturbed rows and raises
    `Unfit` where the two differ: random operations, values kept between calls, rows that see each other.
    """

    def __init__(self, shadow: Runner, place: Place, args: Args, kwargs: Kwargs, read: Place | None = None, spend: Callable[[int], None] = lambda rows: None) -> None:
        self.shadow, self.place, self.read, self.spend = shadow, place, read, spend
        self.reader = None if read is None else shadow.names[read.layer]
        self.full = FullRoad(shadow, (place,), read)
        inputs = (args, dict(kwargs))
        recorded = self._record(inputs)
        self.root, self.at = recorded.root, recorded.at
        self.reads_before = recorded.counts.get(id(self.reader), 0)
        self.rows = self._count(recorded)
        self._check(inputs)

    def __call__(self, args_for_rows: Args, kwargs_for_rows: Kwargs, z: Tensor | tuple[Tensor, ...], rows: Tensor) -> Any:
        """`args_for_rows`: the inputs of those rows, which code between the layers may read; an expanded view will do."""
        return self._run(_Replay(self, z[0] if isinstance(z, tuple) else z, rows), args_for_rows, kwargs_for_rows)

    def _run(self, replay: _Replay, args: Args, kwargs: Kwargs) -> Any:
        with _or_unfit():
            out, _ = _forward(self.shadow, replay, args, kwargs)
        if not replay.arrived or (self.read is not None and replay.read is None):
            raise Unfit("the value that is read does not come after the place")
        return out if self.read is None else (replay.read,)

    # -- recording

    @torch.no_grad()
    def _record(self, inputs: Any) -> _Recording:
        """Records the rows themselves, and one and two rows beside them to learn which axis of each value is the batch."""
        whole = self._prefix(inputs)
        with _or_unfit():
            one, two = (self._prefix(take(inputs, torch.zeros(n, dtype=torch.long))) for n in (1, 2))
        lists = [r.nodes() for r in (one, two, whole)]
        if not [n.module for n in lists[0]] == [n.module for n in lists[1]] == [n.module for n in lists[2]]:
            raise Unfit("the calls differ with the batch")
        for p, q, node in zip(*lists, strict=True):
            if node.out is not None:
                node.axes = _axes(p.out, q.out, node.out)
                node.used = [True] * len(node.axes)
        return whole

    def _prefix(self, inputs: Any) -> _Recording:
        self.spend(rows_of(inputs) or 0)
        return _Recording(self.shadow, self.place, *inputs)

    def _count(self, recorded: _Recording) -> int:
        """How many rows were recorded, by the batch axis of the layer's value."""
        i = _index(recorded.at.out, self.place)
        axis = recorded.at.axes[i]
        if axis is None:
            raise Unfit("the layer's value has no batch axis")
        return leaves(recorded.at.out)[i].shape[axis[0]] // axis[1]

    # -- checking

    @torch.no_grad()
    def _check(self, inputs: Any) -> None:
        """Perturbed rows by both roads; the first replay also learns which cached values are read at all."""
        many = 3 if self.rows == 2 else 2  # never the recorded count: a batch size kept in a number must show
        rows = torch.arange(many).flip(0) % self.rows
        args, kwargs = take(inputs, rows)
        z = self._perturbed(rows)
        self.spend(3 * many)
        want = self.full(args, kwargs, (z,))
        replay = _Replay(self, z, rows)
        replay.served = []
        with _Reads() as reads:
            reads.note(self._run(replay, args, kwargs))
        _forget(replay.served, reads.seen)
        _compare(self(args, kwargs, z, rows), want)  # by the road taken from now on

    def _perturbed(self, rows: Tensor) -> Tensor:
        i = _index(self.at.out, self.place)
        z = _rows(leaves(self.at.out)[i], self.at.axes[i], rows)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        return z * (1 + 0.1 * noise.to(z))


def _forget(served: list[tuple[_Node, list[Any]]], seen: dict[int, Tensor]) -> None:
    """Drops cached values nobody reads; an empty tensor in their place makes a later surprise loud."""
    for node, values in served:
        node.used = [not isinstance(v, Tensor) or id(v) in seen for v in values]
        node.out = refill(node.out, [v if u else v.new_empty(0) for v, u in zip(leaves(node.out), node.used, strict=True)])


def _axes(one: Any, two: Any, many: Any) -> list[tuple[int, int] | None]:
    trees = [leaves(t) for t in (one, two, many)]
    if len({len(t) for t in trees}) != 1:
        raise Unfit("a cached value differs in structure with the batch")
    return [_axis(p, q) for p, q, _ in zip(*trees, strict=True)]


def _compare(got: Any, want: Any) -> None:
    got, want = leaves(got), leaves(want)
    if len(got) != len(want):
        raise Unfit("the two roads give different structures")
    for g, w in zip(got, want, strict=True):
        if is_float(w) and not _close(g, w):
            raise Unfit("the two roads differ")


def _close(g: Tensor, w: Tensor) -> bool:
    """Equal up to the rounding of another kernel choice."""
    if g.shape != w.shape:
        return False
    if not w.numel():
        return True
    size = w.nan_to_num(0, 0, 0).abs().max()
    return torch.allclose(g, w, rtol=0, atol=float(size) * (2e-2 if w.dtype.itemsize == 2 else 1e-4) + 1e-30, equal_nan=True)
