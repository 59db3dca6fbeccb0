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
from ._ubjson import ubjson

LOGIT = ("binary:logistic", "reg:logistic", "binary:logitraw")
LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
KINDS = (READS_ZERO, ZERO_MISSING, MISSING, MISSING)
"""What is missing at a split, by LightGBM's number."""


def read(m: Any) -> Found | None:
    """The trees of a booster or of its scikit-learn face; None for anything else."""
    module = type(m).__module__
    if module.startswith("xgboost."):
        return _xgboost(m)
    return _lightgbm(m) if module.startswith("lightgbm.") else None


def scores(booster: Any) -> Callable[[Any], Any]:
    """What a bare booster's trees add up to, by the library's own code."""
    if type(booster).__module__.startswith("lightgbm."):
        return _lightgbm_scores(booster, "average_output" in booster.model_to_string(num_iteration=1).partition("Tree=")[0])

    def xgboost_scores(x: Any) -> Any:
        xgboost = importlib.import_module("xgboost")
        types = booster.feature_types
        if hasattr(x, "iloc") or hasattr(x, "tocoo"):
            return booster.predict(xgboost.DMatrix(x, enable_categorical=hasattr(x, "iloc")), output_margin=True)
        rows = xgboost.DMatrix(np.asarray(x, np.float64), feature_names=booster.feature_names, feature_types=types, enable_categorical=bool(types) and "c" in types)
        return booster.predict(rows, output_margin=True)

    return xgboost_scores


def _lightgbm_scores(booster: Any, averages: bool) -> Callable[[Any], Any]:
    """Raw scores; those of a forest are sums where its answers are means."""
    return lambda x: booster.predict(x if hasattr(x, "iloc") or hasattr(x, "tocoo") else np.asarray(x, np.float64), raw_score=not averages)


def categories(m: Any) -> Any:
    """The categories that a model was fitted on, in the order of its codes: by the number of the column, or a list over columns of categories; None where it keeps none."""
    if type(m).__module__.startswith("lightgbm."):
        return getattr(m, "booster_", m).pandas_categorical
    booster = m.get_booster() if hasattr(m, "get_booster") else m
    gradient = ubjson(bytes(booster.save_raw("ubj")))["learner"]["gradient_booster"]
    kept = gradient.get("gbtree", gradient)["model"].get("cats", {}).get("enc")
    return {j: _words(own) for j, own in enumerate(kept)} if kept else None


def _words(kept: dict[str, Any]) -> list[Any]:
    """Categories as XGBoost keeps them: numbers, or words as bytes and where each begins."""
    if "offsets" not in kept:
        return np.asarray(kept["values"]).tolist()
    letters, at = bytes(int(v) % 256 for v in kept["values"]), kept["offsets"]
    return [letters[a:b].decode() for a, b in itertools.pairwise(at)]


def _xgboost(m: Any) -> Found:
    booster = m.get_booster() if hasattr(m, "get_booster") else m
    ensemble, scale = _known(lambda: xgboost_trees(ubjson(bytes(booster.save_raw("ubj")))), "XGBoost")
    return ensemble, scores(booster), scale


def xgboost_trees(dump: dict[str, Any]) -> tuple[Ensemble, str]:
    """(the trees, their scale) of a model as XGBoost writes it."""
    learner = dump["learner"]
    gradient = learner["gradient_booster"]
    drop, forest = gradient.get("weight_drop"), gradient.get("gbtree", gradient)
    if "model" not in forest or "trees" not in forest["model"]:
        raise NotApplicable(f"Tree methods need trees; this XGBoost model has booster {gradient.get('name', '?')!r}. Use shapley, which asks any model.")
    facts, model, name = learner["learner_model_param"], forest["model"], learner["objective"]["name"]
    outputs = max(1, int(facts["num_class"]), int(facts.get("num_target", 1)))
    trees = [_xgboost_tree(t, int(model["tree_info"][i]), drop[i] if drop is not None else 1.0) for i, t in enumerate(model["trees"])]
    ensemble = Ensemble(trees, int(facts["num_feature"]), outputs, _base(facts["base_score"], name), single=True)
    return ensemble, "log-odds" if name in LOGIT or name.startswith("multi:") else "log of the mean" if name in LOG else ""


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
    text = booster.model_to_string()
    head, trees = _known(lambda: lightgbm_trees(text), "LightGBM")
    outputs = int(head["num_tree_per_iteration"])
    ensemble = Ensemble(trees, int(head["max_feature_idx"]) + 1, outputs)
    objective = head.get("objective", "")
    scale = "log-odds" if objective.startswith(("binary", "multiclass", "cross_entropy")) else "log of the mean" if objective.startswith(("poisson", "gamma", "tweedie")) else ""
    return ensemble, _lightgbm_scores(booster, "average_output" in head), scale


def lightgbm_trees(text: str) -> tuple[dict[str, str], list[OneTree]]:
    """(the head's lines, the trees) of a model as LightGBM writes it."""
    head, *rest = text.partition("end of trees")[0].split("Tree=")
    facts, trees = _lines(head), [_lines(t) for t in rest]
    if any(t.get("is_linear", "0") != "0" for t in trees):
        raise NotApplicable("LightGBM trees with linear_tree=True hold a line in each leaf, which is no constant. Use shapley, which asks any model.")
    outputs = int(facts["num_tree_per_iteration"])
    share = outputs / max(len(trees), 1) if "average_output" in facts else 1.0
    leaves = [int(t["num_leaves"]) for t in trees]
    parts = {name: _parts(trees, name, kind, [k - 1 for k in leaves]) for name, kind in INNER.items()}
    ends = {"leaf_value": leaves, "leaf_count": [k if k > 1 else 0 for k in leaves]}
    parts |= {name: _parts([t if n else {} for t, n in zip(trees, sizes, strict=True)], name, np.float64, sizes) for name, sizes in ends.items()}
    return facts, [_lightgbm_tree({name: own[k] for name, own in parts.items()}, t, k % outputs, share) for k, t in enumerate(trees)]


INNER = {"split_feature": np.int64, "threshold": np.float64, "decision_type": np.int64, "left_child": np.int64, "right_child": np.int64, "internal_count": np.float64}
"""What LightGBM writes of every split."""


def _lines(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines() if line)}


def _parts(trees: list[dict[str, str]], name: str, kind: Any, sizes: list[int]) -> list[Any]:
    """One field of every tree, read as one list of numbers."""
    whole = np.array(" ".join(t.get(name, "") for t in trees).split(), kind)
    if len(whole) != sum(sizes):
        raise ValueError(f"{name} holds {len(whole)} numbers, not {sum(sizes)}")
    return np.split(whole, np.cumsum(sizes)[:-1])


def _lightgbm_tree(own: dict[str, Any], t: dict[str, str], output: int, share: float) -> OneTree:
    leaf_value = own["leaf_value"] * share
    leaves, inner = len(leaf_value), len(leaf_value) - 1
    none, zeros = np.full(leaves, -1), np.zeros(leaves, np.int64)
    child = lambda c: np.concatenate([np.where(c < 0, inner + ~c, c), none])  # noqa: E731
    kind, edge, sets = own["decision_type"], own["threshold"], {}
    missing = np.concatenate([np.array(KINDS)[kind >> 2 & 3], zeros + MISSING])
    if t.get("num_cat", "0") != "0":
        ends, words = np.array(t["cat_boundaries"].split(), np.int64), np.array(t["cat_threshold"].split(), np.uint32)
        by_set = np.flatnonzero(kind & 1)
        sets = {int(v): words[ends[c] : ends[c + 1]] for v, c in zip(by_set, edge[by_set].astype(int), strict=True)}
        edge = np.where(kind & 1, 0.0, edge)
    cover = np.concatenate([own["internal_count"], own["leaf_count"] if inner else [1.0]])
    return OneTree(child(own["left_child"]), child(own["right_child"]), np.concatenate([own["split_feature"], none]), np.concatenate([edge, zeros]), cover,
                   np.concatenate([np.zeros(inner), leaf_value]), output, missing_left=np.concatenate([np.where(kind & 1, 0, kind >> 1 & 1), zeros]), missing=missing, sets=sets)


def _known(dump: Any, who: str) -> Any:
    """The library's own dump; one whose form is not known is refused by name."""
    try:
        return dump()
    except (KeyError, ValueError, TypeError) as e:
        raise ModelError(f"The dump of this {who} model has a form that is not known ({type(e).__name__}: {str(e)[:80]}). Save it with XGBoost 2.1 to 3, or LightGBM 4.") from None
