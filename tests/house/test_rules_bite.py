"""Each rule of the house complains about the fault it is for, and about nothing else."""

import pytest

from house import rules
from house.source import Source

LONG = "def f():\n" + "    x = 1\n" * 60
LONG_DOC = 'def f():\n    """\n' + "    words\n" * 60 + '    """\n    return 1\n'

FAULTS = [
    (rules.arrows, Source("core.tree", "from ..run import store")),
    (rules.arrows, Source("core.tree", "def f():\n    from pellucid.views import image")),
    (rules.arrows, Source("core", "from ..backends.torch import Adapter", is_package=True)),
    (rules.arrows, Source("metrics.gap", "from ..attribution.saliency import Saliency")),
    (rules.arrows, Source("run.store", "import pellucid")),
    (rules.arrows, Source("report.page", "from ..cli import main")),
    (rules.known_layer, Source("helpers.misc", "")),
    (rules.short_functions, Source("core.tree", LONG)),
    (rules.short_modules, Source("core.tree", "x = 1\n" * 501)),
    (rules.short_modules, Source("", "x = 1\n" * 61, is_package=True)),
    (rules.no_assert, Source("core.tree", "assert True")),
    (rules.no_broad_except, Source("core.tree", "try:\n    f()\nexcept Exception:\n    pass")),
    (rules.no_broad_except, Source("core.tree", "try:\n    f()\nexcept (ValueError, BaseException):\n    pass")),
    (rules.no_broad_except, Source("views.image", "try:\n    f()\nexcept:\n    pass")),
    (rules.light_imports, Source("core.card", "import torch")),
    (rules.light_imports, Source("cli.explain", "from torch import Tensor")),
    (rules.light_imports, Source("", "import numpy as np", is_package=True)),
    (rules.declared_imports, Source("core.tree", "import captum")),
    (rules.declared_imports, Source("core.tree", "def f():\n    import captum")),
    (rules.declared_imports, Source("backends.text", "import transformers")),
]

FINE = [
    (rules.arrows, Source("attribution.saliency", "from ..core.card import Card\nfrom ._path import nodes")),
    (rules.arrows, Source("cli", "from ..run.store import Store", is_package=True)),
    (rules.arrows, Source("cli", "from .explain import run\nfrom ..report.page import write", is_package=True)),
    (rules.arrows, Source("", "from .run.explain import explain", is_package=True)),
    (rules.short_functions, Source("core.tree", LONG_DOC)),
    (rules.no_broad_except, Source("core.tree", "try:\n    f()\nexcept ValueError:\n    pass")),
    (rules.no_broad_except, Source("run.inline", "try:\n    f()\nexcept Exception:\n    pass")),
    (rules.light_imports, Source("cli.explain", "def f():\n    import torch")),
    (rules.light_imports, Source("core.question", "import torch")),
    (rules.declared_imports, Source("core.tree", "import os\nimport sklearn\nfrom PIL import Image")),
    (rules.declared_imports, Source("backends.text", "def f():\n    import transformers")),
]


@pytest.mark.parametrize(("rule", "source"), FAULTS)
def test_fault_is_found(rule, source) -> None:
    assert list(rule(source))


@pytest.mark.parametrize(("rule", "source"), FINE)
def test_good_code_passes(rule, source) -> None:
    assert not list(rule(source))


def test_text_rules_bite() -> None:
    assert list(rules.unfinished("# TO" + "DO: later"))
    assert not list(rules.unfinished("what to do next"))
    assert list(rules.machine_paths("open('/ho" + "me/ann/net.pt')"))
    assert list(rules.machine_paths("see ../sha" + "red/notes"))
    assert not list(rules.machine_paths("https://example.org/work/home/ann and a/root/b"))
