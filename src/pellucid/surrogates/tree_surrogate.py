"""A shallow tree in the place of a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, param
from ..core.estimator import Estimator
from ..core.question import Question
from ._answers import Answers, Floats, answers_of, crossed
from ._conditions import Coding, Condition
from ._tree import Rows, TreeSummary, read_nodes


@dataclass(frozen=True, kw_only=True)
class TreeSurrogate(Estimator):
    """Which few questions lead to nearly the model's answers, and how nearly?

    How: scikit-learn's regression tree (CART) of the model's own answers; of classes the tree of the indicator of each class, which is the Gini tree.
    Words are asked after one by one, missing cells go their own way at every split. Fidelity is R2, or agreement, over folds of rows the tree was not grown on.
    Units: a node's answer is the mean of the model's answers on its rows, or the share of each class.
    Misleads when: the fidelity is low (below half of the way from the trivial answer to the model it is called unfaithful); columns that go together can stand in
    for each other, and another draw of rows grows another tree; it says what the model does on these rows, not why.
    Source: Craven and Shavlik 1996 (extracting tree-structured representations of trained networks); Breiman et al. 1984 (CART).
    """

    card = Card(title="Tree surrogate", paper="Craven and Shavlik 1996, NeurIPS 8; Breiman et al. 1984", cost="1 forward row a row of data")
    depth: int = param(3, "how many questions a path may ask", ge=1, le=12)
    leaf: float = param(0.01, "the smallest leaf, as a share of the rows", ge=0, le=0.5)
    folds: int = param(10, "parts that the rows are cut into to judge the tree", ge=2)

    def fit(self, q: Question) -> TreeSummary:
        a = answers_of(q)
        coding = Coding.of(a.columns, a.codes)
        matrix = coding.matrix(a.codes)
        fidelity, _ = crossed(a, lambda rows: Grown.on(self, a, matrix, rows, q.seed), self.folds, q.seed)
        whole = Grown.on(self, a, matrix, np.arange(len(a.y)), q.seed)

        def told(feature: int, left: Any, here: Rows, threshold: float) -> tuple[str, str, bool]:
            below, above = coding.split(feature, left, a.codes[here])
            return below.text, above.text, not _negative(below)

        nodes = read_nodes(whole.tree, matrix, a.y, told)
        return TreeSummary(nodes=nodes, labels=a.labels, name=a.name, fidelity=fidelity, importance=_importance(coding, whole.tree), model=whole.tree, notes=(fidelity.sentence,))


@dataclass(frozen=True, eq=False)
class Grown:
    """A tree grown on some rows."""

    tree: Any
    matrix: Any

    @classmethod
    def on(cls, s: TreeSurrogate, a: Answers, matrix: Any, rows: Rows, seed: int) -> "Grown":
        from sklearn.tree import DecisionTreeRegressor

        least = max(1, int(np.ceil(s.leaf * len(rows))))
        return cls(DecisionTreeRegressor(max_depth=s.depth, min_samples_leaf=least, random_state=seed).fit(matrix[rows], a.y[rows]), matrix)

    def predict(self, rows: Rows) -> Floats:
        """(len(rows), K) the means of the leaves."""
        out: Floats = self.tree.predict(self.matrix[rows]).reshape(len(rows), -1)
        return out


def _negative(c: Condition) -> bool:
    """Whether it says what a cell is not: the other way makes the better question."""
    return bool(c.levels) and not c.same


def _importance(coding: Coding, tree: Any) -> tuple[tuple[str, float], ...]:
    """Every column's share in what the splits explain, the largest first; columns that are never asked after are left out."""
    total = dict.fromkeys(range(len(coding.columns)), 0.0)
    for (j, _), v in zip(coding.features, tree.feature_importances_, strict=True):
        total[j] += float(v)
    return tuple((coding.columns[j].name, v) for j, v in sorted(total.items(), key=lambda kv: -kv[1]) if v > 0)
