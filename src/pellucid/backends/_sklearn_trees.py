"""scikit-learn's trees: single ones, forests, boosting, bagging, voting, isolation. Nothing is imported; classes are known by name."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.ensemble import Ensemble, Floats, OneTree
from ..core.errors import NotApplicable

Scores = Callable[[Any], Any]
Found = tuple[Ensemble, Scores, str]
"""(the trees, what they add up to by the library's own code, the scale of that in words)."""


def read(m: Any) -> Found | None:
    """The trees of an estimator; None for one that is made of none."""
    name = type(m).__name__
    if not type(m).__module__.startswith("sklearn."):
        return None
    reader = next((r for known, r in READERS.items() if name.startswith(known)), None)
    if reader is None:
        return None
    ensemble, scores, scale = reader(m)
    return ensemble, (scores if reader is _histogram else _named(m, scores)), scale


def _named(m: Any, scores: Scores) -> Scores:
    """The same for rows as the estimator was fitted on them: with the names of its columns, if it was given any."""
    names = getattr(m, "feature_names_in_", None)
    if names is None:
        return scores
    return lambda x: scores(importlib.import_module("pandas").DataFrame(x, columns=names) if isinstance(x, np.ndarray) else x)


def takes_missing(m: Any) -> bool:
    """Whether an estimator takes NaN for missing, as it says itself."""
    tags = getattr(m, "__sklearn_tags__", None)
    return bool(tags().input_tags.allow_nan) if tags is not None else type(m).__name__.startswith("HistGradientBoosting")


def _values(m: Any, classes: bool) -> Floats:
    """(nodes, outputs): shares of the classes, or means."""
    v = np.asarray(m.tree_.value, np.float64)
    if not classes:
        return v[:, :, 0]
    if v.shape[1] > 1:
        raise NotApplicable(f"Tree methods read one target; this {type(m).__name__} was fitted on {v.shape[1]} targets with classes. Fit one model a target.")
    return np.asarray(v[:, 0] / v[:, 0].sum(1, keepdims=True))


def _one(m: Any, value: Floats, output: int = 0, columns: Any = None, missing: bool = False) -> OneTree:
    nodes = m.tree_.__getstate__()["nodes"]
    feature = nodes["feature"] if columns is None else np.where(nodes["feature"] >= 0, np.asarray(columns)[np.maximum(nodes["feature"], 0)], -1)
    left = nodes["missing_go_to_left"] if missing and "missing_go_to_left" in (nodes.dtype.names or ()) else None
    return OneTree(nodes["left_child"], nodes["right_child"], feature, nodes["threshold"], nodes["weighted_n_node_samples"], value, output, missing_left=left)


def _classes(m: Any) -> bool:
    return hasattr(m, "classes_")


def _mean(m: Any) -> Found:
    """One tree, or the mean of several."""
    trees, classes = list(getattr(m, "estimators_", [m])), _classes(m)
    columns = getattr(m, "estimators_features_", [None] * len(trees))
    if any(not hasattr(e, "tree_") for e in trees):
        raise NotApplicable(f"Tree methods read {type(m).__name__} over trees; this one holds a {type(trees[0]).__name__}. Use shapley, which asks any model.")
    if classes and any(len(e.classes_) != len(m.classes_) for e in trees):
        raise NotApplicable(f"A tree of this {type(m).__name__} saw {min(len(e.classes_) for e in trees)} of {len(m.classes_)} classes; such an ensemble is not read yet. Use shapley.")
    values = [_values(e, classes) / len(trees) for e in trees]
    gaps = takes_missing(m)
    made = [_one(e, v, columns=c, missing=gaps) for e, v, c in zip(trees, values, columns, strict=True)]
    outputs = values[0].shape[1]
    return Ensemble(made, m.n_features_in_, outputs, single=True), (m.predict_proba if classes else m.predict), "probability" if classes else ""


def _boosted(m: Any) -> Found:
    """Gradient boosting: raw scores, one a class but for two classes."""
    grid = np.asarray(m.estimators_, object)
    base = np.ravel(m._raw_predict_init(np.zeros((1, m.n_features_in_), np.float32)))
    trees = [_one(e, _values(e, False) * m.learning_rate, k) for row in grid for k, e in enumerate(row)]
    ensemble = Ensemble(trees, m.n_features_in_, grid.shape[1], base, single=True)
    return (ensemble, m.decision_function, "log-odds") if _classes(m) else (ensemble, m.predict, "")


def _adaboost(m: Any) -> Found:
    """Votes of trees, weighed; a median of trees is no sum."""
    if not _classes(m):
        raise NotApplicable("AdaBoostRegressor gives a weighted median of its trees, which is no sum over them. Use shapley, which asks any model.")
    total, k = float(np.sum(m.estimator_weights_[: len(m.estimators_)])), len(m.classes_)
    trees = []
    for e, w in zip(m.estimators_, m.estimator_weights_, strict=False):
        votes = np.where(np.eye(k)[_values(e, True).argmax(1)] > 0, 1.0, -1 / (k - 1)) * w / total
        trees.append(_one(e, (votes[:, 1] - votes[:, 0])[:, None] if k == 2 else votes))
    return Ensemble(trees, m.n_features_in_, 1 if k == 2 else k, single=True), m.decision_function, "votes"


def _voting(m: Any) -> Found:
    """A mean of models of trees, weighed."""
    if _classes(m) and m.voting != "soft":
        raise NotApplicable("VotingClassifier with voting='hard' counts labels, which is no sum over trees. Use voting='soft', or shapley, which asks any model.")
    weights = np.asarray(m._weights_not_none if m.weights is not None else np.ones(len(m.estimators_)), np.float64)
    trees: list[OneTree] = []
    outputs = 0
    for e, w in zip(m.estimators_, weights / weights.sum(), strict=True):
        if READERS.get(type(e).__name__.removesuffix("Classifier").removesuffix("Regressor")) is not _mean:
            raise NotApplicable(f"Tree methods read a vote over trees and forests; this one holds a {type(e).__name__}. Use shapley, which asks any model.")
        gaps = takes_missing(m)
        for one in getattr(e, "estimators_", [e]):
            value = _values(one, _classes(m)) * w / len(getattr(e, "estimators_", [e]))
            trees.append(_one(one, value, missing=gaps))
            outputs = value.shape[1]
    return Ensemble(trees, m.n_features_in_, outputs, single=True), (m.predict_proba if _classes(m) else m.predict), "probability" if _classes(m) else ""


def _isolation(m: Any) -> Found:
    """How soon a row is alone: minus its mean depth, in the units of the forest's own average."""
    usual = _alone(np.array([m._max_samples]))[0] * len(m.estimators_)
    trees = []
    for e, columns in zip(m.estimators_, m.estimators_features_, strict=True):
        t = e.tree_
        depth = np.zeros(t.node_count)
        for i in range(t.node_count):
            if t.children_left[i] >= 0:
                depth[[t.children_left[i], t.children_right[i]]] = depth[i] + 1
        trees.append(_one(e, -(depth + _alone(t.n_node_samples))[:, None] / usual, columns=columns))
    return Ensemble(trees, m.n_features_in_, 1, single=True), lambda x: np.log2(-m.score_samples(x)), "log2 of the anomaly score, less is stranger"


def _alone(n: Any) -> Floats:
    """The mean depth of an unsuccessful search in a tree of n rows (Liu, Ting, Zhou 2008, equation 1)."""
    n = np.asarray(n, np.float64)
    deep = 2 * (np.log(np.maximum(n - 1, 1)) + np.euler_gamma) - 2 * (n - 1) / np.maximum(n, 1)
    return np.where(n > 2, deep, np.where(n == 2, 1.0, 0.0))


def _histogram(m: Any) -> Found:
    """HistGradientBoosting, whose categories are sets and whose categorical columns come first inside."""
    columns, prepare = _order(m)
    known, column_of = m._bin_mapper.make_known_categories_bitsets()
    trees = []
    for step in m._predictors:
        for k, p in enumerate(step):
            n = p.nodes
            leaf = n["is_leaf"].astype(bool)
            by_set = np.flatnonzero((n["is_categorical"] > 0) & ~leaf).tolist()
            sets = {v: p.raw_left_cat_bitsets[n["bitset_idx"][v]] for v in by_set}
            seen = {v: known[column_of[n["feature_idx"][v]]] for v in by_set}
            left, right = (np.where(leaf, -1, n[side].astype(np.int64)) for side in ("left", "right"))
            trees.append(OneTree(left, right, columns[n["feature_idx"]], n["num_threshold"], n["count"], n["value"], k, missing_left=n["missing_go_to_left"], sets=sets, known=seen))
    ensemble = Ensemble(trees, m.n_features_in_, m.n_trees_per_iteration_, np.ravel(m._baseline_prediction), prepare=prepare)
    raw = _classes(m) or getattr(m, "loss", "squared_error") in ("poisson", "gamma")  # a regression's own scale is that of its link
    ask = m._raw_predict if raw else m.predict

    def scores(x: Any) -> Any:
        if prepare is None and m._preprocessor is not None and isinstance(x, np.ndarray):  # codes of categories that are words
            out = np.tile(np.ravel(m._baseline_prediction).astype(np.float64), (len(x), 1))
            m._predict_iterations(np.ascontiguousarray(x[:, columns]), m._predictors, out, False, 1)
            return out
        return ask(x if hasattr(x, "iloc") else _as_fitted(m, x))

    return ensemble, scores, "log-odds" if _classes(m) else "log of the mean" if raw else ""


def _as_fitted(m: Any, x: Any) -> Any:
    names = getattr(m, "feature_names_in_", None)
    return x if names is None else importlib.import_module("pandas").DataFrame(x, columns=names)


def _order(m: Any) -> tuple[Any, Callable[[Floats], Floats] | None]:
    """(the user's column of each column inside, what turns rows into codes of categories, where these are numbers)."""
    inside, n = getattr(m, "_preprocessor", None), m.n_features_in_
    if inside is None:
        return np.arange(n), None
    columns = np.concatenate([inside._transformer_to_input_indices[name] for name, _, _ in inside.transformers_]).astype(int)
    words = any(np.asarray(c).dtype.kind not in "fiub" for c in inside.named_transformers_["encoder"].categories_)
    return columns, None if words else lambda x: coded(m, _as_fitted(m, x))


def coded(m: Any, x: Any) -> Floats:
    """Rows of a HistGradientBoosting model with its categories as codes, columns in the user's order."""
    inside, columns = m._preprocessor, _order(m)[0]
    given = np.asarray(inside.transform(x), np.float64)
    out = np.empty((len(given), m.n_features_in_))
    out[:, columns] = given
    return out


READERS: dict[str, Callable[[Any], Found]] = {
    "HistGradientBoosting": _histogram, "GradientBoosting": _boosted, "DecisionTree": _mean, "ExtraTrees": _mean, "ExtraTree": _mean, "RandomForest": _mean,
    "AdaBoost": _adaboost, "Bagging": _mean, "Voting": _voting, "IsolationForest": _isolation,
}
