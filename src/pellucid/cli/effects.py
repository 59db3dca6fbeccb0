"""`pellucid effects`: how a model's answers depend on the columns of a table, into a directory."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.catalogue import check_names, entries, named
from ..core.errors import UnknownName, UsageError
from . import inputs, tables
from .asking import bar
from .exits import DONE
from .words import parameters

if TYPE_CHECKING:
    from ..core.estimator import Fitted


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, asks, keeps, and prints."""
    asked = _check(args)
    with contextlib.redirect_stdout(sys.stderr):
        found, code = _ask(args, asked)
        found = replace(found, provenance={**found.provenance, "command": shlex.join(["pellucid", *argv]), "code": code})
        files = tables.keep(found, Path(args.out), "effects")
    if args.json:
        from ..run.store import to_json

        print(to_json({**found.to_dict(), **files}), end="")
    else:
        print("\n".join([*_lines(found), "", *(f"The {what + ':':<9} {path}" for what, path in files.items())]))
    return DONE


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that can be refused before a model is loaded; gives the method's parameters."""
    from ..run.store import check_writable

    check_writable(args.out)
    asked = parameters(args.parameters)
    check_names(named("effects", args.method), asked)
    comparing = [n for n, e in entries("effects").items() if any(f.name == "by" for f in e.fields)]
    if args.by is not None and args.method not in comparing:
        raise UsageError(f"--by goes with {', '.join(comparing)}; {args.method} compares no groups.")
    table = inputs.read(Path(args.table))
    for name in [*_split(args.columns, table.columns), *args.drop, *([args.by] if args.by else []), *tables.kinds(args.kind)]:
        for part in [name] if name in table.columns else name.split(":"):
            if part not in table.columns:
                raise UnknownName(f"column in {table.path.name}", part, table.columns)
    return asked


def _ask(args: argparse.Namespace, asked: dict[str, Any]) -> tuple["Fitted", str]:
    from ..run.effects import effect, labelled

    whole, model = inputs.read(Path(args.table)), tables.model_of(args)
    here = tables.narrowed(whole, model, args.drop)
    data, lines = tables.taken(here, model)
    columns, by, kinds = _split(args.columns, whole.columns) or None, args.by, tables.kinds(args.kind) or None
    if by is not None and by not in here.columns:
        by = labelled(by, whole.only([by]).frame())
    with bar() as watcher:
        found = effect(model, data, columns, method=args.method, target=args.target, by=by, kinds=kinds, seed=args.seed, batch_size=args.batch_size, progress=watcher, **asked)
    told = {"columns": columns, "method": args.method, "target": args.target, "by": args.by, "kinds": kinds, "seed": args.seed or None, **asked}
    return found, tables.code(args, lines, "pel.effect", told)


def _split(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """`age,income age:sex` as a list; a name that holds a comma itself is left whole."""
    return [part.strip() for word in given for part in ([word] if word in known else word.split(",")) if part.strip()]


def _lines(found: "Fitted") -> Iterator[str]:
    """What was found, a line a curve: where the answer is lowest and highest, and how sure that is."""
    from ..views.caption import cut, measured, number
    from ..views.fitted import title

    yield title(found)
    rows = found.table()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((str(r.get("column", "")), str(r.get("cohort", ""))), []).append(r)
    if not all("effect" in r for r in rows):
        yield from ("  " + "  ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in r.items() if v is not None) for r in rows[:40])
    else:
        for (column, cohort), own in groups.items():
            low, high = min(own, key=lambda r: r["effect"]), max(own, key=lambda r: r["effect"])
            name = column if cohort == "all rows" else f"{column}, {cohort}"
            ends = [f"{w} {measured(r['effect'], r['error'])} at {cut(r['value'], 24)}" for w, r in (("lowest", low), ("highest", high))]
            yield f"  {cut(name, 34):<34}  {ends[0]:<46}  {ends[1]}"
    yield from (f"Note: {note}." for note in found.notes)
