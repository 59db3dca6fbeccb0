"""Fitted estimators and pipelines in scikit-learn's manner: the verb that says most is found by itself, class names become labels."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ModelError, UsageError
from .function import FunctionModel, as_array

VERBS = ("predict_proba", "decision_function", "predict")
"""What is asked, the first that an estimator has."""


def is_estimator(net: Any) -> bool:
    """Whether an object is fitted and asked as scikit-learn's are."""
    return not isinstance(net, type) and hasattr(net, "fit") and hasattr(net, "get_params") and any(hasattr(net, v) for v in VERBS)


def estimator_model(estimator: Any, takes: str | None = None, **settings: Any) -> FunctionModel:
    """The estimator as a model: probabilities where it gives them, else margins, else predictions."""
    verb = next((v for v in VERBS if hasattr(estimator, v)), "")
    if not verb:
        raise UsageError(f"An estimator needs one of {', '.join(VERBS)}; {type(estimator).__name__} has none.")
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list):
        raise UsageError(f"{type(estimator).__name__} answers {len(classes)} questions at once; wrap one of them: pel.wrap(lambda x: forest.predict_proba(x)[0], takes='array').")
    names = getattr(estimator, "feature_names_in_", None)
    names = None if names is None else [str(n) for n in names]
    settings["labels"] = settings.get("labels") or (None if classes is None else [str(c) for c in classes])
    settings["columns"] = settings.get("columns") or names
    model = FunctionModel(Asked(estimator, verb), takes=takes or ("texts" if reads_texts(estimator) else "auto"), **settings)
    model.chances = verb != "decision_function"
    if verb == "decision_function":
        model.notes.append(f"the answers are margins of {type(estimator).__name__}, which gives no probabilities")
    return model


def reads_texts(estimator: Any) -> bool:
    """Whether the first step takes texts: a vectorizer, or several side by side."""
    first = estimator
    while hasattr(first, "steps") or hasattr(first, "transformer_list"):
        first = (first.steps if hasattr(first, "steps") else first.transformer_list)[0][1]
    return hasattr(first, "build_analyzer")


@dataclass(frozen=True, eq=False)
class Asked:
    """An estimator with the verb that it is asked by."""

    estimator: Any
    verb: str

    @property
    def __name__(self) -> str:
        return type(self.estimator).__name__

    def __call__(self, rows: Any) -> Any:
        out = getattr(self.estimator, self.verb)(self._named(as_array(rows)))
        if isinstance(out, list):
            raise ModelError(f"{self.__name__} answers {len(out)} questions at once; wrap one of them: pel.wrap(lambda x: forest.predict_proba(x)[0], takes='array').")
        out = np.asarray(out)
        classes = getattr(self.estimator, "classes_", None)
        if self.verb == "decision_function" and out.ndim == 1:
            return np.stack([-out, out], 1)
        if self.verb == "predict" and classes is not None and out.ndim == 1:
            return (out[:, None] == np.asarray(classes)[None]).astype(np.float64)
        return out

    def _named(self, rows: Any) -> Any:
        """Arrays with the columns that the estimator was fitted on."""
        names = getattr(self.estimator, "feature_names_in_", None)
        if names is None or not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != len(names):
            return rows
        return importlib.import_module("pandas").DataFrame(rows, columns=names)
