"""An explanation as one self-contained HTML fragment: what a notebook shows and the page is made of."""

from typing import TYPE_CHECKING, Any

from .caption import caption, short_target
from .choose import all_rows, scenes
from .evidence import MARKS, cost_text, curve, judgement, readings, value_text
from .rendered import rendered, style

if TYPE_CHECKING:
    from ..core.explanation import Explanation


def fragment(e: "Explanation") -> str:
    """The explanation with its style sheet, every row one article; no script, nothing fetched."""
    rows = [article(e, row) for row in range(len(e.target))]
    return rendered("fragment", style=style(), summary=summary(e), articles=rows)


def article(e: "Explanation", row: int, side: int = 512, heading: int = 3) -> str:
    """One row: the picture and its map, what the model answers, and the verdict with its evidence (or its own values, where several rows share the evidence)."""
    words, alone = caption(e, row), len(e.target) == 1
    values = {
        "words": words, "scenes": [s.html(side) for s in scenes(e, row)], "predictions": _predictions(e, row), "verdict": judgement(e, row),
        "evidence": evidence_rows(e) if alone else [], "values": [] if alone else [(r.title, value_text(r, row)) for r in readings(e, row)], "h": f"h{heading}",
    }  # fmt: skip
    return rendered("article", **values)


def summary(e: "Explanation", heading: int = 3) -> str:
    """All rows in one view where they share a table, and the verdict over several with the evidence for it; nothing for a single row, whose article says it all."""
    swarm = all_rows(e)
    if len(e.target) == 1 or (e.evidence is None and swarm is None):
        return ""
    words = caption(e)
    settings = [f"{words.title} of {swarm.target}", *words.settings()] if swarm is not None else []
    verdict = judgement(e) if e.evidence is not None else None
    return rendered("summary", rows=len(e.target), scene=swarm.html() if swarm is not None else "", settings=settings, verdict=verdict, evidence=evidence_rows(e), h=f"h{heading}")


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
