"""What a picture's title says: method, parameters, place, target, baseline, seed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core import catalogue

if TYPE_CHECKING:
    from ..core.explanation import Explanation


_NUMBERS = re.compile(r" \(\d+\)")


@dataclass(frozen=True)
class Caption:
    """The words that go with one row of an explanation."""

    title: str
    method: str
    parameters: str
    target: str
    short: str
    place: str
    baseline: str
    seed: int
    row: str
    model: str

    def lines(self) -> tuple[str, str]:
        """A headline and the settings below it."""
        head = f"{self.title} of {self.target}"
        return head, " · ".join(self.settings())

    def settings(self) -> list[str]:
        """What was set: parameters, place, baseline where the method has one, seed."""
        baseline = f"baseline {self.baseline}" if self.baseline != "none" else ""
        return [t for t in (self.parameters, f"at {self.place}", baseline, f"seed {self.seed}") if t]


def caption(e: "Explanation", row: int = 0) -> Caption:
    """The words for one row."""
    target = e.target[row]
    return Caption(
        title=method_title(e.method), method=e.method, parameters=parameters_text(e.parameters), target=target,
        short=short_target(target), place=e.at or "the input", baseline=str(e.baseline), seed=e.seed,
        row=str(e.ids[row]) if e.ids else str(row), model=str(e.provenance.get("model") or "the model"),
    )  # fmt: skip


def method_title(name: str) -> str:
    """The method's title in words; its name where the catalogue does not know it."""
    entry = catalogue.entries("methods").get(name)
    return entry.card.title if entry else name.replace("-", " ").capitalize()


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """`steps 50, nodes midpoint`: what was set, compactly."""
    return ", ".join(f"{k} {_plain(v)}" for k, v in parameters.items())


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return f"({', '.join(f'{k} {_plain(v)}' for k, v in value.items())})"
    return str(value)


def short_target(target: str) -> str:
    """ "espresso" for "espresso (967)": what fits beside a colour bar."""
    return _NUMBERS.sub("", target)


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it: three figures, a true minus, a dash for what is missing."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}g}".replace("-", "−")
