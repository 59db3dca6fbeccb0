"""Only what lies above a layer: the values below are recorded once, and answered from then on."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import UsageError
from .full import Args, FullRoad, Kwargs, Unfit, forward, index_of, or_unfit, unmet, value_at, with_value
from .model import Runner
from .places import Place
from .shadow import Handler, Stop
from .tree import Tree, has_rows, is_float, leaves, refill, rows_of, take

# ---------------------------------------------------------------- recording what lies below


class _Node:
    """One call of a layer. `out` stays None while it is unfinished: its own code runs again when the rest is replayed."""

    __slots__ = ("axes", "call", "kids", "module", "more", "out", "used")

    def __init__(self, module: nn.Module, call: int = 0) -> None:
        self.module, self.call = module, call
        self.out: Any = None
        self.kids: list[_Node] = []
        self.axes: list[tuple[int, int] | None] = []
        self.used: list[bool] = []
        self.more: list[list[Any]] = []

    def add(self, out: Any) -> None:
        """Keeps what later rows gave, as far as it is read and belongs to rows."""
        values = zip(leaves(out), self.axes, self.used, strict=True)
        self.more.append([v if used and axis is not None else None for v, axis, used in values])

    def join(self) -> None:
        """One value for all rows, in their order."""
        columns = zip(leaves(self.out), self.axes, *self.more, strict=True)
        self.out = refill(self.out, [v if axis is None or not rest or rest[0] is None else torch.cat([v, *rest], axis[0]) for v, axis, *rest in columns])
        self.more = []


class _Recording:
    """The tree of calls up to a place, with their outputs. Without an `inner` handler the pass stops there, so that nothing above writes into
    what is kept; with one it goes on, and of each output only the sizes are kept.
    """

    def __init__(self, runner: Runner, place: Place, inner: Handler | None = None) -> None:
        self.place, self.module, self.inner = place, runner.names[place.layer], inner
        self.counts: dict[int, int] = {}
        self.root = self.at = _Node(runner.module)
        self.stack = [self.root]

    def found(self) -> "_Recording":
        if self.at is self.root:
            raise UsageError(unmet(self.place, self.counts.get(id(self.module), 0)))
        return self

    def __call__(self, module: nn.Module, args: Args, kwargs: dict[str, Any]) -> Any:
        if self.at is not self.root and self.inner is not None:
            return self.inner(module, args, kwargs)
        node = _Node(module, self.counts.get(id(module), 0))
        self.counts[id(module)] = node.call + 1
        self.stack[-1].kids.append(node)
        here = module is self.module and node.call == (self.place.call or 0)
        if here and self.place.side == "input":
            self._arrive(node, (args, kwargs))
        self.stack.append(node)
        try:
            out = module._call_impl(*args, **kwargs) if self.inner is None else self.inner(module, args, kwargs)
        finally:
            self.stack.pop()
        if self.at is self.root:
            node.out, node.kids = self._kept(out), []  # frees what a finished parent hides
            if here:
                self._arrive(node, out)
        return out

    def _kept(self, tree: Any) -> Any:
        return tree if self.inner is None else sizes(tree)

    def _arrive(self, node: _Node, tree: Any) -> None:
        self.at, node.out, node.kids = node, self._kept(tree), []
        if self.inner is None:
            raise Stop

    def nodes(self) -> list[_Node]:
        return list(_walk(self.root))


def _walk(node: _Node) -> Iterator[_Node]:
    for kid in node.kids:
        yield kid
        yield from _walk(kid)


def sizes(tree: Any) -> list[torch.Size | None]:
    """How large each tensor of a tree is."""
    return [leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves(tree)]


def _axis(one: torch.Size | None, two: torch.Size | None, n: int, m: int) -> tuple[int, int] | None:
    """(axis, units a row) that grows as the rows do, from n to m; None: shared by all rows, or no tensor."""
    if one is None or one == two:
        return None
    changed = [i for i, (p, q) in enumerate(zip(one, two or (), strict=False)) if p != q]
    if two is None or len(one) != len(two) or len(changed) != 1 or one[changed[0]] % n or two[changed[0]] * n != one[changed[0]] * m:
        raise Unfit("a cached value has no batch axis")
    return changed[0], one[changed[0]] // n


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


_SIZES = frozenset((Tensor.size, Tensor.dim, Tensor.ndimension, Tensor.numel, Tensor.__len__, Tensor.shape.__get__, Tensor.ndim.__get__))  # type: ignore[attr-defined]


class _Reads(TorchFunctionMode):
    """Remembers by identity which tensors any operation was given, and which of them gave more than their size."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Tensor] = {}
        self.read: dict[int, Tensor] = {}

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note((args, kwargs or {}), function not in _SIZES)
        return function(*args, **(kwargs or {}))

    def note(self, tree: Any, read: bool = True) -> None:
        found = {id(t): t for t in leaves(tree) if isinstance(t, Tensor)}
        self.seen.update(found)
        if read:
            self.read.update(found)


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
            values = [_rows(v, a, self.rows) if used else v for v, a, used in zip(leaves(node.out), node.axes, node.used, strict=True)]
            return self._look("output", node.module, node.call, with_value(refill(node.out, values), place, self.z))
        args, kwargs = with_value((args, kwargs), place, self.z)
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
            self.read = value_at(tree, read)
            raise Stop
        return tree


class SuffixRoad:
    """The model's output when a layer answers `z[i]` for row `rows[i]` of the recorded inputs; all below the layer is cached.

    Making one costs two or three whole rows, which `spend` is told of. It compares itself with the whole forward on perturbed rows and raises
    `Unfit` where the two differ: random operations, values kept between calls, rows that see each other.
    """

    def __init__(self, shadow: Runner, place: Place, args: Args, kwargs: Kwargs, read: Place | None = None, spend: Callable[[int], None] = lambda rows: None) -> None:
        self.shadow, self.place, self.read, self.spend = shadow, place, read, spend
        self.reader = None if read is None else shadow.names[read.layer]
        self.full = FullRoad(shadow, (place,), read)
        inputs = (args, dict(kwargs))
        recorded = self._prefix(inputs)
        self.root, self.at = recorded.root, recorded.at
        self.reads_before = recorded.counts.get(id(self.reader), 0)
        self.rows = rows_of(inputs) or 1
        self.unread: frozenset[int] = frozenset()
        self._check(inputs)
        self._forget_place()

    def __call__(self, args_for_rows: Args, kwargs_for_rows: Kwargs, z: Tensor | tuple[Tensor, ...], rows: Tensor) -> Any:
        """`args_for_rows`: the inputs of those rows, which code between the layers may read; `inputs` gives them."""
        return self._run(_Replay(self, z[0] if isinstance(z, tuple) else z, rows), args_for_rows, kwargs_for_rows)

    def inputs(self, x: Tree, rows: Tensor) -> Tree:
        """Those rows of the inputs; a tensor of which the code between the layers reads no more than the size has nothing else."""
        return refill(x, [_sized(v, len(rows)) if i in self.unread else take(v, rows) for i, v in enumerate(leaves(x))])

    def _run(self, replay: _Replay, args: Args, kwargs: Kwargs) -> Any:
        with or_unfit():
            out, _ = forward(self.shadow, replay, args, kwargs)
        if not replay.arrived or (self.read is not None and replay.read is None):
            raise Unfit("the value that is read does not come after the place")
        return out if self.read is None else (replay.read,)

    # -- recording

    def extend(self, args: Args, kwargs: Kwargs) -> None:
        """Records further rows, of which only what is read above is kept; `settle` comes after the last."""
        with or_unfit():
            recorded = self._prefix((args, dict(kwargs)))
        mine, theirs = list(_walk(self.root)), recorded.nodes()
        if [n.module for n in mine] != [n.module for n in theirs]:
            raise Unfit("the calls differ between rows")
        self.rows += self._count(recorded)
        for node, other in zip(mine, theirs, strict=True):
            if node.out is not None:
                node.add(other.out)

    def settle(self) -> "SuffixRoad":
        """The road, once all rows are recorded."""
        for node in _walk(self.root):
            if node.out is not None:
                node.join()
        return self

    @torch.no_grad()
    def _prefix(self, inputs: Any) -> _Recording:
        self.spend(rows_of(inputs) or 0)
        recording = _Recording(self.shadow, self.place)
        forward(self.shadow, recording, *inputs)
        return recording.found()

    def _count(self, recorded: _Recording) -> int:
        """How many rows were recorded, by the batch axis of the layer's value."""
        i = index_of(recorded.at.out, self.place)
        axis = self.at.axes[i]
        if axis is None:
            raise Unfit("the layer's value has no batch axis")
        return leaves(recorded.at.out)[i].shape[axis[0]] // axis[1]

    def _forget_place(self) -> None:
        """The place's own value is given by whoever asks."""
        i = index_of(self.at.out, self.place)
        self.at.used = [self.place.side == "output" and k != i for k in range(len(self.at.used))]
        values = zip(leaves(self.at.out), self.at.used, strict=True)
        self.at.out = refill(self.at.out, [v if used or not isinstance(v, Tensor) else v.new_empty(0) for v, used in values])

    # -- checking

    @torch.no_grad()
    def _check(self, inputs: Any) -> None:
        """Perturbed rows by both roads; the first replay also learns which cached values, and which inputs, are read at all."""
        many = 3 if self.rows == 2 else 2  # never the recorded count: it shows which axis is the batch, and a batch size kept in a number
        rows = torch.arange(many).flip(0) % self.rows
        some = take(inputs, rows)
        self.spend(3 * many)
        z, want = self._whole(some, many)
        replay = _Replay(self, z, rows)
        replay.served = []
        with _Reads() as reads:
            reads.note(self._run(replay, *some))
        _forget(replay.served, reads.seen)
        self.unread = frozenset(i for i, v in enumerate(leaves(some)) if has_rows(v) and id(v) not in reads.read)
        args, kwargs = self.inputs(inputs, rows)
        _compare(self(args, kwargs, z, rows), want)  # by the road taken from now on

    def _whole(self, inputs: Any, many: int) -> tuple[Tensor, Any]:
        """The place's value perturbed, and what the whole forward gives for it; what it meets on its way shows each cached value's batch axis."""
        recordings: list[_Recording] = []
        box: list[Tensor] = []

        def around(inner: Handler) -> Handler:
            recordings.append(_Recording(self.shadow, self.place, inner))
            return recordings[0]

        def change(_: int, value: Tensor) -> Tensor:
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
            box.append(value * (1 + 0.1 * noise.to(value)))
            return box[0]

        args, kwargs = inputs
        want = self.full.changed(args, kwargs, change, around)
        if not box:
            raise Unfit("the value that is read does not come after the place")
        self._learn_axes(recordings[0], many)
        return box[0], want

    def _learn_axes(self, other: _Recording, many: int) -> None:
        mine, theirs = list(_walk(self.root)), other.nodes()
        if [n.module for n in mine] != [n.module for n in theirs]:
            raise Unfit("the calls differ with the batch")
        for node, twin in zip(mine, theirs, strict=True):
            if node.out is not None:
                node.axes = _axes(sizes(node.out), twin.out, self.rows, many)
                node.used = [True] * len(node.axes)


def _forget(served: list[tuple[_Node, list[Any]]], seen: dict[int, Tensor]) -> None:
    """Drops cached values nobody reads; an empty tensor in their place makes a later surprise loud."""
    for node, values in served:
        node.used = [not isinstance(v, Tensor) or id(v) in seen for v in values]
        node.out = refill(node.out, [v if u else v.new_empty(0) for v, u in zip(leaves(node.out), node.used, strict=True)])


def _axes(one: list[torch.Size | None], two: list[torch.Size | None], n: int, m: int) -> list[tuple[int, int] | None]:
    if len(one) != len(two):
        raise Unfit("a cached value differs in structure with the batch")
    return [_axis(p, q, n, m) for p, q in zip(one, two, strict=True)]


def _sized(value: Tensor, n: int) -> Tensor:
    """A tensor for `n` rows that has its size and nothing else: whoever reads it after all is told so."""
    return torch.empty((n, *value.shape[1:]), dtype=value.dtype, device="meta")


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
