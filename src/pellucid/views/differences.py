"""A row beside its counterfactuals: the cells that change, what that costs, and what is known of each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .caption import cut
from .rendered import rendered
from .scene import INK, MUTED, RULE, SIZE, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12
"""Rows of a table that are drawn; the numbers of the others are in the table."""
WIDE, TALL = 1.45, 0.29
"""Inches of a column and of a line."""


def title(found: Any) -> str:
    """One line."""
    return f"What would have to be different for {found.wanted or 'the answer that is wanted'}?"


def limits(found: Any) -> list[str]:
    """What it does not show."""
    return [
        "A counterfactual says what the model would answer, not what would happen in the world: columns that depend on each other are moved one by one.",
        "Nearest means nearest of what was found within the budget. Points just behind a boundary are undone by small changes; a margin moves them further in.",
    ]


def lines(found: Any, b: int) -> dict[str, Any]:
    """The table of one row: a line for each column that any counterfactual changes, and what is known of each below."""
    mine = [int(k) for k in np.flatnonzero(found.success[:, b].numpy())]
    own, points = found.rows[b].double().numpy(), found.points[:, b].double().numpy()
    changes = {k: {c: (a, z) for c, a, z in found.cells(k, b)} for k in mine}
    cells = []
    for j, c in enumerate(found.columns):
        if any(c.name in changes[k] for k in mine):
            steps = [_step(c, own[j], points[k, j], changes[k].get(c.name), float(found.moves[k, b, j])) for k in mine]
            cells.append({"name": c.name, "own": c.word(own[j]), "steps": steps})
    facts = [
        ("Answer", found.answer(found.before[b]), [found.answer(found.after[k, b]) for k in mine], ""),
        ("Distance", "", [f"{float(found.distance[k, b]):.2f}" for k in mine], "in median absolute deviations; 1 for another word"),
        ("Near data", "", [found.plausible(k, b) for k in mine], "plausible: at least one in twenty rows with this answer lies as far from its like"),
        ("Holds", "", [f"{float(found.held[k, b]):.0%}" if found.held[k, b] == found.held[k, b] else "" for k in mine], "of small changes (0.05 deviations in every number)"),
    ]
    left = len(found.columns) - len(cells)
    return {"row": str(found.ids[b]), "said": found.said(b), "cells": cells, "facts": facts, "mine": len(mine), "left": left if cells else 0}


def _step(c: Any, a: float, z: float, change: tuple[str, str] | None, cost: float) -> dict[str, str] | None:
    if change is None:
        return None
    arrow = "→" if not c.ordered or a != a else "▲" if z > a else "▼"
    return {"arrow": arrow, "to": change[1], "cost": f"{cost:.2g}" if cost else ""}


def fragment(found: Any) -> str:
    """As HTML."""
    rows = [lines(found, b) for b in range(min(len(found.ids), MOST))]
    return rendered("differences", title=title(found), rows=rows, more=len(found.ids) - len(rows))


def figure(found: Any, row: int = 0) -> "Figure":
    """One row's table as a figure."""
    from matplotlib.figure import Figure

    t = lines(found, row)
    wide, tall = 1.6 + WIDE * (1 + max(t["mine"], 2)), TALL * (len(t["cells"]) + len(t["facts"]) + 1.6) + 0.75
    made = Figure(figsize=(wide, tall), dpi=150, facecolor="white")
    words_of = (cut(title(found), 92), cut(t["said"], 130))
    made.text(0.12 / wide, 1 - 0.24 / tall, words_of[0], size=10.5, weight="bold", color=INK, va="center", parse_math=False)
    made.text(0.12 / wide, 1 - 0.48 / tall, words_of[1], size=8, color=MUTED, va="center", parse_math=False)
    draw(found, made.add_axes((0.12 / wide, 0.05 / tall, 1 - 0.24 / wide, 1 - 0.7 / tall)), row)
    return made


def draw(found: Any, ax: "Axes", row: int = 0) -> "Axes":
    """One row's table into axes of yours."""
    t = lines(found, row)
    ax.set_axis_off()
    ax.set_xlim(0, 1.4 + WIDE * (1 + max(t["mine"], 2)))
    ax.set_ylim(len(t["cells"]) + len(t["facts"]) + 1.3, -0.6)
    if not t["mine"]:
        return ax
    at = [1.4 + WIDE * k for k in range(t["mine"] + 1)]
    for x, head in zip(at, [cut(f"row {t['row']}", 18), *(f"counterfactual {k + 1}" for k in range(t["mine"]))], strict=True):
        words(ax, x, 0, head, color=MUTED)
    for y, line in enumerate(t["cells"], 1):
        words(ax, 0, y, cut(line["name"], 20), weight="bold")
        words(ax, at[0], y, cut(line["own"], 17))
        for x, s in zip(at[1:], line["steps"], strict=True):
            if s is None:
                words(ax, x, y, "·", color=MUTED)
            else:
                ax.add_patch(_tint(x, y))
                words(ax, x, y, cut(f"{s['arrow']} {s['to']}", 17), color=SIZE, weight="bold", family=["DejaVu Sans"])
    end = len(t["cells"]) + 0.55
    ax.plot([0, at[-1] + WIDE - 0.1], [end, end], color=RULE, lw=0.8)
    for y, (name, own, told, _) in enumerate(t["facts"], len(t["cells"]) + 1):
        words(ax, 0, y + 0.1, name, color=MUTED)
        for x, text in zip(at, [own, *told], strict=True):
            words(ax, x, y + 0.1, cut(text, 19))
    return ax


def _tint(x: float, y: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.06, y - 0.42), WIDE - 0.06, 0.84, color=SIZE, alpha=0.09, lw=0)
