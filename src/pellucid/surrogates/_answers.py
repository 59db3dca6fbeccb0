"""What a simple model is fitted on, and how well it keeps to the large one on rows that it was not fitted on."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import NotApplicable, UsageError
from ..core.progress import report
from ..core.question import Question
from ..core.target import Predicted
from ..core.tree import leaves
from ..modalities.columns import Column, columns_of

Floats = NDArray[np.float64]
FAITHFUL, ROUGH = 0.8, 0.5
"""The skill, over always giving one answer, from which a summary is called faithful (the lower end of its interval) and rough (its value)."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Rows of codes and what the model says of each: one number, or, where no target was named and it has classes, one indicator a class."""

    codes: Floats
    y: Floats
    columns: tuple[Column, ...]
    labels: tuple[str, ...] = ()
    name: str = ""

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n,) each row's class."""
        return self.y.argmax(1)

    def said(self, y: Floats) -> str:
        """An answer in words: the likeliest class and its share, or the number."""
        return f"{self.labels[int(y.argmax())]} ({y.max():.0%})" if self.labels else f"{y[0]:.4g}".replace("-", "−")


def answers_of(q: Question, least: int = 20) -> Answers:
    """The model's answers on the rows of a question about a table."""
    columns = columns_of(q)
    if q.size < least:
        raise UsageError(f"A surrogate needs at least {least} rows to be fitted and judged on; got {q.size}.")
    codes = np.asarray(leaves(q.point)[0].detach().cpu().double().numpy(), dtype=np.float64)
    if isinstance(q.target, Predicted) and q.own_outputs()[0].numel() > 1:
        return _classes(q, codes, columns)
    y = q.target_values().detach().cpu().double().numpy()[:, None]
    if not np.isfinite(y).all():
        raise NotApplicable(f"A surrogate needs numbers for answers; {int((~np.isfinite(y)).sum())} of {len(y)} are not finite.")
    if np.ptp(y) <= 1e-12 * max(1.0, float(np.abs(y).max())):
        raise NotApplicable(f"The model gives all {len(y):,} rows the same answer, {y[0, 0]:.4g}: there is nothing to summarise. Give rows that differ, or another target.")
    names = dict.fromkeys(q.target_names())
    return Answers(codes, y, columns, (), next(iter(names)) if len(names) == 1 else "the target")


def _classes(q: Question, codes: Floats, columns: tuple[Column, ...]) -> Answers:
    """Which class the model gives each row, of those that it gives at all."""
    given = q.own_outputs().argmax(1).cpu().numpy()
    seen = np.unique(given)
    labels = tuple(str(q.model.labels[k]) if q.model.labels is not None and k < len(q.model.labels) else f"class {k}" for k in seen)
    if len(seen) < 2:
        raise NotApplicable(f"The model gives all {len(given):,} rows the class {labels[0]!r}: there is nothing to summarise. Name a target (target={labels[0]!r}) to summarise its numbers.")
    return Answers(codes, (given[:, None] == seen).astype(np.float64), columns, labels, "the predicted class")


# -- how faithful ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fidelity:
    """How well a simple model keeps to the large one on rows that it was not fitted on.

    `value` is R2 for numbers and the share of equal classes for classes, with its 95% interval; `trivial` what the mean, or the most frequent class,
    reaches on the same rows; `skill` the share of the way from there to 1 (for R2 it is R2 itself); `fitted` the value on the rows of the fit.
    """

    measure: str
    value: float
    low: float
    high: float
    trivial: float
    fitted: float
    rows: int
    folds: int

    @property
    def skill(self) -> float:
        """How far from the trivial surrogate (0) to the model itself (1)."""
        return _skill(self.value, self.trivial)

    @property
    def verdict(self) -> str:
        """ "faithful", "rough" or "not faithful"."""
        if self.skill < ROUGH:
            return "not faithful"
        return "faithful" if _skill(self.low, self.trivial) >= FAITHFUL else "rough"

    @property
    def sentence(self) -> str:
        """The verdict with its numbers."""
        trivial = f"; always the most frequent class: {self.trivial:.1%}" if self.measure == "agreement" else "; always the mean: 0"
        words = {"faithful": "A faithful summary", "rough": "A rough summary", "not faithful": "Not a faithful summary: do not read it as what the model does"}[self.verdict]
        return f"{words}. {self.told()}{trivial}."

    def told(self) -> str:
        """The value with its interval, in words."""
        if self.measure == "agreement":
            return f"It agrees with the model on {self.value:.1%} ({self.low:.1%} to {self.high:.1%}) of held-out rows"
        return f"R² {self.value:.3f} ({self.low:.3f} to {self.high:.3f})".replace("-", "−") + " on held-out rows"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "skill": self.skill, "verdict": self.verdict, "sentence": self.sentence}


class Fit(Protocol):
    """A simple model, fitted on some of the rows."""

    def predict(self, rows: NDArray[np.int64]) -> Floats:
        """(len(rows), K) its answers."""


def _skill(value: float, trivial: float) -> float:
    return (value - trivial) / (1 - trivial) if trivial < 1 else 0.0


def folds_of(codes: Floats, k: int, seed: int) -> NDArray[np.int64]:
    """(n,) the fold of each row; equal rows lie in one fold, so that no row that was fitted on is judged on."""
    same = np.unique(np.where(np.isnan(codes), np.finfo(np.float64).max, codes), axis=0, return_inverse=True)[1].reshape(-1)
    n = int(same.max()) + 1
    if n < 2 * k:
        raise UsageError(f"Judging on held-out rows needs at least {2 * k} rows that differ, for {k} folds; got {n}. Give more rows, or fewer folds.")
    order = np.random.default_rng(seed).permutation(n)
    return (order % k)[same]


def crossed(a: Answers, fit: Callable[[NDArray[np.int64]], Any], k: int, seed: int) -> tuple[Fidelity, list[Any]]:
    """The fidelity of what `fit` makes, over folds, and the fit without each of them."""
    fold = folds_of(a.codes, k, seed)
    told, trivial, inside, made = np.empty_like(a.y), np.empty_like(a.y), list[float](), list[Any]()
    for i in range(k):
        report("fitting the surrogate", i, k)
        inner, outer = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        one = fit(inner)
        told[outer], trivial[outer] = one.predict(outer), a.y[inner].mean(0)
        inside.append(_value(a, inner, one.predict(inner), np.broadcast_to(a.y[inner].mean(0), (len(inner), a.y.shape[1]))))
        made.append(one)
    return judged(a, told, trivial, float(np.mean(inside)), k), made


def _value(a: Answers, rows: NDArray[np.int64], told: Floats, trivial: Floats) -> float:
    if a.labels:
        return float((told.argmax(1) == a.y[rows].argmax(1)).mean())
    total = float(((a.y[rows] - trivial) ** 2).sum())
    return 1 - float(((a.y[rows] - told) ** 2).sum()) / total if total > 0 else 0.0


def judged(a: Answers, told: Floats, trivial: Floats, fitted: float, k: int) -> Fidelity:
    """The fidelity of answers told for rows out of the fit: Wilson's interval for agreement, the delta method over rows for R2."""
    n, everything = len(a.y), np.arange(len(a.y))
    value = _value(a, everything, told, trivial)
    if a.labels:
        low, high = wilson(value, n)
        return Fidelity("agreement", value, low, high, float((trivial.argmax(1) == a.classes).mean()), fitted, n, k)
    left, total = ((a.y - told) ** 2).sum(1), ((a.y - trivial) ** 2).sum(1)
    error = float(np.std(left - (1 - value) * total) / (np.sqrt(n) * total.mean()))
    return Fidelity("R2", value, value - 1.96 * error, min(1.0, value + 1.96 * error), 0.0, fitted, n, k)


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share of n rows."""
    if not n:
        return 0.0, 1.0
    middle, wide = share + z * z / (2 * n), z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, (middle - wide) / (1 + z * z / n)), min(1.0, (middle + wide) / (1 + z * z / n))
