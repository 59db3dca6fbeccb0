"""The training rows that an answer was taken from: how far, what they say, how they differ."""

import textwrap
from typing import TYPE_CHECKING, Any

from .caption import cut, number
from .faithful import EXACT
from .rendered import rendered
from .scene import INK, MUTED, RULE, SIZE, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted


def title(found: "Fitted") -> str:
    """One line."""
    return f"Nearest neighbours that the answer was taken from: {found.name}"  # type: ignore[attr-defined]


def limits(found: "Fitted") -> list[str]:
    """What it does not show."""
    metric = found.metric  # type: ignore[attr-defined]
    return [f"Distances are the model's own ({metric}): a column with large numbers counts for more, unless they were scaled.",
            "It does not show that the model is right, fair or safe, or that the world works this way."]  # fmt: skip


def reached(found: Any) -> str:
    """What was asked, and what the model says."""
    return f"{EXACT} " + "; ".join(f"row {of}: the model says {said}" for of, said in found.answers) + "."


def fragment(found: Any) -> str:
    """As HTML."""
    rows = [{"kind": f"of row {n.of}:", "name": f"training row {n.row}", "answer": n.label, "told": f"distance {number(n.distance)} · {n.share:.0%} of the vote", "wide": f"{100 * n.share:.1f}",
             "tone": "size", "apart": "; ".join(n.differs) or "nothing"} for n in found.neighbours]  # fmt: skip
    return rendered("prototypes", title=title(found), reached=reached(found), rows=rows, against="the row itself")


def figure(found: Any) -> "Figure":
    """The table as a figure."""
    from matplotlib.figure import Figure

    tall = 0.42 * len(found.neighbours) + 0.35
    w, h = 11.5, tall + 1.2
    made = Figure(figsize=(w, h), dpi=144, facecolor="white")
    made.text(0.25 / w, 1 - 0.2 / h, title(found), size=13, weight="bold", color=INK, va="top", parse_math=False)
    made.text(0.25 / w, 1 - 0.52 / h, "\n".join(textwrap.wrap(reached(found), 150)[:2]), size=8.5, color=MUTED, va="top", parse_math=False)
    draw(found, made.add_axes((0.25 / w, 0.15 / h, 1 - 0.5 / w, (tall - 0.05) / h)))
    return made


def draw(found: Any, ax: "Axes") -> "Axes":
    """Into axes of yours."""
    for x, head in ((0, "training row"), (2.3, "its label"), (3.7, "share of the vote, distance"), (6.4, "differs from the row itself")):
        words(ax, x, -0.14, head, color=MUTED)
    for i, n in enumerate(found.neighbours):
        y = 0.42 * i + 0.21
        words(ax, 0, y, f"row {n.of}: {n.row}")
        words(ax, 2.3, y, cut(n.label, 18))
        ax.barh(y, 0.9 * n.share, left=3.7, height=0.15, color=SIZE)
        words(ax, 4.7, y, f"{n.share:.0%}, {number(n.distance)}")
        words(ax, 6.4, y, "\n".join(textwrap.wrap("; ".join(n.differs) or "nothing", 66)[:2]), size=7.5)
        ax.axhline(y + 0.21, color=RULE, lw=0.5)
    ax.set(xlim=(0, 11), ylim=(0.42 * len(found.neighbours) + 0.02, -0.3), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax
