"""The offline page: explanations, what they do not show, how to repeat them. One file, no script, nothing fetched."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .caption import caption, method_title, short_target
from .docstring import section
from .evidence import cost_text
from .fragment import article, summary
from .limits import limits
from .rendered import digest, rendered, sheets

if TYPE_CHECKING:
    from ..core.explanation import Explanation

ROOM = 1_700_000
"""Bytes: the pictures of one page, so that the whole stays below two megabytes."""
SIDES = (512, 320, 224, 128)
"""Pixels: the sides tried, largest first, until the pictures fit."""


def page(explanations: "Sequence[Explanation]") -> str:
    """One HTML page for explanations of one or several models and methods."""
    sheet = sheets("explanation.css", "players.css", "page.css")
    shown = [_section(e, articles) for e, articles in zip(explanations, _articles(explanations), strict=True)]
    return rendered(
        "page", style=sheet, digest=digest(sheet), title=_title(explanations),
        sections=shown, created=explanations[0].provenance.get("created", "") if explanations else "",
    )  # fmt: skip


def _articles(explanations: "Sequence[Explanation]") -> list[list[str]]:
    """Every row's article, with the pictures as large as the page has room for; rows without room are left out."""
    side = next((s for s in SIDES if sum(len(article(e, 0, s)) * len(e.target) for e in explanations) <= ROOM), SIDES[-1])
    room, kept = ROOM, list[list[str]]()
    for e in explanations:
        kept.append([])
        for row in range(len(e.target)):
            made = article(e, row, side, heading=2) if room > 0 else ""
            room -= len(made)
            if made and room > 0:
                kept[-1].append(made)
    return kept


def _title(explanations: "Sequence[Explanation]") -> str:
    first = explanations[0]
    words, answer = caption(first), first.predictions[0][0][0] if first.predictions and first.predictions[0] else ""
    many = sum(len(e.target) for e in explanations)
    if many > 1:
        return f"What {words.model} goes by in {many} answers"
    name = short_target(words.target)
    if answer.split(",")[0] == name:
        return f"Why {words.model} answers “{name}”"
    return f"What speaks for “{name}”, as {words.model} sees it"


def _section(e: "Explanation", articles: list[str]) -> dict[str, Any]:
    from ..core import catalogue

    entry = catalogue.entries("methods").get(e.method)
    told = section(entry.doc, "Units") if entry else ""
    asked = f"{method_title(e.method)} asks: {entry.summary}" if entry and entry.summary else ""
    return {
        "articles": articles, "left_out": len(e.target) - len(articles), "summary": summary(e, heading=2), "limits": limits(e), "asked": asked,
        "units": f"Units: {told}" if told else "", "command": e.provenance.get("command"), "python": e.provenance.get("code"), "facts": facts(e), "notes": e.provenance.get("notes", []),
    }  # fmt: skip


def facts(e: "Explanation") -> list[tuple[str, str]]:
    """Where an explanation comes from, as names and values."""
    p = e.provenance
    known = {
        "Model": p.get("spec") or p.get("model"), "Model's weights": p.get("model_hash"), "Inputs": _text(e.ids), "Inputs' hash": p.get("input_hash"),
        "Method": f"{e.method} ({_text(e.parameters)})" if e.parameters else e.method, "Place": e.at or "the input", "Target": _text(tuple(dict.fromkeys(e.target))),
        "Baseline": e.baseline if e.baseline != "none" else "the method has none", "Seed": str(e.seed), "Cost of the map": cost_text(e.cost),
        "Cost of the evidence": cost_text(e.evidence.cost) if e.evidence else "none was asked for", "Plan": e.cost.plan,
        "Versions": ", ".join(f"{k} {p[k]}" for k in ("pellucid", "torch", "python") if k in p), "Device": p.get("device"), "Threads": _text(p.get("threads")), "Made": p.get("created"),
    }  # fmt: skip
    return [(k, str(v)) for k, v in known.items() if v]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, default=str)
