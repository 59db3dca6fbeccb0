"""The documentation is up to date and its code runs."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from house.source import ROOT

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")


def test_catalogue_page_is_up_to_date() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert generate["PAGE"].read_text(encoding="utf-8") == generate["render"](), "run `make catalogue`"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to write and import files in; what was imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def run_page(text: str, workplace: Path, write_only: bool = False) -> dict[str, Any]:
    """Writes the blocks that name a file, and runs the others in order, as a reader would."""
    names: dict[str, Any] = {"__name__": "page"}
    for found in FENCE.finditer(text):
        block = found[1]
        if named := FILE.match(block):
            path = workplace / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
        elif not write_only:
            above = "\n" * text.count("\n", 0, found.start(1))  # a traceback then names the page's line
            exec(compile(above + block, "page", "exec"), names)
    return names


def test_how_to_write_a_method(workplace: Path) -> None:
    names = run_page(read("docs/how-to/write-your-own-method.md"), workplace)
    assert names["e"].values.abs().sum() > 0
    assert names["inside"].values.shape == (2, 8)
    runpy.run_path(str(workplace / "tests" / "test_midpoint_gradient.py"))["test_exact_on_a_quadratic_model"]()


def test_rules_on_operations(workplace: Path) -> None:
    names = run_page(read("docs/how-to/backward-rules.md"), workplace)
    assert names["e"].values.abs().sum() > 0


@pytest.mark.parametrize("name", ["choose-a-masker", "explain-any-callable", "explain-with-perturbation"])
def test_pages_that_print(workplace: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The page prints what it says it prints."""
    page = read(f"docs/how-to/{name}.md")
    run_page(page, workplace)
    told = "".join(re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert capsys.readouterr().out == told


def test_effects_of_columns(workplace: Path) -> None:
    names = run_page(read("docs/how-to/effects-of-columns.md"), workplace)
    assert (workplace / "effects.html").is_file()
    assert len(names["groups"].curves) == 4


def test_reading_the_pictures(workplace: Path) -> None:
    page = read("docs/how-to/read-the-pictures.md")
    names = run_page(page, workplace)
    assert names["theirs"].players.names == (("age", "bmi"),)
    assert {"twenty-wines.png", "first-wine.png", "risk.html"} <= {p.name for p in workplace.iterdir()}
    pictures = re.findall(r"!\[[^\]]+\]\(\.\./(images/views/[\w.]+)\)", page)
    assert len(pictures) == 6
    assert all((ROOT / "docs" / p).is_file() for p in pictures)


def test_a_package_of_yours_joins_the_catalogue(workplace: Path) -> None:
    """The entry point of the page, as pip would have installed it."""
    page = read("docs/how-to/write-your-own-method.md")
    run_page(page, workplace, write_only=True)
    installed = workplace / "acme-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[pellucid.procedures]\nacme = acme.explanations\n", encoding="utf-8")
    assert "acme = \"acme.explanations\"" in page
    for words in (["show", "midpoint-gradient"], ["doctor", "acme"]):
        done = subprocess.run([sys.executable, "-m", "pellucid", *words], cwd=workplace, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "midpoint-gradient" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/how-to/explain-a-photo.md", "docs/how-to/smooth-and-sample.md", "docs/how-to/learn-a-mask.md", "README.md"])
def test_code_on_the_page_runs(page: str, workplace: Path) -> None:
    run_page(read(page), workplace)
    assert list(workplace.glob("coffee.*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "can-i-trust-it", "compare-methods", "deep-lift", "explain-trees", "metrics", "prototypes", "shapley-values", "surrogates", "text-weights", "train-with-explanations",
])  # fmt: skip
def test_code_of_other_pages_runs(name: str, workplace: Path) -> None:
    assert "__name__" in run_page(read(f"docs/how-to/{name}.md"), workplace)


def test_every_page_is_in_the_contents() -> None:
    contents = set(re.findall(r"^how-to/([\w-]+)$", read("docs/index.md"), re.MULTILINE))
    assert contents == {p.stem for p in (ROOT / "docs" / "how-to").glob("*.md")}


@pytest.mark.parametrize(("name", "file"), [("counterfactuals", "refused.html"), ("anchors", "anchors.html")])
def test_pages_about_single_rows(workplace: Path, name: str, file: str) -> None:
    run_page(read(f"docs/how-to/{name}.md"), workplace)
    assert (workplace / file).is_file()
