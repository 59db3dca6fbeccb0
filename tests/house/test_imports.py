"""What `import pellucid` offers, and what it costs."""

import subprocess
import sys

import pytest

import pellucid
from house.source import ROOT

PUBLIC = (ROOT / "tests" / "house" / "public_names.txt").read_text(encoding="utf-8").split()
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "skimage", "jinja2", "transformers")


def test_public_names_are_those_we_meant() -> None:
    """Adding a name is a promise: it goes into public_names.txt in the same change."""
    assert sorted(pellucid.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there(name: str) -> None:
    assert getattr(pellucid, name) is not None
    assert name in dir(pellucid)


@pytest.mark.parametrize(
    "code",
    [
        "import pellucid",
        "import pellucid.core.card, pellucid.core.errors, pellucid.core.catalogue as c; c.entries('methods'); c.entries('metrics')",
        "import pellucid.cli",
    ],
)
def test_light_things_load_nothing_heavy(code: str) -> None:
    run_isolated(f"{code}; import sys; loaded = [n for n in {HEAVY} if n in sys.modules]; sys.exit(', '.join(loaded) or 0)")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list", "methods"], ["list", "metrics"], ["explain", "--help"]])
def test_command_line_answers_without_torch(words: list[str]) -> None:
    run_isolated(f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {words}; from pellucid.cli import main; sys.exit(main())")


def test_procedures_load_only_what_they_compute_with() -> None:
    """A first explanation with its evidence waits for torch, and for nothing that it does not use."""
    code = "import torch, sys, pellucid.attribution, pellucid.metrics; from pellucid.metrics import _evidence"
    run_isolated(f"{code}; sys.exit(', '.join(n for n in ('scipy', 'sklearn', 'matplotlib', 'skimage', 'transformers', 'jinja2', 'numba') if n in sys.modules) or 0)")


def run_isolated(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
