"""The players of a picture over the picture: coloured by what each was worth, the strongest outlined and numbered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ..core.errors import NotApplicable
from .bar import BADGES, mark
from .caption import Caption, caption, short_target
from .map import panel_draw, panel_html
from .panels import Panel, regions
from .parts import parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

MANY = 1_000
"""Up to how many players are regions to outline; beyond, a picture of them is a map of pixels."""


@dataclass(frozen=True)
class Overlay:
    """Which regions of the picture speak for the answer, and which against it?"""

    panel: Panel
    words: Caption
    kind: ClassVar[str] = "overlay"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        found = cls.maybe(e, row)
        if found is None:
            raise NotApplicable('kind="overlay" needs players that are regions of a picture; this explanation has none. Leave kind out to see what it has.')
        return found

    @classmethod
    def maybe(cls, e: "Explanation", row: int = 0) -> Self | None:
        """The view of a row, None where its players are no regions of a picture."""
        if e.players is None or len(e.players.names[row]) > MANY:
            return None
        (own,) = parts(e, row)
        shown = [i for i in own.order()[:BADGES] if own.values[i]]
        panel = regions(e, row, own, tuple((i, mark(k, float(own.values[i]))) for k, i in enumerate(shown)))
        return None if panel is None else cls(panel, caption(e, row))

    @property
    def indent(self) -> float:
        return 0.0

    @property
    def height(self) -> float:
        return 4.4

    def html(self, side: int = 512) -> str:
        return panel_html(self.panel, self.words, side)

    def draw(self, ax: "Axes") -> "Axes":
        return panel_draw(ax, self.panel, short_target(self.words.target))
