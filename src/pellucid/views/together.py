"""Which columns work together: a bar for H, its error, and how much that is in units of the target."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from .caption import cut, measured, number
from .effects import limits as limits, target_of, title_of
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, SIZE, lines, whisker, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..effects.h_statistic import Interactions, Together

TOP, GREY = 15, "#c3cad0"
"""Pairs that are shown, and the colour of those whose H divides by almost nothing."""


def draw(found: "Interactions", ax: "Axes", totals: bool = False) -> "Axes":
    """The strongest pairs, or columns against all others, in axes of yours, which come back."""
    shown = (found.totals if totals else found.pairs)[:TOP]
    lines(ax, [cut(_name(t), LETTERS) for t in shown])
    for y, t in enumerate(shown):
        value = t.value if t.value == t.value else 0.0
        ax.barh(y, value, color=GREY if t.faint else SIZE, height=0.62)
        whisker(ax, value, y, 1.96 * t.error)
        words(ax, 1.02, y, f"{number(t.strength)}{'  †' if t.faint else ''}", transform=ax.get_yaxis_transform(), color=MUTED)
    words(ax, 1.02, -0.85, "strength", transform=ax.get_yaxis_transform(), color=MUTED)
    ends = [t.value + 1.96 * np.nan_to_num(t.error) for t in shown if t.value == t.value and not t.faint]
    ax.set_xlim(0, max([1.0, *ends]))
    ax.set_xlabel("H: share that is done only together;  whiskers: 95 %", size=8, color=MUTED)
    return ax


def figure(found: "Interactions") -> Figure:
    """Pairs on the left, columns against all others on the right."""
    tall, wide = 0.3 * max(min(len(found.pairs), TOP), len(found.totals)) + 0.2, 12.6
    high = tall + 2.0
    fig = Figure(figsize=(wide, high), dpi=144, facecolor="white")
    fig.text(0.35 / wide, 1 - 0.25 / high, cut(title(found), 95), size=14, weight="bold", color=INK, va="top", parse_math=False)
    for left, totals, head in ((2.6, False, "Two columns"), (8.9, True, "A column with all others")):
        n = len(found.totals) if totals else min(len(found.pairs), TOP)
        own = 0.3 * n + 0.2
        ax = fig.add_axes((left / wide, 1 - (1.1 + own) / high, 2.9 / wide, own / high))
        draw(found, ax, totals).set_title(head, size=10, loc="left", weight="bold", color=INK, pad=14)
    fig.text(0.35 / wide, 0.2 / high, cut("strength: the spread of what is done only together, in target units;  †: H divides by almost nothing", 150), size=8, color=MUTED)
    return fig


def fragment(found: "Interactions") -> str:
    """The same as HTML."""
    most = max([1.0, *(t.value for t in (*found.pairs, *found.totals) if t.value == t.value and not t.faint)])
    return rendered("titled", title=title(found), parts=[(head, _bars(own[:TOP], most)) for head, own in (("Two columns", found.pairs), ("A column with all others", found.totals))], notes=found.notes)


def title(found: "Interactions") -> str:
    """What works together."""
    return f"{title_of(found)} in {target_of(found)}"


def _bars(shown: tuple["Together", ...], most: float) -> str:
    rows = [
        {"name": _name(t), "value": f"{measured(t.value, t.error, False)}{' †' if t.faint else ''}", "strength": number(t.strength),
         "faint": t.faint, "width": f"{100 * min(1.0, np.nan_to_num(t.value) / most):.1f}",
         "ends": [f"{100 * min(1.0, max(0.0, (t.value + s * t.error) / most)):.1f}" for s in (-1.96, 1.96)] if t.error > 0 else None}
        for t in shown
    ]  # fmt: skip
    return rendered("together", rows=rows, faint=any(t.faint for t in shown), high=number(most))


def _name(t: "Together") -> str:
    return f"{t.column} and {t.other}" if t.other else t.column
