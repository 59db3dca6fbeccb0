"""A tree, its root on the left: every split in words, how many rows go each way, and what the answer is there."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .caption import cut, number
from .faithful import banner, headed, place, told
from .rendered import rendered
from .scene import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted

WIDE, TALL, STEP, PITCH, MARGIN = 176, 58, 204, 68, 8
"""Of a box, from box to box across and down, and around it all, in the picture's own units (points on paper, pixels on a page)."""
LETTERS = 25
"""Of a question in one line of a box."""
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", "#7f7f7f")
"""Of more than two classes, safe for those who see few colours."""
ON_COLOUR = "#1b1f24"


@dataclass(frozen=True)
class Box:
    """A node at its place: lines of text, and its colour."""

    number: int
    x: float
    y: float
    lines: tuple[str, ...]
    small: str
    fill: str
    leaf: bool


@dataclass(frozen=True)
class Way:
    """From a node to the next, as thick as its share of the rows."""

    x0: float
    y0: float
    x1: float
    y1: float
    thick: float
    label: str


@dataclass(frozen=True)
class Diagram:
    """Boxes and the ways between them."""

    boxes: tuple[Box, ...]
    ways: tuple[Way, ...]
    width: float
    height: float


def laid(found: Any) -> Diagram:
    """Leaves one below the other, every other node half-way between its two."""
    place_of, boxes, ways = dict[int, float](), list[Box](), list[Way]()
    down = iter(range(len(found.nodes)))

    def put(n: int) -> float:
        node = found.nodes[n]
        place_of[n] = MARGIN + TALL / 2 + PITCH * next(down) if node.leaf else (put(node.yes) + put(node.no)) / 2
        return place_of[n]

    put(0)
    for node in found.nodes:
        x, y = MARGIN + STEP * node.depth, place_of[node.number]
        boxes.append(Box(node.number, x, y - TALL / 2, *_words(found, node), _fill(found, node), node.leaf))
        for child, label in ((node.yes, "yes"), (node.no, "no")) if not node.leaf else ():
            ways.append(Way(x + WIDE, y, x + STEP, place_of[child], 1.2 + 15 * found.nodes[child].share, label))
    deepest, leaves = max(n.depth for n in found.nodes), sum(n.leaf for n in found.nodes)
    return Diagram(tuple(boxes), tuple(ways), 2 * MARGIN + STEP * deepest + WIDE, 2 * MARGIN + PITCH * (leaves - 1) + TALL)


def _words(found: Any, node: Any) -> tuple[tuple[str, ...], str]:
    size = f"{node.share:.0%} of rows" if node.share >= 0.01 else f"{node.rows} row{'s' * (node.rows != 1)}"
    if node.leaf:
        return (cut(found.said(node), LETTERS),), f"{size} · {node.rows:,}" if node.share >= 0.01 else size
    lines = textwrap.wrap(f"{node.question}?", LETTERS)
    lines = lines if len(lines) <= 2 else [lines[0], cut(" ".join(lines[1:]), LETTERS)]
    return tuple(lines), f"{cut(found.said(node), 16)} · {size}"


def _fill(found: Any, node: Any) -> str:
    """Red where the answer lies above the mean of all rows, blue below; of more than two classes the likeliest one's own hue."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex, to_rgb

    if len(found.labels) > 2:
        k = int(np.argmax(node.answer))
        pale = 0.75 - 0.45 * (node.answer[k] - 1 / len(found.labels)) / (1 - 1 / len(found.labels))
        return str(to_hex([pale + (1 - pale) * c for c in to_rgb(HUES[k % len(HUES)])]))
    at = -1 if found.labels else 0
    away = [abs(n.answer[at] - found.nodes[0].answer[at]) for n in found.nodes]
    t = (node.answer[at] - found.nodes[0].answer[at]) / (max(away) or 1.0)
    return str(to_hex(colormaps["RdBu_r"](0.5 + 0.29 * t)))  # pale enough for dark letters at both ends


def title(found: "Fitted") -> str:
    """One line."""
    kind = "A tree in the place of the model" if found.fidelity is not None else "The tree itself"  # type: ignore[attr-defined]
    return f"{kind}: {found.name}"  # type: ignore[attr-defined]


def limits(found: "Fitted") -> list[str]:
    """What it does not show."""
    own = ["Columns that go together can stand in for each other: another draw of rows may ask about others and answer as well."]
    return [*own, *told(found)]


def fragment(found: Any) -> str:
    """As HTML: the diagram, and for narrow screens the same as an outline."""
    d = laid(found)
    boxes = [{
        "x": b.x, "y": b.y, "fill": b.fill, "leaf": b.leaf, "small": b.small, "lines": [(t, b.y + (TALL / 2 - 3 if len(b.lines) == 1 else 20 + 15 * i)) for i, t in enumerate(b.lines)],
        "below": b.y + TALL - (12 if len(b.lines) == 1 else 8), "full": " and ".join(found.path(b.number)) or "all rows",
    } for b in d.boxes]  # fmt: skip
    ways = [{"d": f"M{w.x0} {w.y0:.1f}C{w.x0 + 16} {w.y0:.1f} {w.x1 - 16} {w.y1:.1f} {w.x1} {w.y1:.1f}", "thick": f"{w.thick:.1f}", "label": w.label,
             "x": w.x0 + 14, "y": f"{_label_y(w):.1f}"} for w in d.ways]  # fmt: skip
    leaves = [{"if": " and ".join(found.path(n.number)) or "Always", "said": found.said(n), "share": f"{n.share:.0%}", "rows": f"{n.rows:,}", "fill": _fill(found, n)} for n in found.nodes if n.leaf]
    key = _key(found)
    asked = [{"name": name, "share": f"{v:.0%}", "width": f"{100 * v:.1f}"} for name, v in found.importance[:8]]
    return rendered("tree_diagram", title=title(found), banner=banner(found), boxes=boxes, ways=ways, width=d.width, height=d.height, wide=WIDE, tall=TALL, leaves=leaves, key=key, asked=asked)


def _label_y(w: Way) -> float:
    return (w.y0 + w.y1) / 2 + (-16 if w.y1 < w.y0 else 22) + (w.y1 - w.y0) * 0.12


def _key(found: Any) -> str:
    if len(found.labels) > 2:
        return "Each class has a hue, the stronger the surer. The thicker a way, the more rows go it."
    what = f"the share of {found.labels[1]}" if found.labels else found.name or "the answer"
    mean = f"{found.nodes[0].answer[-1]:.0%}" if found.labels else number(found.nodes[0].answer[0], 4)
    return f"Red: {what} lies above its mean over all rows, {mean}; blue: below. The thicker a way, the more rows go it. Upper way: yes; lower way: no."


def figure(found: Any) -> "Figure":
    """The diagram as a figure."""
    d = laid(found)
    made = headed(found, title(found), max(7.5, d.width / 72 + 0.5), d.height / 72 + 0.75)
    draw(found, place(made, 0.25, 0.85, 0.25, 0.45))
    return made


def draw(found: Any, ax: "Axes") -> "Axes":
    """Into axes of yours."""
    from matplotlib.patches import FancyBboxPatch, PathPatch
    from matplotlib.path import Path

    d = laid(found)
    for w in d.ways:
        curve = Path([(w.x0, w.y0), (w.x0 + 16, w.y0), (w.x1 - 16, w.y1), (w.x1, w.y1)], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        ax.add_patch(PathPatch(curve, fill=False, edgecolor="#b9c0c7", lw=w.thick, capstyle="butt", zorder=1))
        ax.text(w.x0 + 14, _label_y(w), w.label, size=7.5, color=MUTED, ha="center", va="center")
    for b in d.boxes:
        ax.add_patch(FancyBboxPatch((b.x, b.y), WIDE, TALL, boxstyle=f"round,pad=0,rounding_size={14 if b.leaf else 4}", facecolor=b.fill, edgecolor="white", lw=1.2, zorder=2))
        middle, one = b.x + WIDE / 2, len(b.lines) == 1
        size, weight = (9.5, "bold") if b.leaf else (8.5, "normal")
        for i, t in enumerate(b.lines):
            ax.text(middle, b.y + (TALL / 2 - 8 if one else 15 + 15 * i), t, size=size, weight=weight, color=ON_COLOUR, ha="center", va="center", parse_math=False, zorder=3)
        ax.text(middle, b.y + TALL - (15 if one else 11), b.small, size=7.5, color="#39424b", ha="center", va="center", parse_math=False, zorder=3)
    ax.set(xlim=(0, d.width), ylim=(d.height, 0), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    ax.set_xlabel("\n".join(textwrap.wrap(_key(found), max(60, int(d.width / 4.4)))), size=7.5, color=MUTED, parse_math=False)
    return ax
