"""`pellucid learn`: something learnt from a model and a table, from the command line."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.catalogue import check_names, entries
from ..core.errors import UnknownName
from . import inputs, tables
from .exits import DONE
from .words import parameters

if TYPE_CHECKING:
    from ..core.estimator import Fitted

KINDS = ("effects", "surrogates", "examples")
SHOWN = 30
"""Lines of the table that are printed; all are in the files."""


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, learns, keeps, prints."""
    asked = _check(args)
    with contextlib.redirect_stdout(sys.stderr):
        found = _learn(args, asked, argv)
        files = tables.keep(found, Path(args.out), args.method)
    if args.json:
        from ..run.store import to_json

        print(to_json({**files, "found": found.to_dict()}), end="")
    else:
        _print(found, files)
    return DONE


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that can be refused before anything slow is loaded; gives the method's parameters."""
    from ..run.store import check_writable

    tables.check_table(args.table)
    tables.kinds(args.kind)
    known = {name: entry for kind in KINDS for name, entry in entries(kind).items()}
    if args.method not in known:
        raise UnknownName("method to learn by", args.method, known, "`pellucid list surrogates`, `list examples` and `list effects` show them all.")
    asked = parameters(args.parameters)
    check_names(known[args.method], asked)
    check_writable(args.out)
    return asked


def _learn(args: argparse.Namespace, asked: dict[str, Any], argv: Sequence[str]) -> "Fitted":
    from ..run.learn import learn

    model = tables.model_of(args)
    rows, lines = tables.taken(tables.narrowed(inputs.read(Path(args.table)), model, args.drop), model)
    found = learn(model, rows, method=args.method, target=args.target, kinds=tables.kinds(args.kind), seed=args.seed, **asked)
    told = {"method": args.method, "target": args.target, "kinds": tables.kinds(args.kind), "seed": args.seed or None, **asked}
    facts = {"command": shlex.join(["pellucid", *argv]), "code": tables.code(args, lines, "pel.learn", told)}
    return replace(found, provenance={**found.provenance, **facts})


def _print(found: "Fitted", files: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, rows = Console(highlight=False, width=None if sys.stdout.isatty() else 120), found.table()
    for note in found.notes:
        console.print(note, style="bold", markup=False)
    names = list(dict.fromkeys(name for row in rows[:SHOWN] for name in row))
    shown = Table(*names, box=None, pad_edge=False)
    for row in rows[:SHOWN]:
        shown.add_row(*(_cell(row.get(name)) for name in names))
    console.print(shown, markup=False) if rows else None
    if len(rows) > SHOWN:
        console.print(f"... and {len(rows) - SHOWN:,} more rows in {files['numbers']}", style="dim", markup=False)
    for what, path in files.items():
        console.print(f"The {what + ':':<9} {path}", soft_wrap=True, markup=False)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}".replace("-", "−")
    return "" if value is None else escape(str(value))
