"""A text, every word tinted by what it was worth; the strongest carry their numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..core.errors import NotApplicable
from .caption import signed_number
from .parts import Floats, Parts, is_text
from .rendered import rendered
from .scene import INK, MUTED, colour, only_parts, tone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

LEVELS, NUMBERED, WEAKEST = 10, 10, 0.2
"""Depths of colour; how many words carry a number at most, and from which share of the largest on."""
SIZE, LINE, INCHES = 12.5, 3.1, 7.2
"""Of a figure's text: points, lines of that height, and inches across."""


@dataclass(frozen=True)
class Word:
    """A piece of the text: `glued` to the one before it, `level` 0 to 10 of colour, and its number where it is among the strongest."""

    text: str
    value: float
    level: int
    glued: bool
    number: str


@dataclass(frozen=True)
class Tint:
    """Which words speak for the answer, and which against it?"""

    parts: Parts
    kind: ClassVar[str] = "tint"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        if not is_text(e):
            raise NotApplicable('kind="tint" needs a text, its words or tokens as players; this explanation has none. Leave kind out to see what it has.')
        return cls(only_parts(e, row, cls.kind))

    @property
    def indent(self) -> float:
        return 0.1

    @property
    def height(self) -> float:
        return 0.3 + len(_rows(self.words(), INCHES * 72)) * LINE * SIZE / 72

    def words(self) -> list[Word]:
        """The text in its own order."""
        values = self.parts.values
        most = float(np.abs(values).max(initial=0.0)) or 1.0
        strong = {i for i in self.parts.order()[:NUMBERED] if abs(values[i]) >= WEAKEST * most}
        out = []
        for i, (name, v) in enumerate(zip(self.parts.names, values.tolist(), strict=True)):
            text, glued = piece(name)
            told = (signed_number(v, 2) if self.parts.signed else signed_number(v, 2).lstrip("+")) if i in strong else ""
            out.append(Word(text, v, round(LEVELS * abs(v) / most), glued and i > 0, told))
        return out

    def html(self, side: int = 512) -> str:
        words = [{"text": w.text, "tone": tone(w.value, self.parts.signed), "level": w.level, "glued": w.glued, "number": w.number} for w in self.words()]
        ends = [f"l{k}" for k in range(LEVELS, -1, -1)]
        return rendered("tint", words=words, signed=self.parts.signed, target=self.parts.target, levels=ends, most=signed_number(_most(self.parts.values), 2).lstrip("+"))

    def draw(self, ax: "Axes") -> "Axes":
        figure = ax.figure.get_figure(root=True)
        wide = ax.get_position().width * figure.get_size_inches()[0] * 72
        rows = _rows(self.words(), wide)
        for line, row in enumerate(rows):
            for x, w, long in row:
                self._word(ax, x, (line + 0.5) * LINE * SIZE, w, long)
        ax.set(xlim=(0, wide), ylim=(len(rows) * LINE * SIZE + 6, 0), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        told = f"red, solid line: raises {self.parts.target};  blue, dashed line: lowers it" if self.parts.signed else f"the stronger the colour, the larger the word's part in {self.parts.target}"
        ax.set_xlabel(told, size=8, color=MUTED, parse_math=False)
        return ax

    def _word(self, ax: "Axes", x: float, y: float, w: Word, long: float) -> None:
        own = colour(w.value, self.parts.signed)
        ax.fill([x - 2, x + long + 2, x + long + 2, x - 2], [y - 0.75 * SIZE, y - 0.75 * SIZE, y + 0.6 * SIZE, y + 0.6 * SIZE], color=own, alpha=0.07 * w.level, lw=0)
        ax.text(x, y + 0.32 * SIZE, w.text, size=SIZE, color=INK, va="baseline", parse_math=False)
        if w.level:
            ax.plot([x - 1, x + long + 1], [y + 0.6 * SIZE] * 2, color=own, lw=1.6, ls="-" if w.value > 0 else (0, (2, 1.4)), solid_capstyle="butt")
        if w.number:
            ax.text(x + long / 2, y + 1.5 * SIZE, w.number, size=0.62 * SIZE, color=own, ha="center", va="baseline")


def piece(name: str) -> tuple[str, bool]:
    """(the text of a token, whether it goes on where the one before it ends), by the marks that tokenizers use."""
    if name.startswith("##"):
        return name[2:], True
    return name.replace("Ġ", "").replace("▁", "") or name, False


def _most(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))


def _rows(words: list[Word], wide: float) -> list[list[tuple[float, Word, float]]]:
    """Words broken into lines: (x, word, width), in points."""
    space = 0.55 * SIZE
    rows: list[list[tuple[float, Word, float]]] = [[]]
    x = 4.0
    for w in words:
        long = _width(w.text, SIZE)
        need = max(long, _width(w.number, 0.62 * SIZE) + 3 if w.number else 0.0)
        x += 0.0 if w.glued or not rows[-1] else space
        if x + need > wide - 4 and rows[-1]:
            rows.append([])
            x = 4.0
        rows[-1].append((x + (need - long) / 2, w, long))
        x += need
    return rows


def _width(text: str, size: float) -> float:
    """Points across, as the figure's font draws it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    made: tuple[Any, ...] = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(made[0])
