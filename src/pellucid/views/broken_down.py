"""A break-down: the way from the mean answer to a row's own, in the order in which its cells were fixed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from .caption import cut
from .effects import limits as limits, target_of, title_of
from .parts import TOP, Part, Parts
from .rendered import rendered
from .scene import INK
from .waterfall import Waterfall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..effects.break_down import BrokenDown, Way


@dataclass(frozen=True)
class Ordered(Parts):
    """Parts that stand in an order of their own."""

    def strongest(self, top: int = TOP) -> list[Part]:
        """The first ones, in their order, and the others in one line."""
        first = [self.part(i) for i in range(len(self) if len(self) <= top + 1 else top)]
        rest = self.values[len(first) :]
        return first if not len(rest) else [*first, Part(f"{len(rest):,} others together", float(rest.sum()))]


def falls(found: "BrokenDown") -> list[Waterfall]:
    """A waterfall for every row."""
    return [_fall(w, target_of(found)) for w in found.ways]


def draw(found: "BrokenDown", ax: "Axes", row: int = 0) -> "Axes":
    """One of the rows that were asked about, in axes of yours, which come back."""
    return falls(found)[row].draw(ax)


def figure(found: "BrokenDown") -> Figure:
    """Every row's way, one below the other."""
    made = falls(found)
    tall = [f.height + 1.15 for f in made]
    high, wide = 0.7 + sum(tall), 9.5
    fig = Figure(figsize=(wide, high), dpi=144, facecolor="white")
    fig.text(0.35 / wide, 1 - 0.25 / high, cut(title(found), 80), size=14, weight="bold", color=INK, va="top", parse_math=False)
    y = 0.7
    for way, fall, inches in zip(found.ways, made, tall, strict=True):
        ax = fig.add_axes((2.7 / wide, 1 - (y + 0.35 + fall.height) / high, (wide - 3.2) / wide, fall.height / high))
        fall.draw(ax).set_title(cut(_name(way), 60), size=10, loc="left", weight="bold", color=INK, parse_math=False)
        y += inches
    return fig


def fragment(found: "BrokenDown") -> str:
    """The same as HTML."""
    return rendered("titled", title=title(found), parts=[(_name(w), f.html()) for w, f in zip(found.ways, falls(found), strict=True)], notes=found.notes)


def title(found: "BrokenDown") -> str:
    """What is broken down."""
    return f"{title_of(found)} of {target_of(found)}"


def _name(w: "Way") -> str:
    return f"row {w.row}" if isinstance(w.row, int) else str(w.row)


def _fall(w: "Way", target: str) -> Waterfall:
    names, held = tuple(" and ".join(s.columns) for s in w.steps), tuple(" and ".join(s.held) for s in w.steps)
    errors = np.array([s.error for s in w.steps])
    return Waterfall(Ordered(names, np.array([s.value for s in w.steps]), errors, held, w.base, w.total, "The mean answer", True, target))
