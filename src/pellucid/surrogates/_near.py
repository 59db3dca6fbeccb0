"""Nearest neighbours as the model itself measures them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.inside import Inside
from ..core.estimator import Fitted
from ..core.question import Question


@dataclass(frozen=True)
class Neighbour:
    """A row of the training data that a row's answer was taken from: its distance, its label, its share in the vote."""

    of: str
    row: int
    distance: float
    label: str
    share: float
    cells: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighboursSummary(Fitted):
    """The training rows that answers were taken from."""

    neighbours: tuple[Neighbour, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()
    """Of every explained row what the model says."""
    metric: str = ""
    name: str = ""

    def table(self) -> list[dict[str, Any]]:
        return [{"of": n.of, "training row": n.row, "distance": n.distance, "label": n.label, "share": n.share, **dict(n.cells)} for n in self.neighbours]


def neighbours(q: Question, m: Inside, wanted: Sequence[int]) -> NeighboursSummary:
    """The neighbours of some rows, as the fitted model finds them."""
    kind = m.estimator
    rows = m.given
    rows = rows.iloc[list(wanted)] if hasattr(rows, "iloc") else rows[list(wanted)]
    distance, which = kind.kneighbors(rows)
    classes, train = getattr(kind, "classes_", None), np.asarray(kind._fit_X.toarray() if hasattr(kind._fit_X, "toarray") else kind._fit_X, dtype=np.float64)
    sd = train.std(0)
    told, out = kind.predict(rows), list[Neighbour]()
    for i, ds, js in zip(wanted, distance, which, strict=True):
        share = _shares(kind.weights, ds)
        for d, j, s in zip(ds, js, share, strict=True):
            label = str(classes[int(kind._y[j])]) if classes is not None else f"{float(kind._y[j]):.4g}"
            away = (train[j] - m.rows[i]) / np.where(sd > 0, sd, np.inf)
            first = [k for k in np.argsort(-np.abs(away), kind="stable")[:3] if away[k]]
            cells = tuple((name, f"{v:.6g}") for name, v in zip(m.names, train[j], strict=True))
            out.append(Neighbour(str(q.ids[i]), int(j), float(d), label, float(s), cells, tuple(f"{m.names[k]} {train[j, k]:.4g} rather than {m.rows[i, k]:.4g}" for k in first)))
    answers = tuple((str(q.ids[i]), str(a) if classes is not None else f"{float(a):.4g}") for i, a in zip(wanted, told, strict=True))
    return NeighboursSummary(neighbours=tuple(out), answers=answers, metric=str(kind.effective_metric_), name=type(kind).__name__)


def _shares(weights: Any, d: Any) -> Any:
    """What every neighbour counts for in the vote."""
    if callable(weights):
        w = np.asarray(weights(d), dtype=np.float64)
    elif weights == "distance":
        w = (d == 0).astype(np.float64) if (d == 0).any() else 1 / d
    else:
        w = np.ones(len(d))
    return w / w.sum()
