"""`pellucid explain`: a question from the command line, answered into a directory."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.catalogue import check_names, named
from ..core.errors import UsageError
from . import asking, inputs
from .exits import DONE, GATE_FAILED, say
from .words import parameters

if TYPE_CHECKING:
    from ..core.explanation import Explanation

GOOD_ENOUGH = {"supported": ("supported",), "doubtful": ("supported", "doubtful")}
"""The verdicts that pass a gate."""


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Checks what can be checked at once, explains, keeps, prints, and judges the gate."""
    asked = _check(args)
    with contextlib.redirect_stdout(sys.stderr):
        e, given = _explain(args, asked)
        e = e.with_(provenance={**e.provenance, "command": shlex.join(["pellucid", *argv]), "code": code(args, e, given, asked)})
        name, pictures = keep(e, Path(args.out))
    if args.json:
        _print_json(e, Path(args.out), name, pictures)
    else:
        _print(e, Path(args.out), pictures)
    return _judge(e, args.gate)


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that can be refused before anything slow is loaded; gives the method's parameters."""
    from ..run.store import check_writable

    check_writable(args.out)
    if args.gate and args.evidence == "none":
        raise UsageError("--gate needs evidence to judge; got --evidence none. Leave one of the two out.")
    if args.against is not None and args.target is None:
        raise UsageError("--against needs --target: explain which class rather than that one?")
    inputs.kind_of(args)
    asked = parameters(args.parameters)
    game = {k: v for k in ("masker", "budget", "tol") if (v := getattr(args, k)) is not None}
    if args.method != "auto":
        texts = game.get("masker") in asking.UNITS
        check_names(named("methods", args.method), [n for n in asked | game if not (n == "masker" and texts)])
    elif asked:
        raise UsageError(f"--set gives parameters to a method; got {', '.join(asked)} and no --method. Name the method.")
    return asked | game


def _explain(args: argparse.Namespace, asked: dict[str, Any]) -> tuple["Explanation", inputs.Given]:
    from ..core.target import Contrast
    from ..run.explain import explain

    model = asking.model_of(args)
    given = asking.given(args, model)
    target = args.target if args.against is None else Contrast(args.target, args.against)
    with asking.bar() as watcher:
        e = explain(
            model, given.inputs, method=args.method, target=target, at=args.at, baseline=given.baseline if given.baseline is not None else args.baseline, evidence=args.evidence,
            ids=given.ids, seed=args.seed, batch_size=args.batch_size, progress=watcher, **asked,
        )  # fmt: skip
    return e.with_(provenance={**e.provenance, "notes": [*e.provenance["notes"], *given.notes]}), given


def keep(e: "Explanation", out: Path) -> tuple[str, list[str]]:
    """Writes the store: the results, a picture a row, the report; gives the name and the pictures' file names."""
    from ..report.write import add_report
    from ..run.store import Store, slug
    from ..views.explanation import image_bytes

    with Store.create(out) as store:
        name = store.add(e, "explanation" if len(e) > 1 else None)
        pictures: list[str] = []
        for row in range(len(e)):
            file = f"{slug(str(e.ids[row]))}.png"
            file = file if file not in pictures else f"{slug(str(e.ids[row]))}-{row}.png"
            store.write(file, image_bytes(e, "png", row))
            pictures.append(file)
        add_report(store)
    return name, pictures


def code(args: argparse.Namespace, e: "Explanation", given: inputs.Given, asked: dict[str, Any]) -> str:
    """The same question in Python."""
    target = repr(args.target) if args.against is None else f"pel.Contrast({args.target!r}, {args.against!r})"
    told: dict[str, str] = {"method": repr(e.method)}
    told |= {"target": target} if args.target is not None else {}
    told |= {k: repr(v) for k, v in (("at", args.at), ("baseline", args.baseline), ("batch_size", args.batch_size)) if v is not None}
    told |= {"baseline": "background"} if given.baseline is not None else {}
    if isinstance(args.batch_size, str):
        told["batch_size"] = f"pel.Plan.parse({args.batch_size!r})"
    told |= {"evidence": repr(args.evidence), "seed": repr(args.seed)} | {k: repr(v) for k, v in asked.items()}
    settings = {k: v for k, v in (("weights", args.weights), ("trust", args.trust), ("fold", args.fold), *asking.settings(args).items()) if v}
    load = ", ".join([repr(args.model), *(f"{k}={v!r}" for k, v in settings.items())])
    words = ", ".join(f"{k}={v}" for k, v in told.items())
    lines = "\n".join(given.code)
    return f"import pellucid as pel\n\nmodel = pel.load({load})\n{lines}\ne = pel.explain(\n    model, inputs, ids={given.ids!r},\n    {words},\n)"


def _print(e: "Explanation", out: Path, pictures: list[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(e)
    for note in e.provenance.get("notes", ()):
        console.print(f"Note: {note}.", style="dim", markup=False)
    console.print()
    shown = {"The report": ["report.html"], "The picture" if len(pictures) == 1 else "The pictures": pictures, "The numbers": ["results.json"]}
    for what, files in shown.items():
        console.print(f"{what + ':':<14} {', '.join(str(out / f) for f in files)}", soft_wrap=True, markup=False)


def _print_json(e: "Explanation", out: Path, name: str, pictures: list[str]) -> None:
    from ..run.store import to_json

    files = {"report": str(out / "report.html"), "results": str(out / "results.json"), "pictures": [str(out / p) for p in pictures]}
    print(to_json({"name": name, "verdict": e.evidence.verdict if e.evidence else None, **files, "explanation": e.to_dict()}), end="")


def _judge(e: "Explanation", gate: str | None) -> int:
    if gate is None or e.evidence is None:
        return DONE
    if e.evidence.verdict in GOOD_ENOUGH[gate]:
        return DONE
    say(f"The gate asks for a verdict of at least {gate!r}; this explanation is {e.evidence.verdict}.")
    return GATE_FAILED
