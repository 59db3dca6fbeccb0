"""Any callable on tensors as a model: values only, nothing is known of its inside."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.card import Needs
from ..core.model import Function, Model, Runner
from ..core.tree import Tree


class _Bare:
    """Runs a plain function; there are no layers to handle."""

    names: Mapping[str, Any] = {}

    def __init__(self, function: Function) -> None:
        self.module, self.once = function, set[str]()

    def run(self, handler: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self.module(*args, **kwargs)

    def open(self, layer: str) -> None:
        """A function has no inside to open."""

    def lay(self, channels_last: bool, named: Sequence[str] = ()) -> None:
        """A function has no weights to lay."""


class FunctionModel(Model):
    """A callable. `differentiable=True` says that autograd sees through it."""

    def __init__(self, function: Function, differentiable: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.function = function
        self.can = Needs.VALUE | Needs.GRADIENT if differentiable else Needs.VALUE

    @contextlib.contextmanager
    def lease(self, x: Tree | None = None) -> Iterator[Runner]:
        yield _Bare(self.function)  # type: ignore[misc]
