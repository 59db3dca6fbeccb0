"""The catalogue is read from the source: names, cards and parameters, also of other packages."""

import dataclasses
import importlib
import importlib.metadata
import sys
import textwrap

import pytest

from pellucid import attribution, metrics
from pellucid.core import catalogue
from pellucid.core.card import Needs, Promise
from pellucid.core.errors import UnknownName, UsageError


def test_entries_are_what_the_classes_say():
    """What is read from the source equals what the imported class holds."""
    for kind in catalogue.KINDS:
        for name, entry in catalogue.entries(kind).items():
            cls = catalogue.load(kind, name)
            assert entry.card == cls.card
            assert entry.name == name == catalogue.name_of(cls) == catalogue.name_of(cls())
            assert entry.doc.partition("\n")[0] == entry.summary
            assert {f.name for f in entry.fields} == {f.name for f in dataclasses.fields(cls) if "meaning" in f.metadata}
            for f in entry.fields:
                assert getattr(cls(), f.name) == f.default


def test_names_are_the_fields_own():
    assert {"saliency", "input-x-gradient", "integrated-gradients", "smooth-grad", "grad-cam", "occlusion"} <= set(catalogue.entries("methods"))
    assert catalogue.load("methods", "grad-cam") is attribution.GradCAM
    assert metrics.__name__ == catalogue.KINDS["metrics"]


TYPED = [("saliancy", "saliency"),
         ("gradcam", "grad-cam"), ("Grad-CAM", "grad-cam"), ("integrated-gradient", "integrated-gradients"), ("smooth", "smooth-grad"), ("integrated", "integrated-gradients")]


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_an_unknown_name_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(UnknownName) as e:
        catalogue.make("methods", typed)
    assert meant in e.value.near
    assert "pellucid list methods" in str(e.value)


def test_unknown_parameters_and_kinds():
    with pytest.raises(UnknownName, match="'steps'"):
        catalogue.make("methods", "integrated-gradients", step=3)
    with pytest.raises(UnknownName, match="kind"):
        catalogue.entries("methodes")
    with pytest.raises(UsageError, match="steps"):
        catalogue.make("methods", "integrated-gradients", steps=0)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of procedures and names it by an entry point, as an installed package would."""

    def write(body: str, stem: str = "my_method"):
        folder = tmp_path / "acme_methods"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / f"{stem}.py").write_text(textwrap.dedent(body))
        monkeypatch.syspath_prepend(tmp_path)
        point = importlib.metadata.EntryPoint("acme", "acme_methods", catalogue.ENTRY_POINTS)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
        importlib.invalidate_caches()
        catalogue.entries.cache_clear()

    yield write
    catalogue.entries.cache_clear()
    for name in [n for n in sys.modules if n.startswith("acme_methods")]:
        del sys.modules[name]


GOOD = '''
    from dataclasses import dataclass
    from pellucid.core.card import Card, Needs, Promise, param
    from pellucid.core.procedure import Method, Values

    @dataclass(frozen=True, kw_only=True)
    class MyMethod(Method):
        """Is this mine?

        Source: me.
        """

        card = Card(title="Mine", paper="none", needs=Needs.VALUE, promises=Promise.LOCAL)
        often: int = param(2, "how often", ge=1)

        def attribute(self, q):
            return Values(q.point)
'''


def test_a_package_of_ones_own(package):
    package(GOOD)
    entry = catalogue.entries("methods")["my-method"]
    assert (entry.card.title, entry.card.promises, entry.card.needs, entry.summary) == ("Mine", Promise.LOCAL, Needs.VALUE, "Is this mine?")
    assert [(f.name, f.default, f.ge) for f in entry.fields] == [("often", 2, 1)]
    assert catalogue.make("methods", "my-method", often=3).often == 3
    assert "my-method" not in catalogue.entries("metrics")
    assert "acme_methods.my_method" not in sys.modules or catalogue.entries("methods")


def test_our_own_names_are_not_taken_over(package):
    package(GOOD.replace("Mine", "Theirs"), "saliency")
    assert catalogue.load("methods", "saliency") is attribution.Saliency


def test_a_card_runs_no_code(package, tmp_path):
    """Listing what a package holds evaluates literals and the words of a card, and nothing else."""
    package(GOOD.replace('"none"', f'open({str(tmp_path / "left")!r}, "w")'))
    with pytest.raises(UsageError, match="'open'"):
        catalogue.entries("methods")
    assert not (tmp_path / "left").exists()


def test_an_entry_point_to_nowhere_is_no_fault_of_the_rest(monkeypatch):
    point = importlib.metadata.EntryPoint("gone", "not_there.at_all", catalogue.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    catalogue.entries.cache_clear()
    assert "saliency" in catalogue.entries("methods")
    catalogue.entries.cache_clear()
