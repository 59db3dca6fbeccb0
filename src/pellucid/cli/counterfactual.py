"""`pellucid counterfactual`: the least that would have had to be different for another answer, from the command line."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UsageError
from . import inputs, tables
from .exits import DONE
from .words import parameters

if TYPE_CHECKING:
    from ..counterfactuals import Counterfactuals


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, searches, keeps, prints."""
    from ..run.store import check_writable

    check_writable(args.out)
    wishes = _wishes(args)
    with contextlib.redirect_stdout(sys.stderr):
        found = _found(args, wishes)
        found = replace(found, provenance={**found.provenance, "command": shlex.join(["pellucid", *argv])})
        files = _keep(found, Path(args.out))
    if args.json:
        from ..run.store import to_json

        print(to_json({**files, "found": found.to_dict(), "said": [found.said(b) for b in range(len(found.ids))]}), end="")
    else:
        _print(found, files)
    return DONE


def _wishes(args: argparse.Namespace) -> dict[str, Any]:
    """What may change and what is wanted, as the front door takes it."""
    names = {k: _split(getattr(args, k)) for k in ("fixed", "increase", "decrease")}
    told = {"vary": None if args.vary is None else _split(args.vary), "ranges": dict(_range(r) for r in args.ranges), "one_hot": [_split(g) for g in args.one_hot]}
    plain = {k: getattr(args, k) for k in ("target", "at_least", "at_most", "margin", "n", "budget", "seed")}
    return names | told | plain | {"kinds": tables.kinds(args.kind)} | parameters(args.parameters)


def _split(words: Sequence[str]) -> list[str]:
    return [w for word in words for w in word.split(",") if w]


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=")
    if not sign or not name or not value:
        raise UsageError(f"{option} needs column=value, such as {example}; got {text!r}.")
    return name, value


def _range(text: str) -> tuple[str, Any]:
    """`age=18:70`, `age=18:` or `job=clerk|nurse`."""
    name, value = _pair(text, "--range", "age=18:70 or job=clerk|nurse")
    if ":" not in value:
        return name, [_cell(w) for w in value.split("|")]
    low, _, high = value.partition(":")
    return name, tuple(None if not v else _cell(v) for v in (low, high))


def _cell(word: str) -> Any:
    try:
        return int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        return word


def _found(args: argparse.Namespace, wishes: dict[str, Any]) -> "Counterfactuals":
    from ..run.counterfactual import counterfactual

    here = inputs.read(Path(args.table))
    rows = inputs.rows_named(args.row, here)
    behind = inputs.read(Path(args.data)) if args.data else here
    model = tables.model_of(args)
    here, behind = (tables.narrowed(t, model, [d for d in args.drop if d in t.columns]) for t in (here, behind))
    behind = behind.only(here.columns)
    rest = [i for i in range(len(behind.cells)) if args.data or i not in rows]
    if not rest:
        raise UsageError(f"Counterfactuals need rows that show what is usual; {args.table} has no others. Give --data FILE.")
    names = [f"{here.path.stem} row {i}" for i in rows]
    if getattr(model, "takes", "") == "frame" or here.numbers() is None or behind.numbers() is None:
        frame = here.frame()
        table, usual = frame.iloc[rows], (behind.frame() if args.data else frame).iloc[rest]
    else:
        import numpy as np

        kind = np.float64 if hasattr(model, "takes") else np.float32
        model.columns = here.columns
        table, usual = np.array(here.numbers(), kind)[rows], np.array(behind.numbers(), kind)[rest]
    return counterfactual(model, table, data=usual, ids=names, **wishes)


def _keep(found: "Counterfactuals", out: Path) -> dict[str, Any]:
    """Writes the pictures, the page and the numbers into a store; gives their paths."""
    from ..run.store import Store, slug
    from ..views.fitted import image_bytes, page

    pictures = [f"{slug(str(name))}.png" for name in found.ids]
    with Store.create(out) as store:
        for b, file in enumerate(pictures):
            store.write(file, image_bytes(found, row=b))
        store.write_json("counterfactual.json", {**found.to_dict(), "records": found.records()})
        store.write("report.html", page(found))
    return {"pictures": [str(out / p) for p in pictures], "numbers": str(out / "counterfactual.json"), "report": str(out / "report.html")}


def _print(found: "Counterfactuals", files: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..views.differences import lines

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for b in range(len(found.ids)):
        told = lines(found, b)
        console.print(told["said"], style="bold", markup=False)
        if told["mine"]:
            shown = Table("", "now", *(str(k + 1) for k in range(told["mine"])), box=None, pad_edge=False)
            for line in told["cells"]:
                shown.add_row(escape(line["name"]), escape(line["own"]), *("·" if s is None else escape(f"{s['arrow']} {s['to']}") for s in line["steps"]))
            for name, own, cells, _ in told["facts"]:
                shown.add_row(name, escape(own), *map(escape, cells), style="dim")
            console.print(shown)
        console.print()
    for note in found.notes:
        console.print(f"Note: {note}.", style="dim", markup=False)
    for what in ("report", "numbers"):
        console.print(f"The {what + ':':<9} {files[what]}", soft_wrap=True, markup=False)
    console.print(f"Pictures:     {', '.join(files['pictures'])}", soft_wrap=True, markup=False)
