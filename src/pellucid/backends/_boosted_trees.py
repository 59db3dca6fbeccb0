"""The trees of XGBoost and LightGBM, from the dumps that they write themselves."""

import importlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.ensemble import MISSING, READS_ZERO, ZERO_MISSING, Ensemble, OneTree, bits
from ..core.errors import ModelError, NotApplicable
from ._sklearn_trees import Found

LOGIT = ("binary:logistic", "reg:logistic", "binary:logitraw")
LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
KINDS = {"None": READS_ZERO, "NaN": MISSING, "Zero": ZERO_MISSING}


def read(m: Any) -> Found | None:
    """The trees of a booster or of its scikit-learn face; None for anything else."""
    module = type(m).__module__
    if module.startswith("xgboost."):
        return _xgboost(m)
    return _lightgbm(m) if module.startswith("lightgbm.") else None


def scores(booster: Any) -> Callable[[Any], Any]:
    """What a bare booster's trees add up to, by the library's own code."""
    if type(booster).__module__.startswith("lightgbm."):
        averages = "average_output" in booster.model_to_string(num_iteration=1).partition("Tree=")[0]  # its raw scores are sums where its answers are means
        return lambda x: booster.predict(x if hasattr(x, "iloc") or hasattr(x, "tocoo") else np.asarray(x, np.float64), raw_score=not averages)

    def xgboost_scores(x: Any) -> Any:
        xgboost = importlib.import_module("xgboost")
        types = booster.feature_types
        if hasattr(x, "iloc") or hasattr(x, "tocoo"):
            return booster.predict(xgboost.DMatrix(x, enable_categorical=hasattr(x, "iloc")), output_margin=True)
        rows = xgboost.DMatrix(np.asarray(x, np.float64), feature_names=booster.feature_names, feature_types=types, enable_categorical=bool(types) and "c" in types)
        return booster.predict(rows, output_margin=True)

    return xgboost_scores


def categories(m: Any) -> Any:
    """The categories that a model was fitted on, in the order of its codes: by the number of the column, or a list over columns of categories; None where it keeps none."""
    if type(m).__module__.startswith("lightgbm."):
        return getattr(m, "booster_", m).pandas_categorical
    booster = m.get_booster() if hasattr(m, "get_booster") else m
    gradient = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    kept = gradient.get("gbtree", gradient)["model"].get("cats", {}).get("enc")
    return {j: _words(own) for j, own in enumerate(kept)} if kept else None


def _words(kept: dict[str, Any]) -> list[Any]:
    """Categories as XGBoost keeps them: numbers, or words as bytes and where each begins."""
    if "offsets" not in kept:
        return list(kept["values"])
    letters, at = bytes(v % 256 for v in kept["values"]), kept["offsets"]
    return [letters[a:b].decode() for a, b in itertools.pairwise(at)]


def _xgboost(m: Any) -> Found:
    booster = m.get_booster() if hasattr(m, "get_booster") else m
    learner = _known(lambda: json.loads(bytes(booster.save_raw("json")))["learner"], "XGBoost")
    gradient = learner["gradient_booster"]
    drop, forest = gradient.get("weight_drop"), gradient.get("gbtree", gradient)
    if "model" not in forest or "trees" not in forest["model"]:
        raise NotApplicable(f"Tree methods need trees; this XGBoost model has booster {gradient.get('name', '?')!r}. Use shapley, which asks any model.")
    facts, model = learner["learner_model_param"], forest["model"]
    outputs = max(1, int(facts["num_class"]), int(facts.get("num_target", 1)))
    trees = [_xgboost_tree(t, model["tree_info"][i], drop[i] if drop else 1.0) for i, t in enumerate(model["trees"])]
    ensemble = Ensemble(trees, int(facts["num_feature"]), outputs, _base(facts["base_score"], learner["objective"]["name"]), single=True)

    name = learner["objective"]["name"]
    return ensemble, scores(booster), "log-odds" if name in LOGIT or name.startswith("multi:") else "log of the mean" if name in LOG else ""


def _base(text: str, objective: str) -> Any:
    """The score that all rows begin with; the dump holds it in the scale of the answers."""
    base = np.ravel(np.array(json.loads(text), np.float64))
    if objective in LOGIT:
        return np.log(base / (1 - base))
    return np.log(base) if objective in LOG else base


def _xgboost_tree(t: dict[str, Any], output: int, weight: float) -> OneTree:
    if int(t["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise NotApplicable("XGBoost trees with vectors in their leaves (multi_strategy='multi_output_tree') are not read yet. Use shapley, which asks any model.")
    left, right, missing = (np.array(t[k], np.int64) for k in ("left_children", "right_children", "default_left"))
    edge = np.array(t["split_conditions"], np.float32)
    sets = {}
    for v, begin, size in zip(t["categories_nodes"], t["categories_segments"], t["categories_sizes"], strict=True):
        sets[v] = bits(t["categories"][begin : begin + size])  # what is in the set goes right
        left[v], right[v], missing[v] = right[v], left[v], 1 - missing[v]
    below = np.nextafter(edge, np.float32(-np.inf)).astype(np.float64)  # x < t is x <= the float before t
    return OneTree(left, right, t["split_indices"], below, t["sum_hessian"], edge.astype(np.float64) * weight, output, missing_left=missing, sets=sets)


def _lightgbm(m: Any) -> Found:
    booster = getattr(m, "booster_", m)
    dump = _known(booster.dump_model, "LightGBM")
    outputs, infos = int(dump["num_tree_per_iteration"]), dump["tree_info"]
    share = outputs / max(len(infos), 1) if dump.get("average_output") else 1.0
    trees = [_lightgbm_tree(t["tree_structure"], k % outputs, share) for k, t in enumerate(infos)]
    ensemble = Ensemble(trees, int(dump["max_feature_idx"]) + 1, outputs)
    objective = str(dump.get("objective", ""))
    scale = "log-odds" if objective.startswith(("binary", "multiclass", "cross_entropy")) else "log of the mean" if objective.startswith(("poisson", "gamma", "tweedie")) else ""
    return ensemble, scores(booster), scale


def _lightgbm_tree(root: dict[str, Any], output: int, share: float) -> OneTree:
    found: dict[str, list[Any]] = {k: [] for k in ("left", "right", "feature", "threshold", "cover", "value", "missing_left", "missing")}
    sets, todo = {}, [(root, -1, "left")]
    while todo:
        node, up, side = todo.pop()
        i = len(found["left"])
        if up >= 0:
            found[side][up] = i
        if "linear" in "".join(node) or "leaf_const" in node:
            raise NotApplicable("LightGBM trees with linear_tree=True hold a line in each leaf, which is no constant. Use shapley, which asks any model.")
        leaf = "split_feature" not in node
        by_set = not leaf and node["decision_type"] == "=="
        row = (-1, -1, -1, 0.0, node.get("leaf_count", 1), node["leaf_value"] * share, 0, MISSING) if leaf else (
            0, 0, node["split_feature"], 0.0 if by_set else node["threshold"], node["internal_count"], 0.0, 0 if by_set else int(node["default_left"]), KINDS[node["missing_type"]])
        for column, v in zip(found.values(), row, strict=True):
            column.append(v)
        if by_set:
            sets[i] = bits([int(c) for c in node["threshold"].split("||")])
        if not leaf:
            todo += [(node["left_child"], i, "left"), (node["right_child"], i, "right")]
    return OneTree(**found, output=output, sets=sets)  # type: ignore[arg-type]


def _known(dump: Any, who: str) -> Any:
    """The library's own dump; one whose form is not known is refused by name."""
    try:
        return dump()
    except (KeyError, ValueError, TypeError) as e:
        raise ModelError(f"The dump of this {who} model has a form that is not known ({type(e).__name__}: {str(e)[:80]}). Save it with XGBoost 2.1 to 3, or LightGBM 4.") from None
