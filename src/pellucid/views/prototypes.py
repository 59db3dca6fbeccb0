"""Rows that stand for others, as a table: how much each weighs, what the model says of it, and what sets it apart."""

import textwrap
from typing import TYPE_CHECKING, Any

from .caption import cut, number, signed_number
from .rendered import rendered
from .scene import INK, LOWERS, MUTED, RAISES, RULE, SIZE, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted

HEADS = {"proto-dash": "Prototypes: rows that together look like all", "mmd-critic": "Prototypes, and rows that they do not speak for", "nearest-examples": "The nearest rows"}
CELLS = 6
"""Cells of a row that are shown, the first ones, where nothing sets it apart."""


def title(found: "Fitted") -> str:
    """One line."""
    return HEADS.get(found.estimator, "Rows that stand for others")


def limits(found: "Fitted") -> list[str]:
    """What it does not show."""
    space = found.space  # type: ignore[attr-defined]
    return [f"Rows are compared by {space}: columns that do not matter weigh as much as those that do.", "A prototype is a row of the data, with its own accidents; it is not an average.",
            "It does not show that the model is right, fair or safe, or that the world works this way."]  # fmt: skip


def reached(found: Any) -> str:
    """How much better than chance."""
    if found.discrepancy is None or found.chance is None:
        return f"Distances in {found.space}."
    mean, sd = found.chance
    chance = f"as many random rows reach {number(mean)} ± {number(sd, 2)}"
    return f"Distance from the whole table (MMD) {number(found.discrepancy)}; {chance}. Kernel width {number(found.width)}: the median distance in {found.space}."


def _apart(e: Any) -> str:
    return ";  ".join(e.differs) if e.differs else ", ".join(f"{k} {v}" for k, v in e.cells[:CELLS]) + (", …" if len(e.cells) > CELLS else "")


def _measure(e: Any) -> tuple[str, float]:
    """(what a row's number is in words, the number that its bar shows)."""
    if e.kind in ("neighbour", "itself"):
        return ("" if e.kind == "itself" else f"distance {number(e.distance)}"), e.distance
    return (f"weight {number(e.weight, 2)}" if e.kind == "prototype" else f"witness {signed_number(e.weight, 2)}"), e.weight


def _scales(found: Any) -> dict[str, float]:
    """The longest bar of each kind of row."""
    out = dict[str, float]()
    for e in found.examples:
        out[e.kind] = max(out.get(e.kind, 0.0), abs(_measure(e)[1]))
    return {k: v or 1.0 for k, v in out.items()}


def fragment(found: Any) -> str:
    """As HTML."""
    scales, rows = _scales(found), list[dict[str, Any]]()
    for e in found.examples:
        told, v = _measure(e)
        tone = "size" if e.kind != "criticism" else "raises" if v > 0 else "lowers"
        rows.append({
            "kind": e.kind, "name": f"row {e.id}" if e.id.isdigit() else e.id, "answer": e.answer, "told": told, "wide": f"{100 * abs(v) / scales[e.kind]:.1f}",
            "tone": tone, "apart": _apart(e), "differs": bool(e.differs),
        })  # fmt: skip
    return rendered("prototypes", title=title(found), reached=reached(found), rows=rows, against=found.against)


def figure(found: Any) -> "Figure":
    """The table as a figure."""
    from matplotlib.figure import Figure

    tall = sum(_height(e) for e in found.examples) + 0.35
    w, h = 11.5, tall + 1.25
    made = Figure(figsize=(w, h), dpi=144, facecolor="white")
    made.text(0.25 / w, 1 - 0.2 / h, title(found), size=13, weight="bold", color=INK, va="top")
    made.text(0.25 / w, 1 - 0.52 / h, "\n".join(textwrap.wrap(reached(found), 150)[:2]), size=8.5, color=MUTED, va="top", parse_math=False, linespacing=1.4)
    draw(found, made.add_axes((0.25 / w, 0.15 / h, 1 - 0.5 / w, (tall - 0.05) / h)))
    return made


def _height(e: Any) -> float:
    return 0.22 + 0.17 * len(textwrap.wrap(_apart(e), 72)[:3])


def draw(found: Any, ax: "Axes") -> "Axes":
    """Into axes of yours."""
    y, scales = 0.0, _scales(found)
    for x, head in ((0, "row"), (1.9, "the model says"), (3.5, ""), (5.7, f"differs from {found.against}")):
        words(ax, x, -0.14, head, color=MUTED)
    for e in found.examples:
        tall, (told, v) = _height(e), _measure(e)
        own = SIZE if e.kind != "criticism" else RAISES if v > 0 else LOWERS
        words(ax, 0, y + tall / 2, cut(f"{e.kind}  {e.id}", 26), weight="bold" if e.kind == "itself" else "normal")
        words(ax, 1.9, y + tall / 2, cut(e.answer, 20))
        ax.barh(y + tall / 2, 0.9 * abs(v) / scales[e.kind], left=3.5, height=0.15, color=own)
        words(ax, 4.5, y + tall / 2, told, size=7.5)
        ax.text(5.7, y + tall / 2, "\n".join(textwrap.wrap(_apart(e), 72)[:3]), size=8, color=INK, va="center", parse_math=False, linespacing=1.3)
        y += tall
        ax.axhline(y, color=RULE, lw=0.5)
    ax.set(xlim=(0, 11), ylim=(y + 0.02, -0.3), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax
