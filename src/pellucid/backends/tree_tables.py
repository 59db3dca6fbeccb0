"""What trees read of a table: its rows behind the fitted preprocessing, categories as the library's own codes, every feature with the raw columns it is made of."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.ensemble import Floats, TreeSum
from ..core.errors import ModelError, PellucidError, UsageError
from ..core.tree import Tree
from . import _boosted_trees, _sklearn_trees
from .raw_columns import Traced, trace

if TYPE_CHECKING:
    from .frame import Mixed
    from .trees import Trees

TRACED, TRIED, BLOCK = 32, 64, 4096
"""Rows that preprocessing is walked through with; that are answered by the library as well; that are made at a time."""


class Derived:
    """Rows behind a preprocessing, over the features that the trees split by; `raw` makes inputs what the first step takes."""

    def __init__(self, trees: "Trees", raw: Callable[[Tree], Any], x: Tree, rows: Any = None) -> None:
        self.of, self.raw = trees, raw
        whole, self.scale = trees.read()
        self.ensemble, self.used = whole.narrowed()
        table = raw(x) if rows is None else rows
        some, self.width = _some(table, TRACED), table.shape[1]
        with Told(trees.name):
            self.traced: Traced = trace(trees.before, some)
        if len(self.traced.sources) != whole.features:
            raise ModelError(f"The preprocessing of {trees.name} gives {len(self.traced.sources)} columns and its trees were fitted on {whole.features}. Fit the pipeline as one.")
        self.sources = tuple(self.traced.sources[f] for f in self.used)
        self._check(_some(table, TRIED))

    def rows(self, table: Any) -> Floats:
        """The features that the trees compare, of rows as the first step takes them."""
        out = np.empty((table.shape[0], len(self.used)))
        for at in range(0, len(out), BLOCK):
            out[at : at + BLOCK] = self._block(_part(table, slice(at, at + BLOCK)))[:, self.used]
        return self.ensemble.cast(out)

    def _block(self, table: Any) -> Floats:
        return features(self.of.last, self.given(table))

    def given(self, table: Any) -> Any:
        """What the last step is given."""
        with Told(self.of.name):
            for step in self.of.before:
                table = step.transform(table) if step is not None and not isinstance(step, str) else table
        return table

    def _check(self, table: Any) -> None:
        """Refuses rows that the trees as they are read answer otherwise than the library."""
        with Told(self.of.name):
            theirs = np.asarray(self.of.scores(self.given(table)), np.float64)
        own = self.ensemble.sums(self.rows(table))
        off = np.abs(own - theirs.reshape(own.shape)).max()
        if not off <= self.of.near * max(1.0, float(np.abs(own).max())):
            raise ModelError(f"{self.of.name}'s trees, read behind its preprocessing, differ from its own answers by {off:.3g} on these rows. Please report it; nothing was explained.")

    def trees(self) -> TreeSum:
        """For inputs that are rows of numbers."""
        return self._sum(lambda z: self.rows(self.raw(z)), self.width)

    def _sum(self, read: Callable[[Any], Floats], columns: int) -> TreeSum:
        tried = tuple(f"{name} was tried column by column on {TRACED} rows and mixes none" for name in dict.fromkeys(self.traced.tried))
        used = frozenset().union(*self.sources)
        mixers = tuple((name, own) for name, own in dict.fromkeys(self.traced.mixers) if own & used)
        return TreeSum(self.ensemble, self.scale, read, columns, self.sources, mixers, tried)

    def of_table(self, mix: "Mixed") -> TreeSum:
        """For inputs that say which cells of a table's rows are there: absent ones are a background row's."""
        pool = self.rows(mix.pool)
        first = np.array([min(s) if s else 0 for s in self.sources], np.int64)

        def read(point: Any) -> Floats:
            cells = mix.cells(point["present"], point["row"])
            return np.ascontiguousarray(pool[cells[:, first], np.arange(len(first))])

        return self._sum(read, mix.pool.shape[1])


class Told:
    """What a preprocessing raises is told in one sentence."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError, KeyError, AttributeError, IndexError)) and not isinstance(error, PellucidError):
            said = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{self.name}'s preprocessing does not take these rows: {said[:300]}") from None


def _some(table: Any, n: int) -> Any:
    """A few rows, evenly spaced."""
    return _part(table, np.unique(np.linspace(0, table.shape[0] - 1, min(n, table.shape[0])).round().astype(int)))


def _part(table: Any, rows: Any) -> Any:
    return table.iloc[rows] if hasattr(table, "iloc") else table[rows]


def features(last: Any, given: Any) -> Floats:
    """Rows as numbers that the trees of `last` compare: what it is given, categories as its own codes, what is missing as NaN."""
    module = type(last).__module__
    if hasattr(given, "tocoo"):
        return _dense(given, np.nan if module.startswith("xgboost.") else 0.0)  # XGBoost takes what is not stored for missing
    if getattr(last, "_preprocessor", None) is not None:
        return _sklearn_trees.coded(last, given)
    if not hasattr(given, "iloc"):
        return np.asarray(given, np.float64)
    known = _boosted_trees.categories(last) if module.startswith(("xgboost.", "lightgbm.")) else None
    out, seen = np.empty(given.shape), 0
    for j in range(given.shape[1]):
        column = given.iloc[:, j]
        if isinstance(getattr(column, "dtype", None), importlib.import_module("pandas").CategoricalDtype):
            out[:, j] = _codes(column, known, j, seen)
            seen += 1
        else:
            out[:, j] = _float(column)
    return out


def _codes(column: Any, known: Any, j: int, seen: int) -> Any:
    """The library's codes of a categorical column; NaN for what it does not know."""
    if known is not None:
        told = known[j] if isinstance(known, dict) else known[seen]
        column = column.cat.set_categories(told)
    codes = column.cat.codes.to_numpy().astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _float(column: Any) -> Any:
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError):
        raise UsageError(f"Trees compare numbers and categories; column {column.name!r} holds {column.dtype}. Let a preprocessing step or a category type say what it means.") from None


def _dense(given: Any, empty: float) -> Floats:
    coo = given.tocoo()
    out = np.full(coo.shape, empty)
    out[coo.row, coo.col] = coo.data
    return out
