"""What is made of weights is made once, and again once a weight is another."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor


class once:  # noqa: N801 - used as a decorator
    """An attribute that is worked out when it is first asked for. `functools.cached_property` takes a lock, which costs more than most of these."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make, self.name, self.__doc__ = make, make.__name__, make.__doc__

    def __get__(self, held: Any, kind: Any = None) -> Any:
        if held is None:
            return self
        made = vars(held)[self.name] = self.make(held)
        return made


class Memory:
    """Tensors made of other tensors, kept as long as those live and stay as they are."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[tuple[Any, ...], tuple[int, ...], Any]] = {}
        self._due = 256

    def __call__(self, what: str, of: Sequence[Tensor], make: Callable[[], Any]) -> Any:
        """`make()`, remembered as `what` of those tensors."""
        key, versions = (what, *map(id, of)), tuple(t._version for t in of)
        known = self._known.get(key)
        if known is not None and known[1] == versions and all(r() is t for r, t in zip(known[0], of, strict=True)):
            return known[2]
        if len(self._known) >= self._due:  # no callback tells of the dead: it would tie this in a knot that only the garbage collector undoes
            self._known = {k: v for k, v in self._known.items() if all(r() is not None for r in v[0])}
            self._due = 2 * len(self._known) + 256
        made = make()
        self._known[key] = (tuple(map(weakref.ref, of)), versions, made)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "Memory":
        return Memory()

    def __reduce__(self) -> Any:
        return Memory, ()
