"""Models that are sums over decision trees: their trees are read when a method asks for them, and tried against the library's own answers."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.card import Needs
from ..core.ensemble import Ensemble, Floats, TreeSum
from ..core.model import Model
from ..core.tree import Tree, leaves
from . import _boosted_trees, _sklearn_trees
from ._sklearn_trees import takes_missing
from .estimator import reads_texts
from .tree_tables import Derived

TRIED = 256
"""Rows, drawn around the trees' own thresholds, on which what was read must answer as the library does."""
FEW = 16
"""Of these, those on which trees that are known are tried again."""
EXACT, SINGLE = 1e-9, 2e-5
"""How nearly: XGBoost itself adds in single precision."""


def is_booster(net: Any) -> bool:
    """Whether an object is a bare booster of XGBoost or LightGBM."""
    return type(net).__module__.startswith(("xgboost.", "lightgbm.")) and type(net).__name__ == "Booster"


def scores(net: Any) -> Callable[[Any], Any]:
    """What a bare booster answers: what its trees add up to, (rows, outputs)."""
    own = _boosted_trees.scores(net)

    def ask(rows: Any) -> Any:
        out = np.asarray(own(rows), np.float64)
        return out[:, None] if out.ndim == 1 else out

    return ask


def net_columns(net: Any) -> list[str] | None:
    """The names of a booster's columns, where it was given any."""
    names = net.feature_name() if callable(getattr(net, "feature_name", None)) else getattr(net, "feature_names", None)
    return None if not names or all(n == f"Column_{i}" for i, n in enumerate(names)) else list(names)


def with_trees(model: Model, net: Any) -> Model:
    """The model, which can now say what its trees are; one without trees stays as it is."""
    before, last = parts(net)
    module, name = type(last).__module__, type(last).__name__
    if reads_texts(net) or not all(hasattr(s, "transform") or s in (None, "passthrough") for s in before):
        return model
    if module.startswith(("xgboost.", "lightgbm.")) or (module.startswith("sklearn.") and any(name.startswith(known) for known in _sklearn_trees.READERS)):
        model.can |= Needs.TREES
        model.missing = bool(before) or not module.startswith("sklearn.") or takes_missing(last)
        model.trees = Trees(net, model.name)  # type: ignore[method-assign]
    return model


def parts(net: Any) -> tuple[list[Any], Any]:
    """(the steps before the last one, the last one): of pipelines within pipelines, and of what a search found best."""
    if hasattr(net, "best_estimator_"):
        return parts(net.best_estimator_)
    if type(net).__name__ == "Pipeline" and hasattr(net, "steps"):
        inner, last = parts(net.steps[-1][1])
        return [s for _, s in net.steps[:-1]] + inner, last
    return [], net


class Trees:
    """Reads an object's trees when they are asked for; again where the object no longer answers like them."""

    def __init__(self, net: Any, name: str) -> None:
        self.net, self.name = net, name
        self.before, self.last = parts(net)
        self.known: tuple[Ensemble, str] | None = None
        self.rows: Floats | None = None

    def __call__(self, x: Tree) -> TreeSum:
        """What they are, and how they read rows of numbers."""
        ensemble, scale = self.read()
        if not self.before:
            own = tuple(frozenset({j}) for j in range(ensemble.features))
            return TreeSum(ensemble, scale, lambda z: ensemble.rows(_numbers(z)), ensemble.features, own)
        return Derived(self, lambda z: self._named(_numbers(z)), x).trees()

    def of_table(self, mix: Any) -> TreeSum:
        """The same for a table's rows, mixed with those of a background."""
        return Derived(self, lambda _: None, None, mix.pool).of_table(mix)

    def read(self) -> tuple[Ensemble, str]:
        """The last step's trees and their scale."""
        if self.known is None or not self._still(self.known[0]):
            ensemble, scores, scale = _sklearn_trees.read(self.last) or _boosted_trees.read(self.last)  # type: ignore[misc]
            rows = sample(ensemble)
            ensemble.verify(rows, scores(rows), self.near, self.name)
            self.known, self.rows, self.scores = (ensemble, scale), rows[:FEW], scores
        return self.known

    def _named(self, rows: Any) -> Any:
        """Rows as the object was fitted on them: with the names of its columns, if it was given any."""
        names = getattr(self.net, "feature_names_in_", None)
        return rows if names is None else importlib.import_module("pandas").DataFrame(rows, columns=names)

    @property
    def near(self) -> float:
        """How nearly what was read must answer as the library does."""
        return SINGLE if type(self.last).__module__.startswith("xgboost.") else EXACT

    def _still(self, known: Ensemble) -> bool:
        theirs = np.asarray(self.scores(self.rows), np.float64).reshape(FEW, -1)
        own = known.predict(self.rows)  # type: ignore[arg-type]
        return own.shape == theirs.shape and bool(np.abs(own - theirs).max() <= self.near * max(1.0, float(np.abs(theirs).max())))


def _numbers(z: Tree) -> Floats:
    """Rows of numbers out of a point."""
    return np.asarray(leaves(z)[0].double().cpu().numpy(), np.float64)


def sample(trees: Ensemble, n: int = TRIED) -> Floats:
    """Rows on, just above and just below the trees' thresholds, on their categories and beyond, some missing."""
    draw = np.random.default_rng(0)
    out = np.zeros((n, trees.features))
    for f in range(trees.features):
        nodes = np.flatnonzero(trees.feature == f)
        if not nodes.size:
            continue
        if (trees.category[nodes, 1] > 0).any():
            most = int(trees.category[nodes][:, [1, 3]].max()) * 32
            out[:, f] = draw.integers(0, most, n)
        else:
            edge = trees.threshold[draw.choice(nodes, n)]
            step = draw.choice([-1, 0, 1], n)
            out[:, f] = np.where(step == 0, edge, np.nextafter(edge.astype(np.float32), np.where(step > 0, np.inf, -np.inf).astype(np.float32)))
        out[~np.isfinite(out[:, f]), f] = 0.0  # beyond all numbers: the split parts what is missing from what is not
        if trees.missing_left[nodes].any() or np.isinf(trees.threshold[nodes]).any():
            out[draw.random(n) < 0.1, f] = np.nan
    return out
