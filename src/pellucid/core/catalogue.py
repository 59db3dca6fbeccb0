"""Which procedures there are. Their cards are read from the source, so that listing them imports nothing heavy."""

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import card as _card
from .card import Card
from .errors import UnknownName, UsageError

KINDS = {
    "methods": "pellucid.attribution", "metrics": "pellucid.metrics", "effects": "pellucid.effects", "counterfactuals": "pellucid.counterfactuals", "surrogates": "pellucid.surrogates",
    "examples": "pellucid.examples",
}  # fmt: skip
VERBS = {"methods": "attribute", "metrics": "score", "counterfactuals": "find"}
"""What marks a class of each kind; all others learn, and have the verb `fit`."""
ENTRY_POINTS = "pellucid.procedures"


@dataclass(frozen=True)
class Field:
    """One parameter, as the command line, the documentation and the app show it."""

    name: str
    default: Any
    meaning: str
    ge: float | None = None
    le: float | None = None
    unit: str = ""
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Entry:
    """One procedure of the catalogue."""

    name: str
    kind: str
    card: Card
    fields: tuple[Field, ...]
    summary: str
    doc: str
    module: str
    cls: str


@functools.cache
def entries(kind: str) -> dict[str, Entry]:
    """Every procedure of a kind by its name, our own first, then those of installed packages."""
    if kind not in KINDS:
        raise UnknownName("kind of procedure", kind, KINDS)
    found = {e.name: e for e in _package_entries(KINDS[kind], kind)}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if kind not in VERBS and point.name != kind:
            continue  # the verb does not tell them apart: the entry point's name does
        for e in _package_entries(point.value, kind):
            found.setdefault(e.name, e)
    return found


def named(kind: str, name: str) -> Entry:
    """The procedure of that name."""
    known = entries(kind)
    if name not in known:
        raise UnknownName(kind.removesuffix("s"), name, known, f"`pellucid list {kind}` shows them all.")
    return known[name]


def check_names(entry: Entry, parameters: Iterable[str]) -> None:
    """Refuses parameters that a procedure does not take."""
    known = [f.name for f in entry.fields]
    for given in parameters:
        if given not in known:
            raise UnknownName(f"parameter of {entry.name}", given, known, f"It takes {', '.join(known) or 'none'}.")


def load(kind: str, name: str) -> type:
    """The class behind a name."""
    entry = named(kind, name)
    return getattr(importlib.import_module(entry.module), entry.cls)


def make(kind: str, name: str, **parameters: Any) -> Any:
    """A procedure by name, with its parameters checked."""
    cls = load(kind, name)
    check_names(named(kind, name), parameters)
    return cls(**parameters)


def name_of(procedure: object) -> str:
    """The catalogue's name of a procedure or its class: its file's name in kebab-case."""
    cls = procedure if isinstance(procedure, type) else type(procedure)
    return cls.__module__.rpartition(".")[2].replace("_", "-")


def _package_entries(package: str, kind: str) -> Iterator[Entry]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return
    for place in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(place).glob("[!_]*.py")):
            yield from _file_entries(path, f"{package}.{path.stem}", kind)


def _file_entries(path: Path, module: str, kind: str) -> Iterator[Entry]:
    verb = VERBS.get(kind, "fit")
    for node in _classes(path).values():
        card = next((_literal(n.value, path) for n in node.body if isinstance(n, (ast.Assign, ast.AnnAssign)) and _name(n) == "card"), None)
        line = list(_lineage(node, path))
        if isinstance(card, Card) and any(isinstance(n, ast.FunctionDef) and n.name == verb for own, _ in line for n in own.body):
            doc = ast.get_docstring(node) or ""
            yield Entry(path.stem.replace("_", "-"), kind, card, _fields(line), doc.partition("\n")[0], doc, module, node.name)


def _fields(line: Sequence[tuple[ast.ClassDef, Path]]) -> tuple[Field, ...]:
    """A class's parameters, its own before those that it is given by what it is made from."""
    found = dict[str, Field]()
    for own, place in line:
        for n in own.body:
            if isinstance(n, ast.AnnAssign) and _is_param(n.value):
                found.setdefault(_name(n), _field(n, place))
    return tuple(found.values())


def _lineage(node: ast.ClassDef, path: Path) -> Iterator[tuple[ast.ClassDef, Path]]:
    """A class and those of its own file and package that it is made from, the nearest first, each with its file."""
    yield node, path
    beside = {alias.asname or alias.name: path.with_name(f"{n.module}.py") for n in _source(path).body if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module for alias in n.names}
    for name in [b.id for b in node.bases if isinstance(b, ast.Name)]:
        place = beside.get(name, path)
        if place.is_file() and name in (known := _classes(place)):
            yield from _lineage(known[name], place)


@functools.cache
def _source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    return {n.name: n for n in _source(path).body if isinstance(n, ast.ClassDef)}


def _name(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else ""


def _is_param(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "param"


def _field(node: ast.AnnAssign, path: Path) -> Field:
    f = _literal(node.value, path)
    return Field(_name(node), f.default, **f.metadata)


def _literal(node: ast.expr | None, path: Path) -> Any:
    """A card or a parameter is written with literals and the words of core/card.py only; nothing else is evaluated."""
    if node is None:
        return None
    words = {k: getattr(_card, k) for k in ("Card", "Needs", "Promise", "param")}
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and n.id not in words:
            raise UsageError(f"{path.name}: a card and its parameters need plain literals, so that they can be listed without importing torch; got the name {n.id!r}.")
    return eval(compile(ast.Expression(node), str(path), "eval"), {"__builtins__": {}}, words)  # noqa: S307 - our own source, names checked above
