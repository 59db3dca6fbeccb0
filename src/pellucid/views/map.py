"""A map over the picture that the model was shown, or a matrix: every value a colour."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..core.errors import NotApplicable
from . import paint
from .caption import Caption, caption, number, short_target
from .evidence import ends, legend
from .panels import Panel, panels
from .rendered import rendered
from .scene import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation


@dataclass(frozen=True)
class Map:
    """Where in the input does the answer come from?"""

    panel: Panel
    words: Caption
    kind: ClassVar[str] = "map"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        found = cls.every(e, row)
        if len(found) != 1:
            raise NotApplicable(f'kind="map" needs values on a grid, one map a row; this explanation by {e.method} has {len(found) or "none"}. Leave kind out to see what it has.')
        return found[0]

    @classmethod
    def every(cls, e: "Explanation", row: int = 0) -> list[Self]:
        """The maps of one row: one for every input that has values on a grid."""
        return [cls(p, caption(e, row)) for p in panels(e, row)]

    @property
    def indent(self) -> float:
        return 0.45

    @property
    def height(self) -> float:
        return 4.4

    def html(self, side: int = 512) -> str:
        return panel_html(self.panel, self.words, side)

    def draw(self, ax: "Axes") -> "Axes":
        return panel_draw(ax, self.panel, short_target(self.words.target))


def panel_html(panel: Panel, words: Caption, side: int) -> str:
    """Picture and map side by side, with the colour bar and how to read them."""
    target = short_target(words.target)
    low, high = ends(panel, target)
    outlines = paint.outlines(panel)
    height, width = (panel.picture if panel.picture is not None else panel.heat).shape[:2]
    told: dict[str, Any] = {
        "kind": panel.kind, "legend": legend(panel, bool(outlines)), "low": low, "high": high, "signed": panel.scale.signed, "axes": panel.axes, "height": height, "width": width,
        "from": number(panel.scale.low), "to": number(panel.scale.high), "bar": paint.uri(paint.bar(panel.scale)), "map": paint.uri(paint.overlay(panel), side),
        "small": max(height, width) < 128, "outlines": [paint.scaled(o, max(height, width)) for o in outlines], "picture": paint.uri(panel.picture, side) if panel.picture is not None else "",
    }  # fmt: skip
    return rendered("panel", p=told, words=words)


def panel_draw(ax: "Axes", panel: Panel, target: str) -> "Axes":
    """The map alone in axes of yours: the colours' ends below it."""
    height, width = panel.heat.shape if panel.picture is None else panel.picture.shape[:2]
    ax.imshow(paint.overlay(panel), extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
    for found in paint.outlines(panel):
        outline(ax, found)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    low, high = ends(panel, target)
    ax.set_xlabel(f"{low}  {number(panel.scale.low)} … {number(panel.scale.high)}  {high}", size=8, color=MUTED, parse_math=False)
    return ax


def outline(ax: "Axes", found: paint.Outline) -> None:
    """A closed line, solid where it raises and dashed where it lowers, and its mark."""
    for line in found.lines:
        for width, colour in ((2.6, "white"), (1.2, INK)):
            ax.plot(line[:, 0], line[:, 1], color=colour, lw=width, ls="-" if found.raises else (0, (3, 2)))
    disc = {"boxstyle": "circle,pad=0.1" if len(found.mark) == 1 else "circle,pad=0.16", "fc": "white", "ec": INK, "lw": 0.8}
    ax.text(*found.peak, found.mark, size=11 if len(found.mark) == 1 else 8.5, weight="bold", ha="center", va="center", color=INK, bbox=disc)
