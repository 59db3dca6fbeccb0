"""The rules of the house. Each takes one file and gives back its complaints, as "line: what is wrong; what to do"."""

import ast
import re
import sys
from collections.abc import Iterator

from house.source import Source, declared

# Imports point down this list. Those of rank 3 stand side by side and do not know one another.
RANKS = {
    "core": 0, "modalities": 1, "backends": 2,
    "attribution": 3, "metrics": 3, "training": 3, "effects": 3, "counterfactuals": 3, "surrogates": 3, "examples": 3,
    "run": 4, "views": 5, "report": 6, "app": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
LONGEST_FUNCTION = 60
LONGEST_MODULE = 500
# These are read by `pellucid --help`, `list` and `--version`, which must not wait for torch.
WITHOUT_TORCH = re.compile(r"|core|core\.(card|errors|catalogue)|cli(\..+)?|__main__")
BROAD = {"Exception", "BaseException"}

# Spelled in halves, so that this file obeys its own rule.
UNFINISHED = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:wo" + r"rk|root|home/\w+|Users/\w+)/|\.\./sha" + r"red\b|\bC:\\\\?Users")


def arrows(source: Source) -> Iterator[str]:
    """Imports point one way."""
    if source.module in ("", "_version"):
        return
    here = _rank(source.layer)
    for line, target in _own_imports(source):
        there = target.split(".")[1] if "." in target else ""
        if there == source.layer or source.layer == "__main__":
            continue
        if not there:
            yield f"{line}: imports the front door, `pellucid`; import from the module that holds the name"
        elif _rank(there) >= here:
            yield f"{line}: {source.layer} imports {target}, which stands beside or above it; move the shared part down"


def known_layer(source: Source) -> Iterator[str]:
    """Every folder has its place in the order."""
    if source.module and source.layer not in RANKS:
        yield f"1: {source.layer} has no place in the order of imports; give it one in tests/house/rules.py"


def short_functions(source: Source) -> Iterator[str]:
    """No function is longer than sixty lines, its docstring not counted."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := _length(node)) > LONGEST_FUNCTION:
            yield f"{node.lineno}: {node.name} has {n} lines; split it, {LONGEST_FUNCTION} is the most"


def short_modules(source: Source) -> Iterator[str]:
    """No module is longer than five hundred lines, and the front door than sixty."""
    most = 60 if source.module == "" else LONGEST_MODULE
    if (n := len(source.text.splitlines())) > most:
        yield f"1: the file has {n} lines; {most} is the most"


def no_assert(source: Source) -> Iterator[str]:
    """`assert` disappears under -O and says nothing to a user."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield f"{node.lineno}: assert; raise an error of core/errors.py that says who needs what"


def no_broad_except(source: Source) -> Iterator[str]:
    """Only the runner may catch everything."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and source.layer != "run" and _broad(node.type):
            yield f"{node.lineno}: catches everything; name the exceptions, or use finally"


def light_imports(source: Source) -> Iterator[str]:
    """What the command line reads before it works does not import torch or anything else that is slow."""
    if not WITHOUT_TORCH.fullmatch(source.module):
        return
    for line, name in _imports(source.tree.body):
        if name.partition(".")[0] in declared()["core"] | declared()["extras"]:
            yield f"{line}: imports {name} when loaded; import it inside the function that needs it"


COMPILED = ("attribution._tree_kernels", "attribution._tree_lanes", "attribution._tree_tables")
"""Kernels are compiled by decorators, which an extra brings: these modules are imported inside the function that runs them (see test_imports)."""


def declared_imports(source: Source) -> Iterator[str]:
    """What is imported is declared; an extra is imported where it is used, never when a module loads."""
    core, extras = declared()["core"], declared()["extras"]
    at_load = set(_imports(source.tree.body))
    for line, name in _imports(ast.walk(source.tree)):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in core or top == "pellucid":
            continue
        if top not in extras:
            yield f"{line}: imports {name}, which pyproject.toml does not declare"
        elif (line, name) in at_load and source.module not in COMPILED:
            yield f"{line}: imports {name}, which comes with an extra, when loaded; import it inside the function that needs it"


def unfinished(text: str) -> Iterator[str]:
    """What is left to do is an issue, not a comment."""
    yield from (f"{n}: unfinished work is an issue, not a comment" for n, line in enumerate(text.splitlines(), 1) if UNFINISHED.search(line))


def machine_paths(text: str) -> Iterator[str]:
    """Nothing names a folder of the machine it was written on."""
    yield from (f"{n}: names {m[0]!r}, a folder of one machine" for n, line in enumerate(text.splitlines(), 1) if (m := MACHINE_PATHS.search(line)))


SOURCE_RULES = (arrows, known_layer, short_functions, short_modules, no_assert, no_broad_except, light_imports, declared_imports)
TEXT_RULES = (unfinished, machine_paths)


def _rank(layer: str) -> int:
    return RANKS.get(layer, -1)


def _own_imports(source: Source) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.partition(".")[0] == "pellucid")
        elif isinstance(node, ast.ImportFrom):
            base = source.absolute(node)
            if base == "pellucid":
                yield from ((node.lineno, f"{base}.{a.name}" if a.name in RANKS else base) for a in node.names if a.name != "__version__")
            elif base.startswith("pellucid."):
                yield node.lineno, base


def _imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or ""


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    skipped = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - skipped


def _broad(caught: ast.expr | None) -> bool:
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(p is None or (isinstance(p, ast.Name) and p.id in BROAD) for p in parts)
