"""Which views show an explanation: those that its players, columns and rows ask for, or the one that is named."""

from typing import TYPE_CHECKING

from ..core.errors import UnknownName
from .bar import Bar
from .beeswarm import FEWEST, Beeswarm, shared
from .force import Force
from .map import Map
from .network import Network
from .overlay import Overlay
from .parts import Parts, is_text, parts
from .scene import Scene
from .tint import Tint
from .waterfall import Waterfall

if TYPE_CHECKING:
    from ..core.explanation import Explanation

KINDS: dict[str, type[Scene]] = {c.kind: c for c in (Bar, Beeswarm, Force, Map, Network, Overlay, Tint, Waterfall)}
"""Every view by its name; "auto" chooses among them."""


def scenes(e: "Explanation", row: int | None = None, kind: str = "auto") -> list[Scene]:
    """What shows a row, from top to bottom; all rows at once where none is named and they are many rows of one table."""
    if kind != "auto":
        if kind not in KINDS:
            raise UnknownName("kind of view", kind, ["auto", *KINDS])
        return [KINDS[kind].of(e, row or 0)]
    if row is None and (swarm := all_rows(e)):
        return [swarm]
    return _of_row(e, row or 0)


def all_rows(e: "Explanation") -> Beeswarm | None:
    """All rows in one view, where they are many and share their columns; None elsewhere."""
    if len(e) < FEWEST:
        return None
    if e.players is not None:
        alike = shared(e) and len(e.players.names[0]) > 1
        return Beeswarm.of(e) if alike and Overlay.maybe(e) is None and not e.has_map and not is_text(e) else None
    table = hasattr(e.values, "ndim") and e.values.ndim == 2 and e.values.shape[1] > 1 and e.signed
    return Beeswarm.of(e) if table else None


def _of_row(e: "Explanation", row: int) -> list[Scene]:
    if e.players is None:
        return [*Map.every(e, row), *(s for own in parts(e, row) for s in _listed(own))]
    (own,) = parts(e, row)
    pairs = [Network.of(e, row)] if own.pairs is not None and len(own) > 1 else []
    overlay = Overlay.maybe(e, row)
    if overlay is not None:
        return [overlay, Bar(own, badges=True), *pairs]
    if is_text(e):
        return [Tint.of(e, row), Bar(own), *pairs]
    if e.has_map:
        return [*Map.every(e, row), *([Bar(own)] if len(own) <= 1_000 else []), *pairs]
    return [*_listed(own), *pairs]


def _listed(own: Parts) -> list[Scene]:
    """A waterfall where the values lead from the base to the answer, and bars, each by itself."""
    falls = [Waterfall(own)] if own.signed and len(own) > 1 and own.adds_up else []
    return [*falls, Bar(own)]
