"""Evidence in the words, marks and curves every view shares."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .caption import number

if TYPE_CHECKING:
    from ..core.explanation import Cost, Explanation, Reading
    from .panels import Panel

VERDICTS = {
    "supported": ("Supported", "good"),
    "doubtful": ("Doubtful", "doubtful"),
    "contradicted": ("Contradicted", "bad"),
}
"""A verdict's word and its tone."""
MARKS = {"good": "✓", "doubtful": "?", "bad": "✗", "fact": "·", "not applicable": "–"}
"""A tone's mark, so that no verdict is told by colour alone."""


@dataclass(frozen=True)
class Judgement:
    """A verdict as it is shown: its word, tone and mark, why, and what it does not say."""

    word: str
    tone: str
    mark: str
    reasons: tuple[str, ...]
    note: str


def judgement(e: "Explanation", row: int | None = None) -> Judgement | None:
    """The verdict over all rows, or one row's own; None where no evidence was asked for."""
    if e.evidence is None:
        return None
    rows = e.evidence.rows
    if row is None or len(rows) < 2:
        word, tone = VERDICTS[e.evidence.verdict]
        return Judgement(word, tone, MARKS[tone], e.evidence.reasons, e.evidence.note)
    word, tone = VERDICTS[rows[row]]
    return Judgement(word, tone, MARKS[tone], (f"This is the verdict on this row. Over all {len(rows)} rows: {e.evidence.verdict}.",), e.evidence.note)


def readings(e: "Explanation", row: int | None = None) -> "tuple[Reading, ...]":
    """The readings that say something: of one row, those that have a value there."""
    told = e.evidence.readings if e.evidence else ()
    return tuple(r for r in told if row is None or (row < len(r.rows) and r.rows[row] is not None))


def cost_text(cost: "Cost") -> str:
    """What something cost: "128 forward, 24 backward, 1.4 s"; "nothing more" where it rode along."""
    rows = [f"{n:,} {word}" for n, word in ((cost.forward_rows, "forward"), (cost.backward_rows, "backward")) if n]
    told = [*rows, f"{cost.seconds:.2g} s"] if rows or cost.seconds >= 0.005 else []
    return ", ".join(told) or "nothing more"


def value_text(reading: "Reading", row: int | None = None) -> str:
    """A reading's value with its unit: one row's where a row is given, the mean over rows otherwise."""
    value = reading.rows[row] if row is not None and row < len(reading.rows) else reading.value
    return number(value) if value is None else f"{number(value)} {reading.unit}".strip()


def ends(panel: "Panel", target: str) -> tuple[str, str]:
    """What the two ends of a colour bar mean, in words and signs."""
    if panel.scale.signed:
        return f"− lowers {target}", f"raises {target} +"
    return "no part", f"most for {target}"


def legend(panel: "Panel", outlined: bool) -> list[str]:
    """How to read a map: what the lines enclose, what the colours leave out."""
    lines = "The solid line and + enclose what raises it most; the dashed line and − what lowers it." if outlined else ""
    if panel.regions is not None:
        lines = "Numbered are the strongest: ▲ and a solid line raise it, ▼ and a dashed line lower it. The list has their values."
    scale = panel.scale.words() + (f"; {panel.note}" if panel.note else "")
    return [t for t in (lines, scale[:1].upper() + scale[1:] + ".") if t]


@dataclass(frozen=True)
class Drawing:
    """A curve laid out for an SVG: the path, its points, the axes' ends and names, in drawing units."""

    width: int
    height: int
    path: str
    points: tuple[tuple[str, str], ...]
    left: int
    right: int
    top: int
    bottom: int
    zero: str
    x: tuple[str, str]
    y: tuple[str, str]
    xlabel: str
    ylabel: str


def curve(reading: "Reading", width: int = 340, height: int = 160) -> Drawing | None:
    """A reading's curve, laid out; None where it has none."""
    told = reading.curve or {}
    points = [(x, y) for x, y in zip(told.get("x", ()), told.get("y", ()), strict=False) if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2:
        return None
    left, right, top, bottom = 44, width - 12, 12, height - 22
    (x0, x1), (y0, y1) = _span([p[0] for p in points]), _span([p[1] for p in points])

    def up(y: float) -> str:
        return f"{bottom - (y - y0) / (y1 - y0) * (bottom - top):.1f}"

    at = tuple((f"{left + (x - x0) / (x1 - x0) * (right - left):.1f}", up(y)) for x, y in points)
    return Drawing(
        width, height, path_of(at), at if len(at) <= 24 else (), left, right, top, bottom, up(0.0) if y0 < 0 < y1 else "",
        (number(x0), number(x1)), (number(y0, 2), number(y1, 2)), str(told.get("xlabel", "")), str(told.get("ylabel", "")),
    )  # fmt: skip


def path_of(points: Iterable[tuple[str, str]]) -> str:
    """Points as the `d` of an SVG path."""
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
