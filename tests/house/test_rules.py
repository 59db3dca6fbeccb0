"""The whole source obeys the rules of the house."""

import ast
from collections.abc import Callable, Iterator

import pytest

from house.rules import SOURCE_RULES, TEXT_RULES
from house.source import PACKAGE, ROOT, Source, package, tracked


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda r: r.__name__)
def test_source_obeys(rule: Callable[[Source], Iterator[str]]) -> None:
    complaints = [f"{s.module or 'pellucid'}:{c}" for s in package() for c in rule(s)]
    assert not complaints, f"{rule.__doc__}\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda r: r.__name__)
def test_text_obeys(rule: Callable[[str], Iterator[str]]) -> None:
    complaints = [f"{p.relative_to(ROOT)}:{c}" for p in tracked() for c in rule(p.read_text(encoding="utf-8"))]
    assert not complaints, f"{rule.__doc__}\n" + "\n".join(complaints)


@pytest.mark.parametrize("kind", ["attribution", "metrics"])
def test_every_procedure_is_in_its_package(kind: str) -> None:
    """A file that is not imported in `__init__` is a procedure that `import pellucid.attribution` does not have."""
    wanted = {p.stem for p in (PACKAGE / kind).glob("[!_]*.py")}
    front = (PACKAGE / kind / "__init__.py").read_text(encoding="utf-8") if wanted else ""
    imported = {n.module for n in ast.walk(ast.parse(front)) if isinstance(n, ast.ImportFrom) and n.level == 1}
    assert wanted <= imported, f"{kind}/__init__.py does not import {', '.join(sorted(wanted - imported))}"


def test_there_is_a_source_to_check() -> None:
    """Rules that read nothing complain of nothing."""
    assert len(package()) > 3
