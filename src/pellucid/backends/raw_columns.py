"""Which of a table's own columns each column behind a fitted preprocessing is made of. Nothing is imported; transformers are known by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Sources = list[frozenset[int]]
"""Of every column: the raw columns that it is made of."""

ONE_TO_ONE = ("AsCategories", "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "QuantileTransformer", "PowerTransformer", "OrdinalEncoder", "Binarizer")
EVENLY = ("TargetEncoder", "SplineTransformer")
"""Every column becomes as many, next to each other."""
MIXERS = (
    "PCA", "IncrementalPCA", "KernelPCA", "SparsePCA", "TruncatedSVD", "FastICA", "NMF", "FactorAnalysis", "PLSRegression", "LinearDiscriminantAnalysis", "Normalizer", "KNNImputer",
    "IterativeImputer", "RBFSampler", "Nystroem", "SkewedChi2Sampler", "PolynomialCountSketch", "FeatureHasher", "DictVectorizer", "FeatureAgglomeration", "KMeans", "RandomTreesEmbedding",
    "BernoulliRBM", "GaussianRandomProjection", "SparseRandomProjection",
)  # fmt: skip
"""Every column that comes out may hold something of every one that goes in."""
SHIFTS = (1, 3, 7, 13)


@dataclass
class Traced:
    """What is known after a preprocessing was walked through."""

    sources: Sources
    mixers: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    """Transformers that make one column of several, and which."""
    tried: list[str] = field(default_factory=list)
    """Transformers of unknown kind, which were tried column by column."""


def trace(steps: Sequence[Any], sample: Any) -> Traced:
    """Walks through fitted transformers with a few rows of the table that the first one takes."""
    found = Traced([frozenset({j}) for j in range(sample.shape[1])])
    found.sources = _chain(steps, found.sources, sample, found)[0]
    return found


def _chain(steps: Sequence[Any], sources: Sources, x: Any, found: Traced) -> tuple[Sources, Any]:
    for step in steps:
        if step is None or isinstance(step, str):  # "passthrough"
            continue
        out = step.transform(x)
        sources = _one(step, sources, x, out, found)
        x = out
    return sources, x


def _one(t: Any, sources: Sources, x: Any, out: Any, found: Traced) -> Sources:
    """The sources of what one transformer gives."""
    name, width = type(t).__name__, out.shape[1] if out.ndim > 1 else 1
    if name == "Pipeline":
        return _chain([s for _, s in t.steps], sources, x, found)[0]
    if name == "ColumnTransformer":
        return _side_by_side(t, sources, x, width, found)
    if name == "FeatureUnion":
        parts = [s for _, s in t.transformer_list if not (isinstance(s, str) and s == "drop")]
        return [s for part in parts for s in _chain([part], sources, x, found)[0]]
    union = frozenset().union(*sources)
    if len(union) <= 1:  # whatever it does, it does to one raw column
        return [union] * width
    known = _known(t, name, sources, width)
    if known is not None and len(known) == width:
        return known
    if name in MIXERS:
        found.mixers.append((name, union))
        return [union] * width
    return _tried(t, name, sources, x, out, width, found)


def _known(t: Any, name: str, sources: Sources, width: int) -> Sources | None:
    """What is known of transformers that keep columns apart; None for all others."""
    n = len(sources)
    if name in ONE_TO_ONE:
        return sources
    if name in EVENLY and width % n == 0:
        return [s for s in sources for _ in range(width // n)]
    if name == "OneHotEncoder" and hasattr(t, "_n_features_outs"):
        return [s for s, k in zip(sources, t._n_features_outs, strict=True) for _ in range(k)]
    if name == "KBinsDiscretizer":
        return sources if t.encode == "ordinal" else [s for s, k in zip(sources, t.n_bins_, strict=True) for _ in range(k)]
    if name == "SimpleImputer":
        return _imputed(t, sources)
    if name == "MissingIndicator":
        return [sources[j] for j in t.features_]
    if hasattr(t, "get_support"):
        return [s for s, kept in zip(sources, t.get_support(), strict=True) if kept]
    return sources if name == "FunctionTransformer" and t.func is None else None


def _imputed(t: Any, sources: Sources) -> Sources:
    """Columns that were missing throughout are dropped; indicators of what was missing come last."""
    empty = [isinstance(s, float) and np.isnan(s) for s in np.asarray(t.statistics_, object).tolist()]
    kept = [s for s, gone in zip(sources, empty, strict=True) if not gone or getattr(t, "keep_empty_features", False)]
    return kept + ([sources[j] for j in t.indicator_.features_] if getattr(t, "add_indicator", False) else [])


def _side_by_side(t: Any, sources: Sources, x: Any, width: int, found: Traced) -> Sources:
    """A ColumnTransformer: every part on columns of its own."""
    out: Sources = [frozenset()] * width
    for name, part, columns in t.transformers_:
        at = t.output_indices_[name]
        if isinstance(part, str) and part == "drop" or at.start == at.stop:
            continue
        which = list(t._transformer_to_input_indices[name])
        own = [sources[j] for j in which]
        if isinstance(part, str):
            out[at] = own
            continue
        scalar = isinstance(columns, (str, int, np.integer)) and len(which) == 1
        out[at] = _chain([part], own, _picked(x, which[0] if scalar else which), found)[0]
    return out


def _picked(x: Any, which: Any) -> Any:
    return x.iloc[:, which] if hasattr(x, "iloc") else x[:, which]


def _tried(t: Any, name: str, sources: Sources, x: Any, out: Any, width: int, found: Traced) -> Sources:
    """Every column is moved along by itself: what changes is made of it. What nothing changes may be made of all."""
    told = getattr(getattr(t, "func", None), "__name__", "") if name == "FunctionTransformer" else ""
    name = f"{name}({told})" if told else name
    before, made = _cells(out), [set[int]() for _ in range(width)]
    for j in range(x.shape[1]):
        for shift in SHIFTS:
            after = _cells(t.transform(_moved(x, j, shift)))
            if after.shape != before.shape:
                made = [set(range(len(sources))) for _ in range(width)]
                break
            for d in np.flatnonzero(~_same(before, after).all(0)).tolist():
                made[d].add(j)
    union = frozenset().union(*sources)
    derived = [frozenset().union(*(sources[j] for j in m)) if m else union for m in made]
    mixed = [d for d in derived if len(d) > 1]
    if mixed:
        found.mixers.append((name, frozenset().union(*mixed)))
    else:
        found.tried.append(name)
    return derived


def _moved(x: Any, j: int, shift: int) -> Any:
    """The table with one column's cells moved along."""
    order = np.roll(np.arange(x.shape[0]), shift)
    if hasattr(x, "iloc"):
        columns = {i: x.iloc[:, i].array.take(order) if i == j else x.iloc[:, i].array for i in range(x.shape[1])}
        new = type(x)(columns, index=x.index)
        new.columns = x.columns
        return new
    new = x.copy()
    new[:, j] = x[order][:, j]
    return new


def _cells(out: Any) -> Any:
    out = out.toarray() if hasattr(out, "toarray") else np.asarray(out)
    return out[:, None] if out.ndim == 1 else out


def _same(a: Any, b: Any) -> Any:
    """Equal cells, missing ones as well."""
    return (a == b) | ((a != a) & (b != b))
