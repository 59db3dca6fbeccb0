"""Models that can be read as they are: linear ones, trees, nearest neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.inside import Inside, inside
from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.estimator import Estimator, Fitted
from ..core.question import Question
from ._answers import Floats
from ._near import neighbours
from ._terms import LinearSummary, Term
from ._tree import TreeSummary, one_output, read_nodes

WHO = "interpretable-model"


@dataclass(frozen=True, kw_only=True)
class InterpretableModel(Estimator):
    """What does a model say that is simple enough to be read as it is?

    How: coefficients of linear models, nodes of trees and neighbours of k-nearest-neighbours are read from the fitted estimator of scikit-learn, behind a pipeline's steps
    if there are any, and checked against its answers on these rows. Nothing is fitted.
    Units: effects are coefficients times the standard deviation of their column on these rows, in units of the decision function (log-odds of a logistic regression).
    Misleads when: columns go together: a coefficient is what a column adds while the others stay the same; a tree that is deep can be read, but not taken in.
    Source: Molnar 2022, Interpretable Machine Learning, 2nd edition, chapter 5.
    """

    card = Card(title="Interpretable model", paper="Molnar 2022, Interpretable Machine Learning, chapter 5", cost="2 forward rows a row of data", reach="specific")
    rows: Any = param(0, "of nearest neighbours: the row that is explained, by its place, or several: (0, 5)")

    def fit(self, q: Question) -> Fitted:
        model = inside(q, WHO)
        kind = model.estimator
        if hasattr(kind, "tree_"):
            return _tree(model)
        if hasattr(kind, "kneighbors") and hasattr(kind, "predict"):
            wanted = [self.rows] if isinstance(self.rows, int) else list(self.rows)
            if any(not isinstance(i, int) or not 0 <= i < q.size for i in wanted):
                raise UsageError(f"{WHO} needs rows from 0 to {q.size - 1}; got {self.rows!r}.")
            return neighbours(q, model, wanted)
        if hasattr(kind, "coef_"):
            return linear(model, q.model.labels)
        raise NotApplicable(f"{WHO} reads linear models, single trees and nearest neighbours; {type(kind).__name__} is none of them. Take tree-surrogate, linear-surrogate or rule-surrogate.")


def linear(m: Inside, labels: Any = None) -> LinearSummary:
    """A linear model's coefficients, checked against its own answers."""
    kind = m.estimator
    weights, bias = np.atleast_2d(np.asarray(kind.coef_, dtype=np.float64)), np.atleast_1d(np.asarray(kind.intercept_, dtype=np.float64))
    bias = np.broadcast_to(bias, (len(weights),))
    classes = [str(c) for c in getattr(kind, "classes_", [])] if labels is None else list(map(str, labels))
    _check(m, m.rows @ weights.T + bias)
    outputs = (tuple(classes) if len(weights) > 1 else (classes[1],)) if len(classes) > 1 else tuple(f"output {k}" for k in range(len(weights))) if len(weights) > 1 else ("the output",)
    sd, mean = m.rows.std(0), m.rows.mean(0)
    terms = tuple(Term(outputs[k], m.names[j], m.names[j], float(weights[k, j]), float(weights[k, j] * sd[j])) for k in range(len(weights)) for j in range(len(m.names)))
    moves = sorted(zip(m.names, map(float, np.abs(weights * sd).mean(0)), strict=True), key=lambda kv: -kv[1])
    unit = "log-odds" if type(kind).__name__.startswith("LogisticRegression") else "the decision function" if classes else "the answer"
    return LinearSummary(terms=terms, intercept=tuple(zip(outputs, map(float, bias + weights @ mean), strict=True)), columns=tuple(moves), unit=unit, name=type(kind).__name__, model=kind)


def _check(m: Inside, made: Floats) -> None:
    """Refuses a model that is more than its coefficients: a link function, a kernel."""
    kind = m.estimator
    own = np.asarray(kind.decision_function(m.given) if hasattr(kind, "decision_function") else kind.predict(m.given), dtype=np.float64).reshape(len(made), -1)
    if own.shape != made.shape or not np.allclose(own, made, rtol=1e-5, atol=1e-6 * (1 + float(np.abs(own).max()))):
        raise NotApplicable(f"{WHO} reads models whose answers are a sum over columns; {type(kind).__name__} has coefficients, but its answers are not that sum. Take linear-surrogate.")


def _tree(m: Inside) -> TreeSummary:
    kind = m.estimator
    one_output(kind)
    value = kind.tree_.value[:, 0, :]
    labels = tuple(str(c) for c in getattr(kind, "classes_", ()))
    own = value / value.sum(1, keepdims=True) if labels else value

    def told(feature: int, left: Any, here: Any, threshold: float) -> tuple[str, str, bool]:
        name, at = m.names[feature], f"{threshold:.6g}".replace("-", "−")
        return f"{name} ≤ {at}", f"{name} > {at}", True

    nodes = read_nodes(kind, m.given, own[kind.apply(m.given)], told, own)
    importance = tuple((m.names[j], float(v)) for j, v in sorted(enumerate(kind.feature_importances_), key=lambda kv: -kv[1]) if v > 0)
    return TreeSummary(nodes=nodes, labels=labels, name=type(kind).__name__, importance=importance, model=kind)
