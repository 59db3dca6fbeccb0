"""The facts that hold an answer in place: a sentence a row, how often it is right, and for how many rows it speaks."""

import textwrap
from typing import TYPE_CHECKING, Any

from .rendered import rendered
from .scene import INK, MUTED, RULE, SIZE, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 66
"""Letters of a sentence in one line of a figure."""


def title(found: Any) -> str:
    """One line."""
    return f"What is enough for the answer, for {found.threshold:.0%} of what else may be?"


def limits(found: Any) -> list[str]:
    """What it does not show."""
    return [
        "What a rule leaves open is drawn from rows of the data, cell by cell where they break it: columns that depend on each other are mixed as they never occur.",
        "A rule of small coverage says little more than the row itself.",
    ]


def fragment(found: Any) -> str:
    """As HTML."""
    rows = [{
        "name": f"row {a.row}", "text": a.text(), "reached": a.reached, "wide": f"{100 * a.coverage:.1f}", "coverage": f"{a.coverage:.0%}",
        "right": f"{100 * a.precision:.1f}", "precision": share_of(a.precision),
        "low": f"{100 * a.low:.1f}", "least": f"{a.low:.1%}", "draws": f"{a.draws:,}",
    } for a in found.anchors]  # fmt: skip
    return rendered("anchor", title=title(found), rows=rows, within=found.within, threshold=f"{100 * found.threshold:.1f}", told=f"{found.threshold:.0%}")


def figure(found: Any) -> "Figure":
    """The rules as a figure."""
    from matplotlib.figure import Figure

    tall = sum(_height(a) for a in found.anchors) + 1.05
    made = Figure(figsize=(11, tall), dpi=150, facecolor="white")
    made.text(0.02, 1 - 0.25 / tall, title(found), size=10.5, weight="bold", color=INK, va="center", parse_math=False)
    draw(found, made.add_axes((0.02, 0.3 / tall, 0.96, 1 - 0.8 / tall)))
    made.text(0.02, 0.16 / tall, f"Light line: the share that was asked for; dark line: what precision is at least. {found.within}", size=7.5, color=MUTED, va="center", parse_math=False)
    return made


def share_of(share: float) -> str:
    """A share in percent; 100% is said of what never failed only."""
    return f"{share:.0%}" if share == 1 or share < 0.99 else f"{share:.1%}" if share < 0.9995 else ">99.9%"


def _height(a: Any) -> float:
    return 0.2 + 0.19 * min(3, len(textwrap.wrap(_sentence(a), LINE)))


def _sentence(a: Any) -> str:
    return f"Row {a.row}: {a.text()}"


def draw(found: Any, ax: "Axes") -> "Axes":
    """Into axes of yours: sentences on the left, two bars on the right."""
    y, bars = 0.0, {"precision": (5.6, 1.7), "coverage": (8.5, 1.3)}
    for name, (x, _) in bars.items():
        words(ax, x, -0.12, {"coverage": "speaks for", "precision": "keeps the answer"}[name], color=MUTED)
    for a in found.anchors:
        tall = _height(a)
        middle = y + tall / 2
        ax.text(0, middle, "\n".join(textwrap.wrap(_sentence(a), LINE)[:3]), size=9, color=INK if a.reached else MUTED, va="center", linespacing=1.35, parse_math=False)
        for name, share in (("precision", a.precision), ("coverage", a.coverage)):
            x, wide = bars[name]
            ax.barh(middle, wide, left=x, height=0.14, color=RULE, alpha=0.6)
            ax.barh(middle, wide * (share if share == share else 0), left=x, height=0.14, color=SIZE)
            note = share_of(share) + (f" (≥ {a.low:.0%})" if name == "precision" else "")
            words(ax, x + wide + 0.07, middle, note)
        x, wide = bars["precision"]
        ax.plot([x + wide * found.threshold] * 2, [middle - 0.13, middle + 0.13], color=MUTED, lw=0.9)
        ax.plot([x + wide * a.low] * 2, [middle - 0.09, middle + 0.09], color=INK, lw=1.8)
        y += tall
    ax.set_axis_off()
    ax.set_xlim(0, 10.6)
    ax.set_ylim(y + 0.05, -0.25)
    return ax
