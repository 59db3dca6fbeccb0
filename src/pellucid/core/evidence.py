"""What speaks for an explanation and what against it: readings of checks, and the verdict they lead to."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTE = "This tests the map against the model, not the model against the world."


def minus(text: str) -> str:
    """The text with a minus sign before its negative decimals, where a hyphen would break from its number or be read as a dash."""
    return re.sub(r"(?<![\w.-])-(?=\d+\.\d)", "−", text)


@dataclass(frozen=True)
class Cost:
    """What an answer took: rows through the model, forwards and back, wall seconds, and the plan that was used.

    `plan`, given back as `batch_size=`, reproduces a result to the bit.
    """

    forward_rows: int = 0
    backward_rows: int = 0
    seconds: float = 0.0
    batch_size: int = 0
    plan: str = ""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward_rows + other.forward_rows, self.backward_rows + other.backward_rows, self.seconds + other.seconds, self.batch_size or other.batch_size, self.plan)


@dataclass(frozen=True)
class Reading:
    """What one check found: a value a row, what it means, and whether it speaks for the map ("fact": it has no vote)."""

    name: str
    title: str
    value: float | None
    rows: tuple[float | None, ...]
    unit: str
    verdict: str
    sentence: str
    meaning: str
    cost: Cost = Cost()
    curve: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", minus(self.sentence))


@dataclass(frozen=True)
class Evidence:
    """The verdict on an explanation, "supported", "doubtful" or "contradicted", with its reasons and readings."""

    verdict: str
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...]
    level: str = "basic"
    rows: tuple[str, ...] = ()
    note: str = NOTE
    cost: Cost = Cost()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", tuple(map(minus, self.reasons)))

    def table(self) -> str:
        """The readings as plain text, one a line."""
        width = max([len(r.title) for r in self.readings] + [5])
        lines = [f"{r.title:<{width}}  {'-' if r.value is None else format(r.value, '.3g').replace('-', '−'):>8} {r.unit:<10}  {r.verdict:<14}  {r.sentence}" for r in self.readings]
        return "\n".join([f"verdict: {self.verdict}", *(f"  - {why}" for why in self.reasons), *lines, self.note])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> "Evidence":
        """Back from `to_dict`."""
        readings = tuple(Reading(**{**r, "rows": tuple(r["rows"]), "cost": Cost(**r["cost"])}) for r in d["readings"])
        return cls(d["verdict"], tuple(d["reasons"]), readings, d["level"], tuple(d["rows"]), d["note"], Cost(**d["cost"]))
