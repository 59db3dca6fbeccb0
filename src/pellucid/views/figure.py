"""The figure: placed by the inch, so that long words never push the picture about."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import paint
from .beeswarm import Beeswarm
from .caption import caption, cut, number, short_target
from .choose import scenes
from .evidence import MARKS, ends, judgement, legend, readings, value_text
from .map import Map, outline
from .overlay import Overlay
from .panels import Panel
from .scene import INK, MUTED, RULE, Scene

if TYPE_CHECKING:
    from ..core.explanation import Explanation

PAINTED = (Map, Overlay)
"""Views that are laid out beside the picture they were made of."""
TONES = {"good": "#1d6b42", "doubtful": "#8a5a00", "bad": "#a3262a"}
WIDTH, MARGIN, TITLE, SIDE, PANEL = 12.6, 0.35, 1.05, 3.7, 5.0
"""Inches: the figure, its margin, the title's height, a picture's side, a panel's height."""


@dataclass(frozen=True)
class Sheet:
    """A figure whose places are given in inches from the top left corner."""

    figure: Figure

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes at a place."""
        w, h = self.figure.get_size_inches()
        ax: Axes = self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))
        ax.spines[:].set_color(RULE)
        ax.tick_params(color=RULE, labelcolor=INK, labelsize=8)
        return ax

    def words(self, x: float, y: float, text: str, size: float = 9, color: str = INK, **look: Any) -> None:
        """Text whose top left corner is at a place."""
        w, h = self.figure.get_size_inches()
        self.figure.text(x / w, 1 - y / h, text, **{"size": size, "color": color, "va": "top", "linespacing": 1.45, **look})


def draw(e: "Explanation", row: int | None = None, kind: str = "auto") -> Figure:
    """Title above, views on the left, evidence on the right."""
    shown = scenes(e, row, kind)
    tall = [PANEL if isinstance(s, PAINTED) else s.height + 1.0 for s in shown]
    sheet = Sheet(Figure(figsize=(WIDTH, TITLE + max(sum(tall), PANEL)), dpi=144, facecolor="white"))
    head, told = title(e, row, shown)
    sheet.words(MARGIN, 0.3, cut(head, 90), size=15, weight="bold")
    sheet.words(MARGIN, 0.68, "\n".join(textwrap.wrap(told, 150)[:2]), color=MUTED)
    for i, scene in enumerate(shown):
        _place(sheet, TITLE + sum(tall[:i]), scene, cut(short_target(e.target[row or 0]), 24))
    _evidence(sheet, e, None if shown and isinstance(shown[0], Beeswarm) else row or 0)
    return sheet.figure


def title(e: "Explanation", row: int | None, shown: Sequence[Scene]) -> tuple[str, str]:
    """A headline and what was set; over all rows the targets that they share, and how many they are."""
    words = caption(e, row or 0)
    if shown and isinstance(shown[0], Beeswarm):
        return f"{words.title} of {shown[0].target}", " · ".join([f"{len(e):,} rows", *words.settings()])
    return words.lines()


def titled(e: "Explanation", ax: Axes, row: int | None, kind: str) -> Axes:
    """One view in axes of yours, its title above it."""
    scene = scenes(e, row, kind)[0]
    head, told = title(e, row, [scene])
    scene.draw(ax).set_title("\n".join([*textwrap.wrap(head, 70), *textwrap.wrap(told, 80)]), size=9, loc="left", color=INK, parse_math=False, pad=12)
    return ax


def _place(sheet: Sheet, top: float, scene: Scene, target: str) -> None:
    if isinstance(scene, PAINTED):
        (_overlay if scene.panel.picture is not None else _matrix)(sheet, top, scene.panel, target)
        return
    x = MARGIN + scene.indent
    scene.draw(sheet.axes(x, top + 0.3, MARGIN + 2 * SIDE + 0.25 - x, scene.height))


def _overlay(sheet: Sheet, top: float, panel: Panel, target: str) -> None:
    left, right = MARGIN, MARGIN + SIDE + 0.25
    outlines, over = paint.outlines(panel), paint.overlay(panel)
    seen = panel.picture if panel.picture is not None else over
    tall, wide = seen.shape[:2]
    for x, words, pixels in ((left, "What the model was shown", seen), (right, "What the map marks", over)):
        sheet.words(x, top + 0.08, words, color=MUTED)
        ax = _image(sheet.axes(x, top + 0.3, SIDE, SIDE))
        ax.imshow(pixels, extent=(-0.5, wide - 0.5, tall - 0.5, -0.5))
    for found in outlines:
        outline(ax, found)
    _bar(sheet, right, top + SIDE + 0.62, SIDE, panel, target)
    _small(sheet, left, top + SIDE + 0.4, panel, bool(outlines), 64)


def _small(sheet: Sheet, x: float, y: float, panel: Panel, outlined: bool, width: int) -> None:
    for text in legend(panel, outlined):
        lines = textwrap.wrap(text, width)
        sheet.words(x, y, "\n".join(lines), size=7.5, color=MUTED)
        y += 0.16 * len(lines) + 0.03


def _image(ax: Axes) -> Axes:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_anchor("NW")
    ax.spines[:].set_visible(False)
    return ax


def _bar(sheet: Sheet, x: float, y: float, width: float, panel: Panel, target: str) -> None:
    scale, (low, high) = panel.scale, ends(panel, target)
    sheet.words(x, y - 0.22, low)
    sheet.words(x + width, y - 0.22, high, ha="right")
    ax = sheet.axes(x, y, width, 0.16)
    ax.imshow(paint.bar(scale), aspect="auto", extent=(scale.low, scale.high, 0, 1))
    ax.set_yticks([])
    ax.set_xticks([scale.low, 0, scale.high] if scale.signed else [0, scale.high])
    ax.set_xticklabels([number(t) for t in ax.get_xticks()])
    sides: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right") if scale.signed else ("left", "right")
    for label, side in zip(ax.get_xticklabels(), sides, strict=True):
        label.set_horizontalalignment(side)


def _matrix(sheet: Sheet, top: float, panel: Panel, target: str) -> None:
    ax = sheet.axes(MARGIN + 0.45, top + 0.3, 2 * SIDE - 0.2, SIDE - 0.25)
    ax.imshow(paint.overlay(panel), aspect="auto", interpolation="nearest")
    ax.set_ylabel(panel.axes[0], color=MUTED)
    ax.set_xlabel(panel.axes[1], color=MUTED)
    _bar(sheet, MARGIN + SIDE + 0.25, top + SIDE + 0.72, SIDE, panel, target)
    _small(sheet, MARGIN, top + SIDE + 0.5, panel, False, 64)


def _evidence(sheet: Sheet, e: "Explanation", row: int | None) -> None:
    x, y, right = MARGIN + 2 * SIDE + 0.65, TITLE + 0.08, WIDTH - MARGIN
    told = judgement(e, row)
    if told is None:
        sheet.words(x, y, "No evidence was asked for", size=12, weight="bold")
        sheet.words(x, y + 0.36, "An explanation alone does not show that it is right.", color=MUTED)
        return
    stripe = sheet.axes(x - 0.22, y, 0.045, PANEL - 0.45)
    stripe.set(xticks=[], yticks=[], facecolor=TONES[told.tone])
    stripe.spines[:].set_visible(False)
    sheet.words(x, y, f"{told.mark} {told.word}", size=13, weight="bold", color=TONES[told.tone])
    y = _reasons(sheet, x, y + 0.42, told.reasons)
    _readings(sheet, x, right, y + 0.1, e, row)
    sheet.words(x, TITLE + PANEL - 0.75, textwrap.fill(told.note, 60), size=8, color=MUTED, style="italic")


def _reasons(sheet: Sheet, x: float, y: float, reasons: Sequence[str]) -> float:
    for reason in reasons[:3]:
        lines = textwrap.wrap(reason, 56)[:5]
        sheet.words(x, y, "\n".join(lines))
        y += 0.182 * len(lines) + 0.1
    return y


def _readings(sheet: Sheet, x: float, right: float, y: float, e: "Explanation", row: int | None) -> None:
    alone = len(e.target) == 1
    for r in readings(e, row):
        if y > TITLE + PANEL - 1.0:
            return
        if alone:
            sheet.words(x, y, MARKS[r.verdict], color=TONES.get(r.verdict, MUTED), weight="bold")
        sheet.words(x + 0.25 * alone, y, textwrap.shorten(r.title, 38, placeholder="…"))
        sheet.words(right, y, value_text(r, row), ha="right")
        y += 0.255
