"""What a procedure says of itself: its card, and its parameters. Imports no torch, so that the command line can read it."""

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any

from .errors import UsageError


class Needs(enum.Flag):
    """What a procedure asks of a model, and what a model can do."""

    VALUE = enum.auto()
    GRADIENT = enum.auto()
    MODULES = enum.auto()
    TREES = enum.auto()
    TOKENS = enum.auto()


class Promise(enum.Flag):
    """What a procedure's values satisfy; each promise is a test in the conformance suite."""

    NONE = 0
    COMPLETE = enum.auto()
    """The values sum to the target at the point less the target at the baseline."""
    LOCAL = enum.auto()
    """What the model ignores gets zero."""
    LINEAR = enum.auto()
    """Twice the target, twice the values."""
    SYMMETRIC = enum.auto()
    """Features that play the same part get the same value."""
    IMPLEMENTATION_INVARIANT = enum.auto()
    """Two networks that compute the same function get the same values."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A procedure's title, source, needs, promises and cost, in words a person reads."""

    title: str
    paper: str
    needs: Needs = Needs.VALUE
    promises: Promise = Promise.NONE
    cost: str = ""
    signed: bool = True
    random: bool = False
    baseline: bool = False
    """Whether the values depend on the question's baseline."""
    samples: bool = False
    """Whether it deals with a baseline of many samples itself; else it is run for each of them and averaged."""
    wraps: bool = False
    """Whether it is a wrapper round another method."""
    better: str = "higher"
    """Which way a metric's score is better: "higher", "lower", or "" where neither is."""
    stance: str = ""
    """Either "passive": it explains a network as it is; "active": it changes how the network is built or trained."""
    gives: str = ""
    """What is handed over: "examples", "attribution", "hidden semantics" or "rules"."""
    scope: str = ""
    """How far it holds. "local": one input; "semi-local": a neighbourhood or a group of inputs; "global": the whole network."""
    reach: str = ""
    """For which models. "agnostic": any; else "specific" to what it needs."""


AXES = {"stance": ("passive", "active"), "gives": ("examples", "attribution", "hidden semantics", "rules"), "scope": ("local", "semi-local", "global"), "reach": ("agnostic", "specific")}
"""The taxonomy of Zhang, Tino, Leonardis and Tang 2021, arXiv:2012.14261 (three axes), and whether a procedure asks for more than answers."""
_GIVES = {"counterfactuals": "examples", "examples": "examples", "surrogates": "rules"}
_SCOPE = {"effects": "global", "surrogates": "global", "examples": "global"}


@dataclass(frozen=True)
class Placed:
    """A procedure's place in the taxonomy; `reach` says of "specific" to what."""

    stance: str
    gives: str
    scope: str
    reach: str

    def words(self) -> str:
        """The place in one line."""
        return ", ".join((self.stance, self.gives, self.scope, self.reach))


def placed(kind: str, card: Card) -> Placed:
    """Where a procedure stands: as its card says, else as its kind and its needs imply."""
    more = [str(n.name).lower() for n in Needs if n in card.needs and n is not Needs.VALUE]
    reach = card.reach or ("specific" if more else "agnostic")
    if reach == "specific" and more:
        reach = f"specific ({', '.join(more)})"
    return Placed(card.stance or "passive", card.gives or _GIVES.get(kind, "attribution"), card.scope or _SCOPE.get(kind, "local"), reach)


def param(default: Any, meaning: str, *, ge: float | None = None, le: float | None = None, unit: str = "", choices: tuple[str, ...] | None = None) -> Any:
    """A parameter of a procedure: its default, what it means, its range and its unit."""
    facts = {"meaning": meaning, "ge": ge, "le": le, "unit": unit, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


def check_parameters(procedure: Any) -> None:
    """Refuses a parameter of the wrong type or out of range, with a sentence that names it."""
    for f in dataclasses.fields(procedure):
        value = getattr(procedure, f.name)
        if value is f.default or (type(value) is type(f.default) and value == f.default):  # arrays have no single truth
            continue
        _check_one(type(procedure).__name__, f, value)


def _check_one(owner: str, f: dataclasses.Field[Any], value: Any) -> None:
    ge, le, choices = (f.metadata.get(k) for k in ("ge", "le", "choices"))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    expects = f" ({f.metadata['meaning']})" if f.metadata.get("meaning") else ""
    if isinstance(f.default, bool) and not isinstance(value, bool):
        raise UsageError(f"{owner} needs {f.name}{expects} to be True or False; got {value!r}.")
    if choices and value not in choices and not (number and ge is not None):
        raise UsageError(f"{owner} needs {f.name}{expects} to be one of {', '.join(map(str, choices))}{' or a number' if ge is not None else ''}; got {value!r}.")
    if ge is not None and not choices and not _fits(value, number, f.default):
        raise UsageError(f"{owner} needs a number for {f.name}{expects}; got {value!r}.")
    if number and isinstance(value, float) and isinstance(f.default, (int, str)) and value == value and not value.is_integer():
        raise UsageError(f"{owner} needs a whole number for {f.name}{expects}; got {value!r}.")
    if number and (value != value or (ge is not None and value < ge) or (le is not None and value > le)):
        raise UsageError(f"{owner} needs {f.name}{expects} {_range(ge, le)}; got {value!r}.")


def _fits(value: Any, number: bool, default: Any) -> bool:
    return number or value is default or (isinstance(value, tuple) and all(isinstance(v, (int, float)) for v in value)) or (isinstance(default, str) and value == default)


def _range(ge: float | None, le: float | None) -> str:
    if ge is not None and le is not None:
        return f"between {ge:g} and {le:g}"
    return f"of at least {ge:g}" if ge is not None else f"of at most {le:g}"
