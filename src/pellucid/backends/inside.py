"""What stands behind a wrapped estimator: the fitted model itself, what is done to rows before it, and the names of what it sees."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import NotApplicable
from ..core.question import Question
from ..core.tree import leaves
from ..modalities.columns import columns_of, framed
from .function import as_array


@dataclass(frozen=True, eq=False)
class Inside:
    """The last step of a pipeline, the rows as it sees them, and their columns' names."""

    estimator: Any
    rows: NDArray[np.float64]
    names: tuple[str, ...]

    @property
    def given(self) -> Any:
        """The rows as the estimator was fitted on such: with the names of their columns where it knows them."""
        known = getattr(self.estimator, "feature_names_in_", None)
        return self.rows if known is None else importlib.import_module("pandas").DataFrame(self.rows, columns=known)


def estimator_behind(model: Any) -> Any:
    """The fitted estimator of scikit-learn's manner that a model asks; None where it is another thing."""
    asked = getattr(model, "function", None)
    while asked is not None and not hasattr(asked, "estimator"):
        asked = getattr(asked, "function", None)
    return getattr(asked, "estimator", None)


def inside(q: Question, who: str) -> Inside:
    """The estimator behind a question about a table."""
    whole = estimator_behind(q.model)
    if whole is None:
        raise NotApplicable(f"{who} needs a fitted estimator of scikit-learn; {q.model.name} is another thing. Take tree-surrogate, linear-surrogate or rule-surrogate.")
    asked, columns = q.model.function, columns_of(q)  # type: ignore[attr-defined]
    codes = as_array(leaves(q.point)[0])
    rows = framed(asked.columns, codes, asked.like) if hasattr(asked, "like") else asked._named(codes) if hasattr(asked, "_named") else codes
    if not hasattr(whole, "steps"):
        return Inside(whole, np.asarray(rows, dtype=np.float64), tuple(c.name for c in columns))
    before, last = whole[:-1], whole.steps[-1][1]
    made = before.transform(rows) if len(before.steps) else rows
    made = np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)
    return Inside(last, made, named(before, [c.name for c in columns], made.shape[1]))


def named(before: Any, columns: list[str], width: int) -> tuple[str, ...]:
    """The names of what a pipeline's steps make, as they say themselves; else by place."""
    try:
        told = tuple(map(str, before.get_feature_names_out())) if hasattr(before, "feature_names_in_") else tuple(map(str, before.get_feature_names_out(columns)))
    except (AttributeError, ValueError, TypeError):
        told = tuple(columns)
    told = tuple(t.rpartition("__")[2] for t in told)
    return told if len(told) == width and len(set(told)) == width else tuple(f"feature {j}" for j in range(width))
