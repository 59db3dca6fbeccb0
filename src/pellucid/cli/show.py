"""`pellucid show NAME`: what a procedure answers, its parameters, and when it misleads."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from ..core.card import Needs, Promise, placed
from ..core.catalogue import KINDS, Entry, Field, entries
from ..core.errors import UnknownName
from ..views.docstring import sections
from . import listing
from .exits import DONE


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Prints one procedure or model."""
    for kind in KINDS:
        if args.name in entries(kind):
            entry = entries(kind)[args.name]
            print(json.dumps(facts(entry), indent=1, default=str) if args.json else "\n".join(page(entry)))
            return DONE
    for model in listing.models():
        if model["name"] == args.name:
            print(json.dumps(model, indent=1) if args.json else f"{model['name']}\n{model['summary']}")
            return DONE
    known = [n for kind in KINDS for n in entries(kind)] + [m["name"] for m in listing.models()]
    raise UnknownName("method, metric or model", args.name, known, "`pellucid list methods` shows what there is.")


def facts(entry: Entry) -> dict[str, Any]:
    """Everything the catalogue knows, as data."""
    card = entry.card
    return {
        "name": entry.name, "kind": entry.kind, "title": card.title, "summary": entry.summary, "paper": card.paper, "cost": card.cost, "signed": card.signed, "random": card.random,
        "needs": _flags(Needs, card.needs), "promises": _flags(Promise, card.promises), "sections": sections(entry.doc), "taxonomy": vars(placed(entry.kind, card)),
        "parameters": [{"name": f.name, "default": f.default, "meaning": f.meaning, "ge": f.ge, "le": f.le, "unit": f.unit, "choices": f.choices} for f in entry.fields],
        "class": f"{entry.module}.{entry.cls}",
    }  # fmt: skip


def page(entry: Entry) -> Iterator[str]:
    """The procedure as text for a terminal."""
    room = min(shutil.get_terminal_size((100, 24)).columns, 100)
    told = sections(entry.doc)
    yield f"{entry.name}  ({entry.card.title})"
    yield from textwrap.wrap(entry.summary, room)
    yield ""
    lines: list[tuple[str, str]] = [(heading, told[heading]) for heading in ("How", "Units", "Misleads when") if heading in told]
    lines += [("Needs", ", ".join(_flags(Needs, entry.card.needs))), ("Promises", ", ".join(_flags(Promise, entry.card.promises)) or "nothing")]
    lines += [("Place", placed(entry.kind, entry.card).words())]
    lines += [("Cost", entry.card.cost), ("Source", told.get("Source") or entry.card.paper)]
    for heading, text in lines:
        yield from textwrap.wrap(text, room, initial_indent=f"{heading + ':':<16}", subsequent_indent=" " * 16) if text else ()
    yield from _parameters(entry, room)


def _parameters(entry: Entry, room: int) -> Iterator[str]:
    if not entry.fields:
        yield "\nIt takes no parameters."
        return
    yield "\nParameters (--set NAME=VALUE):"
    wide = max(len(f.name) for f in entry.fields) + 4
    for f in entry.fields:
        yield from textwrap.wrap(_parameter(f), room, initial_indent=f"  {f.name:<{wide - 2}}", subsequent_indent=" " * wide)
    example = entry.fields[0]
    if entry.kind == "methods":
        yield f"\nFor example:  pellucid explain sample:coffee --model efficientnet-lite0 --method {entry.name} --set {example.name}={example.default}"


def _parameter(f: Field) -> str:
    bounds = " and ".join(filter(None, [f"at least {f.ge:g}" if f.ge is not None else "", f"at most {f.le:g}" if f.le is not None else ""]))
    words = f"one of {', '.join(f.choices)}" if f.choices else ""
    limits = [f"{bounds}, or {words.removeprefix('one of ')}" if bounds and words else bounds or words]
    told = "; ".join(filter(None, [f"in {f.unit}" if f.unit else "", *limits, f"default {f.default}"]))
    return f"{f.meaning} ({told})"


def _flags(kind: type[Needs] | type[Promise], value: Needs | Promise) -> list[str]:
    return [str(f.name).lower().replace("_", "-") for f in kind if f in value and f.value]
