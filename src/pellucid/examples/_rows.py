"""Rows that stand for others, and what each of them is like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.estimator import Fitted
from ..core.question import Question
from ..core.target import Predicted
from ._space import Space

TOLD = 4
"""Ways in which a row is said to differ, at most."""


@dataclass(frozen=True)
class Example:
    """One row: its place in the data, its weight (or its distance from the row it is a neighbour of), what the model says, its cells, and how it differs."""

    row: int
    id: str
    kind: str
    weight: float
    distance: float
    answer: str
    cells: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]
    of: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples(Fitted):
    """Rows that stand for others. `discrepancy` is the MMD between them and all rows, `chance` what as many random rows reach: mean and standard deviation."""

    examples: tuple[Example, ...] = ()
    space: str = ""
    width: float = 0.0
    discrepancy: float | None = None
    chance: tuple[float, float] | None = None
    against: str = "the mean of all rows"
    """What the rows are said to differ from."""

    @property
    def indices(self) -> list[int]:
        """The rows' places in the data."""
        return [e.row for e in self.examples]

    @property
    def weights(self) -> list[float]:
        """The rows' weights."""
        return [e.weight for e in self.examples]

    def table(self) -> list[dict[str, Any]]:
        return [{
            **({"of": e.of} if e.of else {}), "kind": e.kind, "row": e.row, "id": e.id, **({"weight": e.weight} if e.weight == e.weight else {}),
            **({"distance": e.distance} if e.distance == e.distance else {}), "answer": e.answer, **dict(e.cells), "differs": "; ".join(e.differs),
        } for e in self.examples]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "space": self.space, "kernel width": self.width, "mmd": self.discrepancy, "mmd of random rows": self.chance}


def said(q: Question) -> list[str]:
    """What the model says of every row: its class, or its number."""
    if isinstance(q.target, Predicted) and q.own_outputs()[0].numel() > 1:
        labels = q.model.labels
        return [str(labels[k]) if labels is not None and k < len(labels) else f"class {k}" for k in q.own_outputs().argmax(1).tolist()]
    return [f"{v:.4g}".replace("-", "−") for v in q.target_values().tolist()]


def cells(s: Space, row: int) -> tuple[tuple[str, str], ...]:
    """A row's columns and what they hold, in words."""
    return tuple((c.name, c.word(float(s.codes[row, j]))) for j, c in enumerate(s.columns))


def from_mean(s: Space, row: int) -> tuple[str, ...]:
    """How a row differs from all: numbers by standard deviations, words by how rare they are, the most telling first."""
    told = list[tuple[float, str]]()
    for j, c in enumerate(s.columns):
        x, v = s.codes[:, j], s.codes[row, j]
        if c.ordered and v == v:
            sd = float(np.nanstd(x))
            away = float((v - np.nanmean(x)) / sd) if sd > 0 else 0.0
            told.append((abs(away), f"{c.name} {c.word(float(v))} ({away:+.1f} sd)".replace("-", "−", 1) if c.kind != "date" else f"{c.name} {c.word(float(v))}"))
        else:
            share = float(((x == v) | (np.isnan(x) & np.isnan(v))).mean())
            told.append((np.sqrt((1 - share) / share), f"{c.name} is {c.word(float(v))} ({share:.0%} of rows)"))
    return tuple(text for score, text in sorted(told, key=lambda t: -t[0])[:TOLD] if score >= 0.5)


def from_row(s: Space, row: int, other: int) -> tuple[str, ...]:
    """How a row differs from another, the most telling first."""
    told = list[tuple[float, str]]()
    for j, c in enumerate(s.columns):
        v, w = float(s.codes[row, j]), float(s.codes[other, j])
        if v == w or (v != v and w != w):
            continue
        sd = float(np.nanstd(s.codes[:, j]))
        away = abs(v - w) / sd if c.ordered and v == v and w == w and sd > 0 else 1.4
        told.append((away, f"{c.name} {c.word(v)} rather than {c.word(w)}"))
    return tuple(text for _, text in sorted(told, key=lambda t: -t[0])[:TOLD])


def described(q: Question, s: Space, rows: Sequence[int], weights: Sequence[float], kind: str) -> tuple[Example, ...]:
    """Rows with their weights as examples."""
    answers = said(q)
    nan = float("nan")
    return tuple(Example(int(i), str(q.ids[i]), kind, float(w), nan, answers[i], cells(s, i), from_mean(s, i)) for i, w in zip(rows, weights, strict=True))
