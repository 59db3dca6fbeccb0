"""How long work says how far it is, and how it is stopped: one callback, for a terminal, a notebook or an app."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One step of long work: what is being done, and how many of how many rows are."""

    stage: str
    done: int
    total: int


Watcher = Callable[[Progress], None]
_watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("pellucid_watcher", default=None)


@contextlib.contextmanager
def watching(watcher: Watcher | None) -> Iterator[None]:
    """Sends progress to `watcher` inside the block. A watcher stops the work by raising `Cancelled`."""
    token = _watcher.set(watcher if watcher is not None else _watcher.get())
    try:
        yield
    finally:
        _watcher.reset(token)


def report(stage: str, done: int, total: int) -> None:
    """Tells whoever watches; called between chunks."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(Progress(stage, done, total))
