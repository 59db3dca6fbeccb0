"""On whose account are rows that a model runs to look at itself: to list its layers, to see what can be folded?"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

Spend = Callable[[int], None]
_spend: contextvars.ContextVar[Spend | None] = contextvars.ContextVar("pellucid_spend", default=None)


@contextlib.contextmanager
def paying(spend: Spend) -> Iterator[None]:
    """Tells `spend` of every such row inside the block."""
    token = _spend.set(spend)
    try:
        yield
    finally:
        _spend.reset(token)


def pay(rows: int) -> None:
    """Rows that are about to be run; nobody's where no question is being answered."""
    spend = _spend.get()
    if spend is not None:
        spend(rows)
