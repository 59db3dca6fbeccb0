"""The whole forward through a model with a layer's value read or replaced."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UsageError
from .model import Runner
from .places import Place
from .shadow import Handler, Stop
from .tree import Shared, is_float, leaves, refill, unshare

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]

MISFITS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What a forward raises when it meets cached values it did not expect."""


class Unfit(RuntimeError):
    """What lies above the layer cannot be run alone here; the whole forward can."""


@contextlib.contextmanager
def or_unfit() -> Iterator[None]:
    """What goes wrong on rows or cached values that the caller never gave is no fault of the caller's."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except MISFITS as e:
        raise Unfit(str(e)) from e


def forward(runner: Runner, handler: Handler, args: Args, kwargs: Kwargs) -> tuple[Any, bool]:
    """(output, whether the pass came to its end)."""
    if any(isinstance(leaf, Shared) for leaf in leaves((args, dict(kwargs)))):
        args, kwargs = unshare((args, dict(kwargs)))
    try:
        return runner.run(handler, args, dict(kwargs)), True
    except Stop:
        return None, False


# ---------------------------------------------------------------- reading and replacing one tensor of a tree


def index_of(tree: Any, place: Place) -> int:
    """Which leaf of a layer's inputs or outputs the place means."""
    floats = [i for i, leaf in enumerate(leaves(tree)) if is_float(leaf)]
    part = place.part or 0
    if part >= len(floats):
        have = f"{len(floats)} floating-point tensor{'' if len(floats) == 1 else 's'}"
        raise UsageError(f"Layer {place.layer!r} has {have} on its {place.side} side; part {part} was asked for. Name another part or layer.")
    return floats[part]


def value_at(tree: Any, place: Place) -> Tensor:
    """The tensor that the place means."""
    return leaves(tree)[index_of(tree, place)]


def with_value(tree: Any, place: Place, z: Tensor) -> Any:
    """The tree with that one leaf replaced by a copy of `z`: the layers above may write in place, and `z` is the caller's."""
    values = leaves(tree)
    values[index_of(tree, place)] = z.clone()
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
                z = self.meet(i, value_at(tree, self.places[i]))
                tree = tree if z is None else with_value(tree, self.places[i], z)
        return tree

    def go(self, args: Args, kwargs: Kwargs, around: Callable[[Handler], Handler] | None = None) -> Any:
        out, ended = forward(self.runner, self if around is None else around(self), args, kwargs)
        if ended:
            self._judge()
        return out

    def _judge(self) -> None:
        """After a whole pass: every place was met, and none without a number means one of several calls."""
        for i, (place, module) in enumerate(zip(self.places, self.modules, strict=True)):
            calls = self.counts[id(module)]
            if calls > 1 and place.call is None:
                raise UsageError(which(place, calls))
            if i not in self.met:
                raise UsageError(unmet(place, calls))
        self.runner.once.update(p.layer for p in self.places if p.call is None)


def which(place: Place, calls: int) -> str:
    """What to write where a layer is called several times."""
    named = [repr(str(Place(place.layer, call=c))) for c in range(min(calls, 3))]
    few = " or ".join(named) if calls <= 3 else f"{', '.join(named)} ... or {str(Place(place.layer, call=calls - 1))!r}"
    return f"layer {place.layer} is called {calls} times in the forward pass; say which: {few}"


def unmet(place: Place, calls: int) -> str:
    """Why a place has no value."""
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
        return self.changed(args, kwargs, lambda i, value: z[i])

    def changed(self, args: Args, kwargs: Kwargs, change: Callable[[int, Tensor], Tensor], around: Callable[[Handler], Handler] | None = None) -> Any:
        """The same where `change(i, value)` says what stands at each place; `around` puts a handler round the pass's own, which it calls, and sees a whole pass."""
        box: list[Tensor] = []
        stop = around is None and self._may_stop()

        def meet(i: int, value: Tensor) -> Tensor | None:
            if i < len(self.places):
                return change(i, value)
            box.append(value if stop else value.clone())
            if stop:
                raise Stop
            return None

        out = _Pass(self.shadow, self._all(), meet).go(args, kwargs, around)
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
