"""Cards and parameters: what a procedure says of itself, and which of its parameters are refused."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from pellucid.core.card import Card, Needs, Promise, check_parameters, param
from pellucid.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One parameter of every kind."""

    count: int = param(5, "how many", ge=1, le=10, unit="rows")
    share: float = param(0.5, "how much", ge=0, le=1)
    word: str = param("a", "which", choices=("a", "b"))
    steps: int | str = param("auto", "how often", ge=1, choices=("auto",))
    sizes: object = param("auto", "how large", ge=1)
    switch: bool = param(True, "whether")
    free: object = param("x", "anything")

    def __post_init__(self) -> None:
        check_parameters(self)


GOOD = [{"count": 1}, {"count": 10}, {"count": 3.0}, {"share": 0}, {"share": 1}, {"word": "b"}, {"steps": 7}, {"steps": "auto"}, {"sizes": 3}, {"sizes": (2, 3)}, {"switch": False}, {"free": None}, {}]


@pytest.mark.parametrize("good", GOOD, ids=str)
def test_allowed(good):
    Thing(**good)


BAD = [
    ({"count": 0}, "between 1 and 10; got 0"), ({"count": 11}, "between 1 and 10"), ({"count": 2.5}, "whole number"), ({"count": True}, "number"),
    ({"count": "3"}, "number.*'3'"), ({"count": None}, "None"),
    ({"share": -0.1}, "between 0 and 1"), ({"share": float("nan")}, "nan"), ({"word": "c"}, "one of a, b; got 'c'"), ({"word": 1}, "one of a, b"), ({"word": None}, "one of a, b"),
    ({"steps": 0}, "at least 1"), ({"steps": 2.5}, "whole number"), ({"steps": "fast"}, "auto or a number"), ({"steps": float("nan")}, "nan"),
    ({"sizes": 0}, "at least 1"), ({"sizes": "big"}, "number"), ({"sizes": (1, "b")}, "number"),
    ({"switch": 1}, "True or False"), ({"switch": "no"}, "True or False"), ({"switch": None}, "True or False"),
]


@pytest.mark.parametrize(("bad", "says"), BAD, ids=[f"{k}={v!r}" for b, _ in BAD for k, v in b.items()])
def test_refused_with_a_sentence(bad, says):
    with pytest.raises(UsageError, match=says) as e:
        Thing(**bad)
    (name,) = bad
    assert f"Thing needs {name} (" in str(e.value) or f"for {name} (" in str(e.value)


def test_a_card_is_a_value():
    card = Card(title="t", paper="p", needs=Needs.VALUE | Needs.GRADIENT, promises=Promise.LOCAL)
    assert card == Card(title="t", paper="p", needs=Needs.GRADIENT | Needs.VALUE, promises=Promise.LOCAL)
    assert Promise(0) == Promise.NONE
    assert not Promise.NONE & Promise.COMPLETE
    assert Needs.GRADIENT in card.needs


def test_cards_and_the_catalogue_are_read_without_torch():
    code = "import sys\nfrom pellucid.core import catalogue\nassert catalogue.entries('methods')['saliency'].card.title\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
