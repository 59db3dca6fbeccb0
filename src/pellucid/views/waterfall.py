"""From the base to the answer, one part after the other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ..core.errors import NotApplicable
from .caption import cut, measured, number
from .parts import Part, Parts
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, RULE, colour, lines, only_parts, tone, whisker, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

TIP = 0.012
"""An arrow's tip, as a share of the whole width."""


@dataclass(frozen=True)
class Step:
    """One line: a part, where the sum stood before it and after it."""

    part: Part
    before: float
    after: float


@dataclass(frozen=True)
class Waterfall:
    """How do the parts lead from the base to the answer?"""

    parts: Parts
    kind: ClassVar[str] = "waterfall"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        found = only_parts(e, row, cls.kind)
        if found.base is None:
            raise NotApplicable(f'kind="waterfall" needs a method that says what the model answers with nothing there; {e.method} does not. Take kind="bar".')
        return cls(found)

    @property
    def indent(self) -> float:
        return 2.2

    @property
    def height(self) -> float:
        return 0.28 * (len(self.steps()) + 2) + 0.15

    def steps(self) -> list[Step]:
        """The parts in the order of their weight; at the end what they leave open, if anything."""
        at, out = self.parts.base or 0.0, []
        for p in [*self.parts.strongest(), *self.open()]:
            out.append(Step(p, at, at + p.value))
            at += p.value
        return out

    def open(self) -> list[Part]:
        """What the values do not account for, where that can be seen."""
        gap = self.parts.gap or 0.0
        return [Part("Not accounted for", gap)] if abs(gap) > 0.005 * (float(abs(self.parts.values).max(initial=0.0)) or 1.0) else []

    def span(self) -> tuple[float, float]:
        """The values' least and most, with room."""
        ends = [v + s * (step.part.error or 0.0) for step in self.steps() for v in (step.before, step.after) for s in (-1, 1)]
        ends += [self.parts.base or 0.0, self.parts.total or 0.0]
        low, high = min(ends), max(ends)
        room = 0.03 * (high - low) or 0.5
        return low - room, high + room

    def html(self, side: int = 512) -> str:
        low, high = self.span()
        steps = self.steps()

        def x(v: float) -> float:
            return (v - low) / (high - low) * 100

        rows = [{
            "name": s.part.told, "value": measured(s.part.value, s.part.error), "tone": tone(s.part.value), "shape": outline(arrow(x(s.before), x(s.after), 2.2, 7.8, 100 * TIP)),
            "before": f"{x(s.before):.2f}", "after": f"{x(s.after):.2f}", "whisker": [f"{x(s.after + k * s.part.error):.2f}" for k in (-1, 1)] if s.part.error else None,
        } for s in steps]  # fmt: skip
        ends = [(self.parts.start, self.parts.base or 0.0), (f"The answer: {self.parts.target}", self.parts.total or 0.0)]
        first, last = ({"name": name, "value": number(v, 4), "x": f"{x(v):.2f}"} for name, v in ends)
        return rendered("waterfall", rows=rows, first=first, last=last, target=self.parts.target, note=self.parts.note, errors=self.parts.error is not None)

    def draw(self, ax: "Axes") -> "Axes":
        steps, (low, high) = self.steps(), self.span()
        lines(ax, [cut(self.parts.start, LETTERS), *(s.part.short(LETTERS) for s in steps), cut(f"The answer: {self.parts.target}", LETTERS)])
        wide = high - low
        for y, s in enumerate(steps, 1):
            ax.fill(*zip(*arrow(s.before, s.after, y - 0.33, y + 0.33, TIP * wide), strict=True), color=colour(s.part.value), lw=0)
            whisker(ax, s.after, y, s.part.error)
            ax.plot([s.after, s.after], [y, y + 1], color=MUTED, lw=0.7, zorder=0)
            right = max(s.before, s.after) + (s.part.error or 0.0) * (s.after >= s.before)
            words(ax, right + 0.012 * wide, y, measured(s.part.value, s.part.error))
        base, total = self.parts.base or 0.0, self.parts.total or 0.0
        ax.plot([base, base], [0, 1], color=MUTED, lw=0.7, zorder=0)
        for y, v in ((0, base), (len(steps) + 1, total)):
            ax.plot(v, y, "D", color=INK, ms=5)
            words(ax, v + 0.022 * wide, y, number(v, 4), weight="bold")
        letters = max(len(measured(s.part.value, s.part.error)) for s in steps) if steps else 0
        ax.set_xlim(low, high + (0.03 + 0.015 * letters) * wide)
        ax.grid(axis="x", color=RULE, lw=0.4, alpha=0.6)
        ax.set_axisbelow(True)
        told = f"{self.parts.target};  arrows to the right raise it, to the left lower it"
        ax.set_xlabel(told + (";  whiskers: ± 1 standard error" if self.parts.error is not None else ""), size=8, color=MUTED, parse_math=False)
        return ax


def arrow(before: float, after: float, top: float, bottom: float, tip: float) -> list[tuple[float, float]]:
    """The corners of a bar with a tip at its end: its direction is seen without colour."""
    neck = after - (1 if after >= before else -1) * min(tip, abs(after - before))
    return [(before, top), (neck, top), (after, (top + bottom) / 2), (neck, bottom), (before, bottom)]


def outline(corners: list[tuple[float, float]]) -> str:
    """Corners as the closed path of an SVG."""
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners) + "Z"
