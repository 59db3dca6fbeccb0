"""Pellucid: see through a model, and check what you see.

    >>> import pellucid as pel
    >>> e = pel.explain(model, "cat.jpg")
    >>> e.evidence.verdict
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "explain": "run.explain", "assess": "run.explain", "learn": "run.learn", "effect": "run.effects", "compare": "run.compare", "advise": "run.advice",
    "counterfactual": "run.counterfactual", "wrap": "backends", "load": "backends",
    "Model": "core.model", "Question": "core.question", "ask": "core.question", "Samples": "core.question", "Explanation": "core.explanation", "Place": "core.places", "Plan": "core.planner",
    "shared": "core.tree", "Label": "core.target", "Probability": "core.target", "Contrast": "core.target", "Output": "core.target", "Loss": "core.target",
    "Entropy": "core.target", "Neuron": "core.target", "Direction": "core.target", "Similarity": "core.target", "Target": "core.target",
    "PellucidError": "core.errors", "UsageError": "core.errors", "UnknownName": "core.errors", "ModelError": "core.errors", "NotApplicable": "core.errors",
    "CannotComplete": "core.errors", "Cancelled": "core.errors", "Progress": "core.progress", "Store": "run.store",
    "from_shap": "backends.shap_explanation", "submodular_pick": "attribution._pick",
    "ImageMasker": "modalities.superpixels", "TableMasker": "modalities.table", "SeriesMasker": "modalities.series", "TextMasker": "modalities.text",
}  # fmt: skip
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"pellucid has no {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
