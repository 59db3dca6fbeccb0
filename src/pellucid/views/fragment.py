"""An explanation as one self-contained HTML fragment: what a notebook shows and the page is made of."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from . import paint
from .caption import caption, number, short_target
from .evidence import MARKS, cost_text, curve, ends, judgement, legend, readings, value_text
from .panels import Panel, panels

if TYPE_CHECKING:
    from ..core.explanation import Explanation


def fragment(e: "Explanation") -> str:
    """The explanation with its style sheet, every row one article; no script, nothing fetched."""
    rows = [article(e, row) for row in range(len(e.target))]
    return templates().get_template("fragment.html.j2").render(style=style("explanation.css"), summary=summary(e), articles=rows)


def article(e: "Explanation", row: int, side: int = 512, heading: int = 3) -> str:
    """One row: the picture and its map, what the model answers, and the verdict with its evidence (or its own values, where several rows share the evidence)."""
    words, alone = caption(e, row), len(e.target) == 1
    values = {
        "words": words, "panels": [_panel(p, short_target(words.target), side) for p in panels(e, row)], "predictions": _predictions(e, row), "verdict": judgement(e, row),
        "evidence": evidence_rows(e) if alone else [], "values": [] if alone else [(r.title, value_text(r, row)) for r in readings(e, row)], "h": f"h{heading}",
    }  # fmt: skip
    return templates().get_template("article.html.j2").render(values)


def summary(e: "Explanation", heading: int = 3) -> str:
    """The verdict over several rows and the evidence for it; nothing for a single row, whose article says it all."""
    if len(e.target) == 1 or e.evidence is None:
        return ""
    return templates().get_template("summary.html.j2").render(rows=len(e.target), verdict=judgement(e), evidence=evidence_rows(e), h=f"h{heading}")


@functools.cache
def templates() -> jinja2.Environment:
    """The templates; every value in them is escaped."""
    return jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)


@functools.cache
def style(*names: str) -> str:
    """Our own style sheets as they stand."""
    return "\n".join((Path(__file__).parent / "templates" / n).read_text(encoding="utf-8") for n in names)


def evidence_rows(e: "Explanation") -> list[dict[str, Any]]:
    """The evidence table's rows, every value in words."""
    return [
        {
            "title": r.title, "meaning": r.meaning, "value": value_text(r), "sentence": r.sentence, "verdict": r.verdict, "mark": MARKS[r.verdict],
            "cost": cost_text(r.cost), "curve": curve(r),
        }
        for r in readings(e)
    ]  # fmt: skip


def _predictions(e: "Explanation", row: int) -> list[dict[str, Any]]:
    told = e.predictions[row] if row < len(e.predictions) else []
    name = short_target(e.target[row])
    return [{"name": n, "percent": f"{100 * p:.1f}", "width": f"{100 * max(0.0, min(1.0, p)):.1f}", "asked": n.split(",")[0] == name} for n, p in told]


def _panel(panel: Panel, target: str, side: int) -> dict[str, Any]:
    low, high = ends(panel, target)
    outlines = paint.outlines(panel)
    common = {"kind": panel.kind, "legend": legend(panel, bool(outlines)), "low": low, "high": high, "signed": panel.scale.signed, "target": target}
    common |= {"from": number(panel.scale.low), "to": number(panel.scale.high), "bar": paint.uri(paint.bar(panel.scale))}
    if panel.kind == "bars":
        return common | {"features": _features(panel)}
    height, width = (panel.picture if panel.picture is not None else panel.heat).shape[:2]
    small = max(height, width) < 128
    common |= {"map": paint.uri(paint.overlay(panel), side), "height": height, "width": width, "small": small, "outlines": [paint.scaled(o, max(height, width)) for o in outlines]}
    return common | {"picture": paint.uri(panel.picture, side) if panel.picture is not None else "", "axes": panel.axes}


def _features(panel: Panel) -> list[dict[str, Any]]:
    """Bars from a middle line: where each starts and how long it is, in percent."""
    most = max(float(abs(panel.heat).max()), 1e-300)
    middle, reach = (50.0, 50.0) if panel.scale.signed else (0.0, 100.0)
    out = []
    for label, v in zip(panel.labels, panel.heat.tolist(), strict=True):
        long = abs(v) / most * reach
        out.append({"name": label, "value": number(v), "x": f"{middle - long if v < 0 else middle:.2f}", "width": f"{long:.2f}", "sign": "lowers" if v < 0 else "raises"})
    return out
