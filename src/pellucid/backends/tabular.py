"""Questions about whole tables: every cell becomes a number, and turns back into the very same cell before the model sees it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import Model
from ..core.question import Question, ask
from ..modalities.columns import Column, as_codes, coded, columns_of, described, framed, read
from .frame import as_frame
from .function import FunctionModel, as_array


@dataclass(frozen=True, eq=False)
class Decoded:
    """A function on tables, asked by rows of codes."""

    function: Any
    columns: tuple[Column, ...]
    like: Any

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, codes: Any) -> Any:
        return self.function(framed(self.columns, as_array(codes), self.like))


def ask_table(
    model: Model, data: Any, target: Any = None, *, baseline: Any = 0, kinds: Mapping[str, str] | None = None, ids: Sequence[Any] | None = None, seed: int = 0, batch_size: Any = None,
    known: Sequence[Column] | None = None,
) -> Question:
    """A question about the rows of a table: a DataFrame of any columns, an array or a tensor.

    Its point is (rows, columns) of numbers - of a DataFrame the codes of its cells - and `columns_of(q)` says what they stand for.
    `kinds` names what a column holds where that cannot be seen; `known` are the columns of a table read before, whose codes are meant.
    """
    data = as_frame(data)
    if not hasattr(data, "iloc"):
        return _numbers(model, data, target, baseline, kinds, ids, seed, batch_size, known)
    if not isinstance(model, FunctionModel):
        if any(d.kind not in "fiub" for d in data.dtypes):
            raise UsageError(f"{model.name} takes tensors; the table holds words. Wrap a function of tables: pel.wrap(lambda df: ..., takes='frame').")
        names = list(map(str, data.columns))
        return _numbers(model, data.to_numpy("float32"), target, baseline, kinds, ids, seed, batch_size, known, names)
    if not len(data):
        raise UsageError("A table needs at least one row; it holds none.")
    if model.columns is not None:
        missing = [c for c in model.columns if c not in map(str, data.columns)]
        if missing:
            raise UsageError(f"{model.name} needs the columns {', '.join(model.columns[:8])}{', ...' if len(model.columns) > 8 else ''}; the table lacks {', '.join(missing[:5])}.")
        data = data[[c for name in model.columns for c in data.columns if str(c) == name]]
    columns, rows = read(data, kinds) if known is None else (tuple(known), coded(known, data))
    twin = model.twin(Decoded(model.function, columns, data.iloc[:0]), takes="array", columns=[c.name for c in columns], table=columns, missing=True)
    return ask(twin, as_codes(rows), target, None, baseline, ids, seed, batch_size)


def _numbers(
    model: Model, data: Any, target: Any, baseline: Any, kinds: Mapping[str, str] | None, ids: Any, seed: int, batch_size: Any, known: Sequence[Column] | None, names: Sequence[str] | None = None
) -> Question:
    """The same for rows of numbers, which are their own codes."""
    q = ask(model, data, target, None, baseline, ids, seed, batch_size)
    if not isinstance(q.x, Tensor) or q.x.ndim != 2:
        raise UsageError(f"A table needs rows of numbers, (rows, columns), or a DataFrame; got {type(data).__name__}{f' of shape {tuple(np.shape(data))}' if hasattr(data, 'shape') else ''}.")
    columns = tuple(known) if known is not None else described(as_array(q.x), names) if names is not None else columns_of(q)
    for name, kind in (kinds or {}).items():
        columns = tuple(Column(c.name, kind, tuple(range(int(c.high) + 1)) if kind == "category" else (), c.low, c.high, c.missing) if c.name == name else c for c in columns)
    return q.with_model(_with_table(q.model, columns))


def _with_table(model: Model, columns: tuple[Column, ...]) -> Model:
    """The same model, which knows what its columns hold."""
    twin = model.twin(model.function) if isinstance(model, FunctionModel) else copy.copy(model)
    twin.__dict__["table"] = columns
    return twin
