"""A bar for every part, the weightiest first, with its standard error."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from .caption import measured
from .parts import Part, Parts
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, colour, lines, only_parts, tone, whisker, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

BADGES = 5
"""The parts that carry their number also on the picture."""


@dataclass(frozen=True)
class Bar:
    """What was each part worth, and how surely?"""

    parts: Parts
    badges: bool = False
    kind: ClassVar[str] = "bar"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        return cls(only_parts(e, row, cls.kind))

    @property
    def indent(self) -> float:
        return 2.2

    @property
    def height(self) -> float:
        return 0.28 * len(self.shown) + 0.15

    @property
    def shown(self) -> list[Part]:
        """The lines, from the top."""
        return self.parts.strongest()

    def html(self, side: int = 512) -> str:
        signed, (low, high) = self.parts.signed, self.reach()

        def x(v: float) -> float:
            return (v - low) / (high - low) * 100

        rows = [{
            "name": p.told, "value": measured(p.value, p.error, signed), "tone": tone(p.value, signed), "x": f"{min(x(0), x(p.value)):.2f}", "width": f"{abs(x(p.value) - x(0)):.2f}",
            "whisker": [f"{x(p.value + k * p.error):.2f}" for k in (-1, 1)] if p.error else None, "badge": self.badge(i, p), "alone": p.number >= 0,
        } for i, p in enumerate(self.shown)]  # fmt: skip
        return rendered("bar", rows=rows, signed=signed, target=self.parts.target, zero=f"{x(0):.2f}", errors=self.parts.error is not None, note=self.parts.note)

    def draw(self, ax: "Axes") -> "Axes":
        shown, signed, (low, high) = self.shown, self.parts.signed, self.reach()
        lines(ax, [f"{b}  {p.short(LETTERS - 4)}" if (b := self.badge(i, p)) else p.short(LETTERS) for i, p in enumerate(shown)])
        for y, p in enumerate(shown):
            if p.number < 0:
                words(ax, 0.02 * (high - low), y, measured(p.value, None, signed), color=MUTED)
                continue
            ax.barh(y, p.value, color=colour(p.value, signed), height=0.66)
            whisker(ax, p.value, y, p.error)
            end = p.value + (-1 if p.value < 0 else 1) * ((p.error or 0.0) + (high - low) * 0.012)
            words(ax, end, y, measured(p.value, p.error, signed), ha="right" if p.value < 0 else "left")
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_xlim(*_limits(low, high))
        ends = f"lowers {self.parts.target}  ←  0  →  raises {self.parts.target}" if signed else f"size of its part in {self.parts.target}"
        ax.set_xlabel(ends + (";  whiskers: ± 1 standard error" if self.parts.error is not None else ""), size=8, color=MUTED, parse_math=False)
        return ax

    def reach(self) -> tuple[float, float]:
        """The least and the most that a bar with its whisker goes to, zero among them. The others together are no bar: they would dwarf the rest."""
        alone = [p for p in self.shown if p.number >= 0]
        low, high = min([0.0, *(p.value - (p.error or 0.0) for p in alone)]), max([0.0, *(p.value + (p.error or 0.0) for p in alone)])
        return (low, high) if high > low else (0.0, 1.0)

    def badge(self, i: int, p: Part) -> str:
        """The mark that a part carries on the picture, "" where it carries none."""
        return mark(i, p.value) if self.badges and i < BADGES and p.number >= 0 and p.value else ""


def mark(i: int, value: float) -> str:
    """ "▲1", "▼2": whether it raises or lowers, and its place in the list."""
    return f"{'▼' if value < 0 else '▲'}{i + 1}"


def _limits(low: float, high: float, text: float = 0.21) -> tuple[float, float]:
    """Of the axis: as far as the bars go each way, and a fifth of the whole for the numbers beyond them."""
    room = text * (high - low) / (1 - text * ((low < 0) + (high > 0)))
    return low - room if low else 0.0, high + room if high else 0.0
