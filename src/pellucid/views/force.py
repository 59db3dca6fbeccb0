"""What pushes the answer up and what pushes it down, stacked on one line from base to answer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..core.errors import NotApplicable
from .caption import cut, measured, number
from .parts import Part, Parts
from .rendered import rendered
from .scene import INK, MUTED, RULE, colour, only_parts, tone, words
from .waterfall import arrow, outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

EACH = 6
"""How many parts are shown one by one each way."""
LANES = ((34.0, 58.0), (66.0, 90.0))
"""Where what raises lies and where what lowers, from top to bottom."""


@dataclass(frozen=True)
class Push:
    """One part on its lane: where it starts and where it pushes to."""

    part: Part
    lane: int
    before: float
    after: float
    place: int


@dataclass(frozen=True)
class Force:
    """How strong is what raises the answer against what lowers it?"""

    parts: Parts
    kind: ClassVar[str] = "force"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        found = only_parts(e, row, cls.kind)
        if found.base is None or not found.signed:
            raise NotApplicable(f'kind="force" needs signed values and what the model answers with nothing there; {e.method} lacks one of them. Take kind="bar".')
        return cls(found)

    @property
    def indent(self) -> float:
        return 0.2

    @property
    def height(self) -> float:
        return 1.5 + 0.19 * max(sum(p.lane == lane for p in self.pushes()) for lane in (0, 1))

    def pushes(self) -> list[Push]:
        """What raises, from the base upwards; then what lowers, back from there to the answer."""
        values = self.parts.values
        at, out = self.parts.base or 0.0, list[Push]()
        for lane, sign in ((0, 1), (1, -1)):
            own = [i for i in self.parts.order() if values[i] * sign > 0]
            shown = [self.parts.part(i) for i in own[:EACH]]
            if rest := own[EACH:]:
                shown.append(Part(f"{len(rest):,} more", float(values[rest].sum())))
            for p in shown:
                out.append(Push(p, lane, at, at + p.value, len(out) + 1))
                at += p.value
        return out

    def span(self) -> tuple[float, float]:
        ends = [self.parts.base or 0.0, self.parts.total or 0.0, *(v for p in self.pushes() for v in (p.before, p.after))]
        room = 0.04 * (max(ends) - min(ends)) or 0.5
        return min(ends) - room, max(ends) + room

    def html(self, side: int = 512) -> str:
        drawn = [{"size": size, **self._laid_out(width)} for size, width in (("wide", 720), ("narrow", 340))]
        lists = [[{"place": p.place, "name": p.part.told, "value": measured(p.part.value, p.part.error)} for p in self.pushes() if p.lane == lane] for lane in (0, 1)]
        return rendered("force", drawings=drawn, raising=lists[0], lowering=lists[1], target=self.parts.target)

    def _laid_out(self, width: int) -> dict[str, Any]:
        low, high = self.span()

        def x(v: float) -> float:
            return (v - low) / (high - low) * width

        pushes = [{
            "tone": tone(p.part.value), "shape": outline(arrow(x(p.before), x(p.after), *LANES[p.lane], 7)), "x": f"{(x(p.before) + x(p.after)) / 2:.1f}", "y": LANES[p.lane][0] + 17,
            "place": p.place if abs(x(p.after) - x(p.before)) > 22 else "",
        } for p in self.pushes()]  # fmt: skip
        ends = [x(self.parts.base or 0.0), x(self.parts.total or 0.0)]
        turn = max((p.after for p in self.pushes() if p.lane == 0), default=self.parts.base or 0.0)
        texts = [f"{word} {number(v, 4)}" for word, v in (("base", self.parts.base), ("answer", self.parts.total))]
        marks = [{"x": f"{at:.1f}", "text": text, "at": f"{_inside(at, text, width):.1f}", "y": y, "to": to} for at, text, y, to in zip(ends, texts, (24, 108), (34, 90), strict=True)]
        return {"width": width, "pushes": pushes, "marks": marks, "turn": f"{x(turn):.1f}"}

    def draw(self, ax: "Axes") -> "Axes":
        (low, high), pushes = self.span(), self.pushes()
        wide = high - low
        for p in pushes:
            top, bottom = (v / 100 for v in LANES[p.lane])
            ax.fill(*zip(*arrow(p.before, p.after, top, bottom, 0.01 * wide), strict=True), color=colour(p.part.value), ec="white", lw=0.8)
            if abs(p.part.value) > 0.03 * wide:
                words(ax, (p.before + p.after) / 2, (top + bottom) / 2, str(p.place), color="white", ha="center", weight="bold")
        rows = [[p for p in pushes if p.lane == lane] for lane in (0, 1)]
        deep = 1.30 + 0.17 * max(map(len, rows)) + 0.1
        for lane, x in ((0, low + 0.01 * wide), (1, low + 0.51 * wide)):
            words(ax, x, 1.30, f"{('raises', 'lowers')[lane]} {cut(self.parts.target, 40)}", color=MUTED)
            for k, p in enumerate(rows[lane]):
                words(ax, x, 1.48 + 0.17 * k, f"{p.place}", weight="bold", color=colour(p.part.value))
                words(ax, x + 0.03 * wide, 1.48 + 0.17 * k, f"{measured(p.part.value, p.part.error)}   {p.part.short(36)}")
        for word, v, y, to in (("base", self.parts.base or 0.0, 0.16, 0.34), ("answer", self.parts.total or 0.0, 1.02, 0.9)):
            ax.plot([v, v], [y + (0.06 if y < to else -0.06), to], color=INK, lw=0.8)
            words(ax, min(max(v, low + 0.06 * wide), high - 0.06 * wide), y, f"{word} {number(v, 4)}", ha="center", weight="bold")
        ax.axhline(0.62, color=RULE, lw=0.6)
        ax.set(xlim=(low, high), ylim=(deep + 0.2, 0.0), yticks=[], xticks=[])
        ax.spines[:].set_visible(False)
        return ax


def _inside(x: float, text: str, width: int) -> float:
    """Where the middle of a text goes, so that none of it leaves the drawing."""
    half = 4.4 * len(text)
    return min(max(x, half), width - half)
