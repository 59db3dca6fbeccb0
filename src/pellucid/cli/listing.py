"""`pellucid list`: what there is, one line each."""

import argparse
import ast
import importlib.util
import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.card import AXES, placed
from ..core.catalogue import entries
from ..core.errors import UsageError
from .exits import DONE


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Prints the list."""
    if args.by and args.kind == "models":
        raise UsageError("--by taxonomy places procedures; models have no place in it. List methods, metrics, effects, counterfactuals, surrogates or examples.")
    rows = models() if args.kind == "models" else procedures(args.kind)
    print(json.dumps(rows, indent=1) if args.json else grouped(rows) if args.by else table(rows))
    return DONE


def procedures(kind: str) -> list[dict[str, Any]]:
    """The procedures of a kind, from their cards."""
    return [{
        "name": e.name, "title": e.card.title, "summary": e.summary, "cost": e.card.cost, "package": e.module.partition(".")[0],
        "taxonomy": vars(placed(kind, e.card)),
    } for e in entries(kind).values()]  # fmt: skip


def grouped(rows: Sequence[dict[str, Any]]) -> str:
    """The same by place in the taxonomy: what it gives, how far it holds, for which models."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for r in rows:
        t = r["taxonomy"]
        groups.setdefault((t["gives"], t["scope"], t["reach"], t["stance"]), []).append(r)
    order = sorted(groups, key=lambda k: (AXES["gives"].index(k[0]), AXES["scope"].index(k[1]), k[2], k[3]))
    return "\n\n".join(f"{k[0]} · {k[1]} · {'any model' if k[2] == 'agnostic' else k[2]} · {k[3]}  ({len(groups[k])})\n{table(groups[k])}" for k in order) or "There is none yet."


def models() -> list[dict[str, Any]]:
    """The built-in models, read from the source so that no backend is loaded."""
    spec = importlib.util.find_spec("pellucid.backends")
    places = list(spec.submodule_search_locations or []) if spec else []
    tree = ast.parse((Path(places[0]) / "load.py").read_text(encoding="utf-8"))
    known = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.target.id == "BUILT_IN" and n.value)
    return [{"name": name, "title": name, "summary": line, "cost": ""} for name, (_, line) in known.items()]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Names on the left, what each answers on the right."""
    if not rows:
        return "There is none yet."
    wide = max(len(r["name"]) for r in rows) + 2
    room = max(shutil.get_terminal_size((100, 24)).columns - wide, 30)
    return "\n".join(_line(r, wide, room) for r in rows)


def _line(row: dict[str, Any], wide: int, room: int) -> str:
    lines = textwrap.wrap(row["summary"] or row["title"], room) or [""]
    return "\n".join(f"{row['name'] if i == 0 else '':<{wide}}{line}" for i, line in enumerate(lines))
