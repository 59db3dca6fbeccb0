"""What a picture's title says: method, parameters, place, target, baseline, seed."""

import math
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
    fit: str = ""

    def lines(self) -> tuple[str, str]:
        """A headline and the settings below it."""
        head = f"{self.title} of {self.target}"
        return head, " · ".join(self.settings())

    def settings(self) -> list[str]:
        """What was set: parameters, place, baseline where the method has one, seed; of a surrogate how well it fits."""
        baseline = f"baseline {self.baseline}" if self.baseline != "none" else ""
        return [t for t in (self.parameters, f"at {self.place}", baseline, f"seed {self.seed}", self.fit) if t]


def caption(e: "Explanation", row: int = 0) -> Caption:
    """The words for one row."""
    target = e.target[row]
    return Caption(
        title=method_title(e.method), method=e.method, parameters=parameters_text(e.parameters), target=target,
        short=short_target(target), place=e.at or "the input", baseline=str(e.baseline), seed=e.seed,
        row=name_of(e, row), model=str(e.provenance.get("model") or "the model"),
        fit=f"local R² {number(float(e.fit[row]))}" if e.fit is not None else "",
    )  # fmt: skip


def name_of(e: "Explanation", row: int) -> str:
    """What a row is called: by its id, or its place."""
    own = e.ids[row] if e.ids else row
    return f"row {own}" if isinstance(own, int) else str(own)


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


def signed_number(value: float, digits: int = 3) -> str:
    """A number that carries its sign, + as well as −."""
    return number(value, digits) if value <= 0 or value != value else f"+{number(value, digits)}"


def measured(value: float, error: float | None, signed: bool = True) -> str:
    """A value with its standard error, both to the error's second figure: "+0.31 ± 0.02"."""
    if error is None or not math.isfinite(error) or not math.isfinite(value) or error <= 0 or abs(value) > 1e6 * error or abs(value) >= 1e6 or error < 1e-6:
        return signed_number(value) if signed else number(value)
    places = max(0, 1 - math.floor(math.log10(error)))
    told = f"{value:{'+' if signed else ''}.{places}f} ± {error:.{places}f}"
    return told.replace("-", "−")


def cut(text: str, most: int) -> str:
    """A text of at most so many letters, its end marked where it goes on."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: max(0, most - 1)].rstrip() + "…"
