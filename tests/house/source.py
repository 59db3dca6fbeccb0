"""The source as the house rules see it: parsed files, and the names of everything that git tracks."""

import ast
import functools
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pellucid"


@dataclass(frozen=True)
class Source:
    """One Python file of the package; `module` is its dotted name, without `pellucid` in front."""

    module: str
    text: str
    is_package: bool = False

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def layer(self) -> str:
        return self.module.partition(".")[0]

    @property
    def depth(self) -> int:
        return len([p for p in self.module.split(".") if p]) - (not self.is_package)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The dotted name behind `from X import ...`, relative dots resolved."""
        if not node.level:
            return node.module or ""
        parts = ["pellucid", *[p for p in self.module.split(".") if p]]
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])


@functools.cache
def package() -> tuple[Source, ...]:
    return tuple(_read(path) for path in sorted(PACKAGE.rglob("*.py")))


def _read(path: Path) -> Source:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Source(".".join(parts[:-1] if is_package else parts), path.read_text(encoding="utf-8"), is_package)


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Files under version control that hold text; binary ones and a tree without git give nothing to read."""
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    return tuple(p for p in (ROOT / name for name in found.split("\0") if name) if p.is_file() and b"\0" not in p.read_bytes()[:8192])


@functools.cache
def declared() -> dict[str, frozenset[str]]:
    """Import names of the core dependencies and of the extras, as pyproject.toml declares them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [r for wanted in project["optional-dependencies"].values() for r in wanted]
    return {"core": _imports(project["dependencies"]), "extras": _imports(extras)}


IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "scikit-image": "skimage"}
# Parts of a declared package that it ships separately and never goes without.
COMES_WITH = {"jinja2": "markupsafe", "matplotlib": "contourpy"}


def _imports(requirements: list[str]) -> frozenset[str]:
    names = [r.partition(">")[0].partition("=")[0].partition("[")[0].strip() for r in requirements]
    parts = [COMES_WITH[n] for n in names if n in COMES_WITH]
    return frozenset([*parts, *(IMPORTED_AS.get(n, n.replace("-", "_")) for n in names)])
