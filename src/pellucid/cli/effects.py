"""`pellucid effects`: how a model's answers depend on the columns of a table, into a directory."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.catalogue import entries
from ..core.errors import UnknownName, UsageError
from . import inputs
from .exits import DONE
from .explain import _bar
from .parser import parameters

if TYPE_CHECKING:
    from ..core.estimator import Fitted
    from ..core.model import Model

NAMES = ("effects.png", "report.html", "effects.json")


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, asks, keeps, and prints."""
    asked = _check(args)
    with contextlib.redirect_stdout(sys.stderr):
        found, code = _ask(args, asked)
        found = replace(found, provenance={**found.provenance, "command": shlex.join(["pellucid", *argv]), "code": code})
        _keep(found, args.out)
    if args.json:
        from ..run.store import to_json

        print(to_json({**found.to_dict(), **{k: str(Path(args.out) / n) for k, n in zip(("picture", "report", "numbers"), NAMES, strict=True)}}), end="")
    else:
        print("\n".join([*_lines(found), "", *(f"{w + ':':<14} {Path(args.out) / n}" for w, n in zip(("The picture", "The report", "The numbers"), NAMES, strict=True))]))
    return DONE


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that can be refused before a model is loaded; gives the method's parameters."""
    from ..run.store import check_writable

    check_writable(args.out)
    known = entries("effects")
    if args.method not in known:
        raise UnknownName("effect", args.method, known, "`pellucid list effects` shows them all.")
    asked, fields = parameters(args.parameters), [f.name for f in known[args.method].fields]
    for name in asked:
        if name not in fields:
            raise UnknownName(f"parameter of {args.method}", name, fields, f"It takes {', '.join(fields)}.")
    if args.by is not None and "by" not in fields:
        raise UsageError(f"--by goes with {', '.join(n for n, e in known.items() if any(f.name == 'by' for f in e.fields))}; {args.method} compares no groups.")
    table = inputs.read(Path(args.table))
    for name in [*_split(args.columns, table.columns), *args.drop, *([args.by] if args.by else []), *_kinds(args)]:
        for part in [name] if name in table.columns else name.split(":"):
            if part not in table.columns:
                raise UnknownName(f"column in {table.path.name}", part, table.columns)
    return asked


def _ask(args: argparse.Namespace, asked: dict[str, Any]) -> tuple["Fitted", str]:
    from ..backends.load import load
    from ..core.planner import Plan
    from ..run.effects import effect, labelled

    whole = inputs.read(Path(args.table))
    model = load(args.model, args.weights, args.trust, **({"takes": args.takes} if args.takes else {}))
    wanted = getattr(model, "columns", None)
    here = whole.only(wanted) if wanted is not None else whole.without(args.drop)
    data, lines = _data(here, model)
    columns, by, kinds = _split(args.columns, whole.columns) or None, args.by, _kinds(args) or None
    if by is not None and by not in here.columns:
        by = labelled(by, whole.only([by]).frame())
    plan = Plan.parse(args.batch_size) if isinstance(args.batch_size, str) else args.batch_size
    if not hasattr(data, "iloc"):
        model.columns = here.columns
    with _bar() as watcher:
        found = effect(model, data, columns, method=args.method, target=args.target, by=by, kinds=kinds, ids=None, seed=args.seed, batch_size=plan, progress=watcher, **asked)
    told = {"method": args.method, "target": args.target, "by": args.by, "kinds": kinds, "seed": args.seed, **asked}
    words = ", ".join(f"{k}={v!r}" for k, v in told.items() if v is not None)
    settings = "".join(f", {k}={v!r}" for k, v in (("weights", args.weights), ("trust", args.trust), ("takes", args.takes)) if v)
    return found, f"import pellucid as pel\n\nmodel = pel.load({args.model!r}{settings})\n{lines}\nfound = pel.effect(model, data, {columns!r}, {words})"


def _data(t: inputs.Table, model: "Model") -> tuple[Any, str]:
    """The rows as numbers where all cells are, else as a DataFrame; and the same in Python."""
    read = f"import pandas as pd\ndata = pd.read_csv({str(t.path)!r}, sep={t.mark!r})[{t.columns!r}]"
    rows = t.numbers() if getattr(model, "takes", "") != "frame" else None
    if rows is None:
        return t.frame(), read
    import numpy as np

    return np.array(rows), f"{read}.to_numpy()"


def _split(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """`age,income age:sex` as a list; a name that holds a comma itself is left whole."""
    return [part.strip() for word in given for part in ([word] if word in known else word.split(",")) if part.strip()]


def _kinds(args: argparse.Namespace) -> dict[str, str]:
    out = {}
    for pair in args.kinds:
        name, sign, kind = pair.partition("=")
        if not sign:
            raise UsageError(f"--kind needs COLUMN=KIND, such as zip=category; got {pair!r}.")
        out[name] = kind
    return out


def _keep(found: "Fitted", out: str) -> None:
    from ..run.store import Store, to_json
    from ..views import fitted

    with Store.create(Path(out)) as store:
        store.write(NAMES[0], fitted.image_bytes(found))
        store.write(NAMES[1], fitted.page(found))
        store.write(NAMES[2], to_json(found.to_dict()))


def _lines(found: "Fitted") -> Iterator[str]:
    """What was found, a line a curve: where the answer is lowest and highest, and how sure that is."""
    from ..views.caption import cut, measured, number
    from ..views.fitted import _view

    yield _view(found).title(found)
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
