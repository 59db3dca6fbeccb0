"""`pellucid compare`: several methods on the same inputs, from the command line, into a directory."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.catalogue import named
from ..core.errors import CannotComplete, UnknownName, UsageError
from . import asking, inputs
from .exits import DONE
from .words import parameters

if TYPE_CHECKING:
    from ..run.comparison import Comparison


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, compares, keeps and prints."""
    methods, metrics, asked = check(args)
    with contextlib.redirect_stdout(sys.stderr):
        found = compared(args, methods, metrics, asked, shlex.join(["pellucid", *argv]))
    if args.json:
        print_json(found, Path(args.out))
    else:
        show(found, Path(args.out))
    return DONE


def check(args: argparse.Namespace) -> tuple[list[str], list[str], dict[str, Any]]:
    """Everything that can be refused before anything slow is loaded."""
    from ..run.store import check_writable

    check_writable(args.out)
    inputs.kind_of(args)
    methods, metrics = names(args.methods, "methods"), names(args.metrics, "metrics")
    asked = parameters(args.parameters) | {k: v for k in ("masker", "budget", "tol") if (v := getattr(args, k)) is not None}
    fields = {f.name for m in methods for f in named("methods", m).fields}
    for name in asked:
        if name not in fields and not (name == "masker" and asked[name] in asking.UNITS):
            raise UnknownName("parameter of these methods", name, fields)
    return methods, metrics, asked


def names(given: str, kind: str) -> list[str]:
    """Names with commas between them, all of which the catalogue knows."""
    found = [n.strip() for n in given.split(",") if n.strip()]
    if not found:
        raise UsageError(f"--{kind} needs names with commas between them, such as {'integrated-gradients,grad-cam' if kind == 'methods' else 'mask-fidelity,class-dependence'}.")
    for n in found:
        named(kind, n)
    return found


def compared(args: argparse.Namespace, methods: list[str], metrics: list[str], asked: dict[str, Any], command: str) -> "Comparison":
    """The comparison, kept in the directory with its page and its picture."""
    import dataclasses

    from ..run.compare import compare
    from ..run.store import Store
    from ..views.fitted import image_bytes, page

    model = asking.model_of(args)
    given = asking.given(args, model)
    baseline = given.baseline if given.baseline is not None else args.baseline
    try:
        with asking.bar() as watcher:
            found = compare(model, given.inputs, methods=methods, metrics=metrics, target=args.target, at=args.at, baseline=baseline, ids=given.ids, seed=args.seed, batch_size=args.batch_size,
                            chunk=args.chunk, store=args.out, resume=args.resume, progress=watcher, **asked)  # fmt: skip
    except KeyboardInterrupt:
        raise CannotComplete(f"Interrupted; finished chunks are kept in {args.out}. The same command with --resume goes on from there.") from None
    found = dataclasses.replace(found, provenance={**found.provenance, "command": command})
    with Store.create(args.out) as store:
        store.write_json("comparison.json", found.to_dict())
        store.write("comparison.html", page(found))
        store.write("comparison.png", image_bytes(found))
    return found


def show(found: "Comparison", out: Path) -> None:
    """Findings, a table, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    from ..run.comparison import title
    from ..views.caption import number

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for finding in found.findings():
        console.print(finding, markup=False)
    table = Table(box=None, pad_edge=False)
    for head in ("method", "verdict", *map(title, found.metrics), "rows", "s"):
        table.add_column(head, justify="left" if head in ("method", "verdict") else "right", no_wrap=head in ("method", "verdict"))
    for r in found.table():
        cells = [number(r[m], 2) + (f" ({number(r[f'{m} low'], 2)} to {number(r[f'{m} high'], 2)})" if k == 0 and r[f"{m} low"] is not None else "") for k, m in enumerate(found.metrics)]
        cost = ["", ""] if r["control"] else [f"{r['forward rows a row'] + r['backward rows a row']:.0f}", number(r["seconds a row"], 2)]
        table.add_row(r["method"] + (" (control)" if r["control"] else ""), r["verdict"] or "", *cells, *cost)
    console.print()
    console.print(table)
    console.print(f"\nThe page:      {out / 'comparison.html'}\nThe picture:   {out / 'comparison.png'}\nThe numbers:   {out / 'comparison.json'}", soft_wrap=True, markup=False)


def print_json(found: "Comparison", out: Path) -> None:
    """The comparison as JSON, and where the files are."""
    from ..run.store import to_json

    print(to_json({"page": str(out / "comparison.html"), "picture": str(out / "comparison.png"), "comparison": found.to_dict()}), end="")
