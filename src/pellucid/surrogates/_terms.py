"""Tables as columns of a linear model, and linear models as terms that can be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.estimator import Fitted
from ..modalities.columns import Column
from ._answers import Fidelity, Floats
from ._conditions import GONE, MOST_LEVELS


@dataclass(frozen=True)
class Term:
    """One term of a linear model: the `slope` of one unit (of a word: against the column's reference), the `effect` of one standard deviation with its 95% interval."""

    output: str
    column: str
    name: str
    slope: float
    effect: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSummary(Fitted):
    """A linear model in the place of a model. `fidelity` is None where it is the model itself; `columns` is what each column moves, in units of the answer."""

    terms: tuple[Term, ...] = ()
    intercept: tuple[tuple[str, float], ...] = ()
    """At the mean of every column, for each output."""
    columns: tuple[tuple[str, float], ...] = ()
    references: tuple[tuple[str, str], ...] = ()
    unit: str = ""
    step: str = "standard deviation of the column"
    """Of what an effect is what one adds."""
    name: str = ""
    fidelity: Fidelity | None = None
    model: Any = field(default=None, repr=False)

    def table(self) -> list[dict[str, Any]]:
        return [{"output": t.output, "column": t.column, "term": t.name, "slope": t.slope, "effect of one sd": t.effect, "low": t.low, "high": t.high} for t in self.terms]

    def to_dict(self) -> dict[str, Any]:
        facts = {"intercept": dict(self.intercept), "columns": dict(self.columns), "references": dict(self.references), "unit": self.unit}
        return {**super().to_dict(), "fidelity": self.fidelity.to_dict() if self.fidelity else None, **facts}


@dataclass(frozen=True, eq=False)
class Design:
    """(n, T) standardised terms of a table: a number and whether it is missing; of words a flag each, but for the most frequent, the reference."""

    z: Floats
    scale: Floats
    names: tuple[str, ...]
    owner: tuple[int, ...]
    columns: tuple[Column, ...]
    references: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, columns: Sequence[Column], codes: Floats) -> "Design":
        """The design of a table's rows; terms that do not vary are left out."""
        parts, names, owner, references = list[Floats](), list[str](), list[int](), list[tuple[str, str]]()
        for j, c in enumerate(columns):
            made, told, reference = _numbers(c, codes[:, j]) if c.ordered else _words(c, codes[:, j])
            kept = [k for k, x in enumerate(made) if np.ptp(x) > 0]
            parts, names, owner = parts + [made[k] for k in kept], names + [told[k] for k in kept], owner + [j] * len(kept)
            references += [(c.name, reference)] if reference and kept else []
        raw = np.stack(parts, 1) if parts else codes[:, :0]
        scale = raw.std(0)
        return cls((raw - raw.mean(0)) / scale, scale, tuple(names), tuple(owner), tuple(columns), tuple(references))

    def moves(self, effect: Floats) -> tuple[tuple[str, float], ...]:
        """Of each column the standard deviation of what all its terms add to the answer, the largest first; of several outputs the mean over them."""
        out = dict.fromkeys(self.owner, 0.0)
        for j in out:
            own = [t for t, k in enumerate(self.owner) if k == j]
            out[j] = float((self.z[:, own] @ effect[:, own].T).std(0).mean())
        return tuple((self.columns[j].name, v) for j, v in sorted(out.items(), key=lambda kv: -kv[1]))


def _numbers(c: Column, x: Floats) -> tuple[list[Floats], list[str], str]:
    gone = np.isnan(x)
    mean = float(x[~gone].mean()) if not gone.all() else 0.0
    return [np.where(gone, mean, x), gone.astype(np.float64)], [c.name, f"{c.name} is missing"], ""


def _words(c: Column, x: Floats) -> tuple[list[Floats], list[str], str]:
    """A flag for every word but the most frequent; of very many the rarest share the reference."""
    x = np.where(np.isnan(x), GONE, x)
    values, counts = np.unique(x, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")]
    rest, told = np.sort(frequent[1:MOST_LEVELS]), [c.word(float("nan") if v == GONE else float(v)) for v in frequent[:1]]
    if set(frequent[1:].tolist()) == {1.0} and frequent[0] == 0.0 and not c.values:
        told = []  # a flag of numbers speaks for itself
    reference = (told[0] + (", and rarer words" if len(values) > MOST_LEVELS else "")) if told else ""
    return [(x == v).astype(np.float64) for v in rest], [f"{c.name} is {c.word(float('nan') if v == GONE else float(v))}" for v in rest], reference
