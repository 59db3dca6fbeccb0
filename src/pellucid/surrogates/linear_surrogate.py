"""A linear model in the place of a model."""

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.estimator import Estimator
from ..core.question import Question
from ._answers import Answers, Floats, answers_of, crossed
from ._terms import Design, LinearSummary, Term
from ._tree import Rows


@dataclass(frozen=True, kw_only=True)
class LinearSurrogate(Estimator):
    """Which columns raise the model's answers and which lower them, if a straight line says it, and how nearly does it?

    How: scikit-learn's ridge or lasso on standardised columns, fitted on the model's own answers (of classes: logistic regression on the class it predicts). Words are
    flags against the most frequent one; a missing number is the mean, and a flag. Intervals: the jackknife over the folds that the fidelity is judged on.
    Units: effects are in units of the answer (log-odds for classes) for one standard deviation of a term, slopes for one unit.
    Misleads when: the fidelity is low (below half of the way from the trivial answer to the model it is called unfaithful): the model bends, or columns act together;
    columns that go together share their effect as chance has it; lasso's intervals do not cover what it set to zero.
    Source: Hoerl and Kennard 1970 (ridge); Tibshirani 1996 (lasso); Miller 1974 (jackknife of groups).
    """

    card = Card(title="Linear surrogate", paper="Hoerl and Kennard 1970; Tibshirani 1996", cost="1 forward row a row of data")
    penalty: str = param("ridge", "what keeps effects small: their squares, or their sizes, which sets many to zero", choices=("ridge", "lasso"))
    strength: Any = param(None, "of the penalty: a share of the answers' variance; None: as good as none for ridge, 0.01 for lasso, scikit-learn's own C = 1 for classes", ge=0)
    folds: int = param(10, "parts that the rows are cut into to judge the line", ge=2)

    def fit(self, q: Question) -> LinearSummary:
        a = answers_of(q)
        d = Design.of(a.columns, a.codes)
        if not d.names:
            raise NotApplicable("A linear surrogate needs a column that varies over the rows; all are constant.")
        fidelity, parts = crossed(a, lambda rows: Line.on(self, a, d, rows), self.folds, q.seed)
        whole = Line.on(self, a, d, np.arange(len(a.y)))
        low, high = jackknifed(whole.effect, np.stack([p.effect for p in parts]))
        outputs = (a.labels if len(whole.effect) > 1 else (a.labels[1],)) if a.labels else (a.name,)
        terms = tuple(
            Term(outputs[k], d.columns[d.owner[t]].name, d.names[t], float(whole.effect[k, t] / d.scale[t]), float(whole.effect[k, t]), float(low[k, t]), float(high[k, t]))
            for k in range(len(outputs)) for t in range(len(d.names))
        )  # fmt: skip
        return LinearSummary(
            terms=terms, intercept=tuple(zip(outputs, map(float, whole.intercept), strict=True)), columns=d.moves(whole.effect), references=d.references,
            unit="log-odds" if a.labels else "the answer", name=a.name, fidelity=fidelity, model=whole.model, notes=(fidelity.sentence,),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Line:
    """A linear model fitted on some rows: (K, T) effects and (K,) intercepts."""

    effect: Floats
    intercept: Floats
    z: Floats
    classes: int
    model: Any

    @classmethod
    def on(cls, s: LinearSurrogate, a: Answers, d: Design, rows: Rows) -> "Line":
        if a.labels:
            return cls._classes(s, a, d, rows)
        from sklearn.linear_model import Lasso, Ridge

        y = a.y[rows, 0]
        strength = (1e-9 if s.penalty == "ridge" else 0.01) if s.strength is None else float(s.strength)
        model = Ridge(alpha=strength * len(rows)) if s.penalty == "ridge" else Lasso(alpha=max(strength, 1e-9) * max(float(y.std()), 1e-300), max_iter=10_000)
        _fitted(model, d.z[rows], y)
        return cls(np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_), d.z, 0, model)

    @classmethod
    def _classes(cls, s: LinearSurrogate, a: Answers, d: Design, rows: Rows) -> "Line":
        """Logistic regression on the class; one that these rows lack keeps effects of zero."""
        from sklearn.linear_model import LogisticRegression

        c, k = 1.0 if s.strength is None else 1 / max(float(s.strength) * len(rows), 1e-9), len(a.labels)
        y = a.classes[rows]
        effect, intercept = np.zeros((1 if k == 2 else k, d.z.shape[1])), np.full(1 if k == 2 else k, 0.0)
        seen = np.unique(y)
        if len(seen) < 2:
            intercept[:] = np.where(np.arange(k) == seen[0], 1.0, -1.0) if k > 2 else 2.0 * seen[0] - 1
            return cls(effect, intercept, d.z, k, None)
        old = {"penalty": "elasticnet"} if inspect.signature(LogisticRegression).parameters["penalty"].default == "l2" else {}
        kind = {"l1_ratio": 1.0, "solver": "saga", **old} if s.penalty == "lasso" else {}
        model = _fitted(LogisticRegression(C=c, max_iter=1000, **kind), d.z[rows], y)
        if k == 2 or len(seen) == k:
            effect, intercept = model.coef_, model.intercept_
        else:
            own = np.stack([-model.coef_[0], model.coef_[0]]) if len(seen) == 2 else model.coef_
            effect[seen], intercept[:] = own, -1e9
            intercept[seen] = np.stack([-model.intercept_[0], model.intercept_[0]]) if len(seen) == 2 else model.intercept_
        return cls(effect, intercept, d.z, k, model)

    def predict(self, rows: Rows) -> Floats:
        """(len(rows), K) its answers; of classes their scores."""
        out: Floats = self.z[rows] @ self.effect.T + self.intercept
        return np.concatenate([-out, out], 1) if self.classes == 2 else out


def _fitted(model: Any, z: Floats, y: Any) -> Any:
    """The model fitted; where it stopped early, that shows in its fidelity."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(z, y)


def jackknifed(whole: Floats, parts: Floats) -> tuple[Floats, Floats]:
    """The 95% interval of estimates, from those without each of g groups: se^2 = (g - 1)/g times the sum of squares around their mean, with Student's t."""
    from scipy.stats import t

    g = len(parts)
    error = np.sqrt((g - 1) / g * ((parts - parts.mean(0)) ** 2).sum(0)) * float(t.ppf(0.975, g - 1))
    return whole - error, whole + error
