"""What other people's functions answer, as tensors: arrays, lists, mappings from a label to its probability, tables with named columns."""

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from ..core.tree import leaves, map_leaves

Told = Callable[[list[str]], list[str]]
"""Hears the labels that the answers name, in their order; gives the order in which they are wanted."""


class Answers:
    """Turns what a function gives for n rows into a tensor of n rows, and holds the function to as many numbers a row as it gave at first."""

    def __init__(self, name: str, told: Told, whole: bool = False) -> None:
        self.name, self.told, self.whole = name, told, whole
        """`whole`: several outputs are handed on as they are, since one of them was asked for by name."""
        self._labels: list[str] | None = None
        self._shapes: dict[Hashable, tuple[int, ...]] = {}

    def __call__(self, out: Any, n: int, like: Hashable = None) -> Any:
        """The answer to `n` rows; `like` is what rows must share to be answered alike (their shape)."""
        if leaves(out) and all(isinstance(t, Tensor) for t in leaves(out)) and not self._bundled(out, n):
            return self._checked(out, n, like) if isinstance(out, Tensor) else out
        if _several(out) or (self.whole and isinstance(out, Mapping)):
            return map_leaves(lambda v: v if isinstance(v, Tensor) else torch.from_numpy(_array(self.name, v)), dict(out) if isinstance(out, Mapping) else out)
        return self._checked(self._tensor(out, n), n, like)

    def _bundled(self, out: Any, n: int) -> bool:
        """Whether tensors come as a list with one a row, or one a label."""
        if self.whole or isinstance(out, Tensor):
            return False
        if isinstance(out, list):
            return len(out) == n and all(isinstance(t, Tensor) and t.ndim < 2 for t in out)
        return isinstance(out, Mapping) and "logits" not in out and len(out) > 1 and all(isinstance(t, Tensor) and t.shape == (n,) for t in out.values())

    def _tensor(self, out: Any, n: int) -> Tensor:
        if isinstance(out, nn.Module) or hasattr(out, "fit") or callable(out):
            raise ModelError(f"{self.name} needs to give numbers for {_rows(n)}; it gave a {type(out).__name__}. A function that makes the model takes no arguments.")
        if out is None or isinstance(out, (str, bytes)):
            raise ModelError(f"{self.name} needs to give numbers for {_rows(n)}; it gave {'nothing (None)' if out is None else 'a str'}. Return one row of numbers for each.")
        if hasattr(out, "columns") and hasattr(out, "to_numpy"):
            return self._columns([str(c) for c in out.columns], _array(self.name, out.to_numpy()))
        if isinstance(out, Mapping):
            return self._by_label(out)
        rows = out if isinstance(out, (list, tuple)) else None
        if rows and all(isinstance(r, Mapping) and set(r) == {"label", "score"} for r in rows):
            raise ModelError(f"{self.name} gives the likeliest label alone; its score says nothing where another label takes over. Ask it for all labels (a pipeline: top_k=None).")
        if rows and all(isinstance(r, Mapping) or _scored(r) for r in rows):
            return self._by_row(rows)
        if rows and all(isinstance(r, Tensor) for r in rows):
            return _stacked(self.name, rows)
        return torch.from_numpy(_array(self.name, out))

    def _by_label(self, out: Mapping[Any, Any]) -> Tensor:
        """{label: numbers of all rows}."""
        columns = [_array(self.name, v.detach().cpu() if isinstance(v, Tensor) else v) for v in out.values()]
        if any(c.ndim != 1 or len(c) != len(columns[0]) for c in columns):
            got = ", ".join(str(c.shape) for c in columns)
            raise ModelError(f"{self.name} gave a mapping; it needs one number a row under every label, and got shapes {got}. Say which part: pel.wrap(f, output=...).")
        return self._columns([str(k) for k in out], np.stack(columns, 1))

    def _by_row(self, rows: Sequence[Any]) -> Tensor:
        """[{label: number}, ...], or what text pipelines give: [[{"label": ..., "score": ...}, ...], ...]."""
        told = [{str(k): v for k, v in (_scores(r) if _scored(r) else r).items()} for r in rows]
        labels = self._labels or (sorted(told[0]) if _scored(rows[0]) else list(told[0]))  # pipelines sort by score, row by row
        for i, row in enumerate(told):
            if set(row) != set(labels):
                odd = sorted(set(row) ^ set(labels))[0]
                raise ModelError(f"{self.name} needs to give the same labels for every row; row {i} {'adds' if odd in row else 'lacks'} {odd!r}. Ask it for all labels, not the likeliest.")
        return self._columns(labels, _array(self.name, [[row[k] for k in labels] for row in told]))

    def _columns(self, labels: list[str], numbers: "np.ndarray[Any, Any]") -> Tensor:
        """Named columns in the order of the model's labels."""
        order = self.told(labels)
        self._labels = order
        if sorted(order) != sorted(labels):
            raise ModelError(f"{self.name} needs to answer with its labels, {', '.join(order[:5])}; it answered with {', '.join(labels[:5])}.")
        return torch.from_numpy(numpy_ready(numbers[:, [labels.index(k) for k in order]]))

    def _checked(self, out: Tensor, n: int, like: Hashable) -> Tensor:
        if out.ndim == 0 or len(out) != n:
            hint = "One that takes a single input needs a loop: lambda rows: [f(r) for r in rows]."
            raise ModelError(f"{self.name} needs to give one row of numbers for each of {_rows(n)}; it gave shape {tuple(out.shape)}. {hint}")
        row = tuple(out.shape[1:])
        if self._shapes.setdefault(like, row) != row:
            told = f"it gave {_numbers(self._shapes[like])} at first and {_numbers(row)} now"
            raise ModelError(f"{self.name} needs to give as many numbers for every row; {told}. Let it answer with all classes each time.")
        return out if out.is_floating_point() else out.double()


def _rows(n: int) -> str:
    return f"{n} row{'s' * (n != 1)}"


def _numbers(shape: tuple[int, ...]) -> str:
    return "one number a row" if not shape else f"{shape[0]} numbers a row" if len(shape) == 1 else f"{shape} a row"


def _several(out: Any) -> bool:
    """Whether several outputs came side by side: a tuple of arrays. A list holds rows."""
    return isinstance(out, tuple) and len(out) > 0 and all(isinstance(v, (Tensor, np.ndarray)) and v.ndim for v in out)


def _scored(row: Any) -> bool:
    """Whether a row is a list of {"label": ..., "score": ...}."""
    return isinstance(row, (list, tuple)) and bool(row) and all(isinstance(s, Mapping) and set(s) == {"label", "score"} for s in row)


def _scores(row: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {s["label"]: s["score"] for s in row}


def _stacked(name: str, rows: Sequence[Tensor]) -> Tensor:
    if len({r.shape for r in rows}) > 1:
        raise ModelError(f"{name} needs to give as many numbers for every row; it gave {' and '.join(_numbers(tuple(r.shape)) for r in rows[:2])}.")
    return torch.stack(list(rows))


def _array(name: str, out: Any) -> "np.ndarray[Any, Any]":
    """Numbers as an array; words and ragged lists are refused."""
    try:
        found = np.asarray(out)
    except (ValueError, TypeError):
        raise ModelError(f"{name} needs to give as many numbers for every row; it gave lists of different lengths.") from None
    if found.dtype.kind == "O":
        with contextlib.suppress(ValueError, TypeError):
            found = found.astype(np.float64)
    if found.dtype.kind not in "fiub":
        raise ModelError(f"{name} needs to give numbers; it gave {_kind(out, found)}. Let it return a score or a probability for every class.")
    return numpy_ready(found)


def _kind(out: Any, found: "np.ndarray[Any, Any]") -> str:
    if found.dtype.kind in "US" or (found.size and isinstance(found.flat[0], str)):
        return f"words ({str(found.flat[0])!r})"
    return f"a {type(out).__name__}" if found.ndim == 0 else f"values of type {found.dtype}"


def numpy_ready(a: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """An array that torch takes: contiguous, writable, in this machine's byte order and of a type torch knows."""
    wide = np.float64 if a.dtype.kind in "fiub" and not (a.dtype.kind == "f" and a.dtype.itemsize in (2, 4, 8)) else a.dtype.newbyteorder("=")
    return np.array(a, dtype=wide, order="C")
