"""`pel.counterfactual`: the least that would have had to be different for another answer, in one call."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..backends.frame import as_frame
from ..backends.load import model_of
from ..backends.tabular import ask_table
from ..core import catalogue
from ..core.errors import CannotComplete, UsageError
from ..core.progress import Watcher, watching
from ..core.question import Question, ask
from ..core.search import Goal
from ..core.target import Label, Output, Probability, Target, position
from ..counterfactuals import Counterfactuals, CounterfactualSearch
from ..counterfactuals._goals import NamedClass, OtherClass, Within
from ..counterfactuals.counterfactual_search import named
from ..modalities.actions import actions, as_cells
from ..modalities.columns import Column, columns_of


def counterfactual(
    model: Any, rows: Any, *, data: Any, target: Any = None, at_least: float | None = None, at_most: float | None = None, between: tuple[float, float] | None = None, margin: float = 0.0,
    fixed: Iterable[str] = (), vary: Iterable[str] | None = None, ranges: Mapping[str, Any] | None = None, increase: Iterable[str] = (), decrease: Iterable[str] = (),
    one_hot: Iterable[Sequence[str]] = (), costs: Mapping[str, float] | None = None, n: int = 3, kinds: Mapping[str, str] | None = None, ids: Sequence[Any] | None = None, seed: int = 0,
    batch_size: Any = None, progress: Watcher | None = None, **parameters: Any,
) -> Counterfactuals:
    """What is the least that would have had to be different for another answer?

    `rows` are those to change (a DataFrame, an array, or numbers of rows of `data`); `data` shows what is usual. Wanted is another class than the row's own; the class `target`;
    or a value of `target` that is `at_least`, `at_most` or `between` numbers (probabilities where the model gives classes). `margin` asks for an answer that is ahead by so much.
    `fixed` columns stay, or only those of `vary` change; `ranges` holds (low, high), or the words that may be taken, by column (default: what the data hold);
    `increase` and `decrease` name columns that go one way only; `one_hot` lists of columns of which exactly one is 1; `costs` how dear a column's change is, where 1 is usual.
    `kinds` says what a column holds where that cannot be seen: {"zip": "category"}. Other keywords are parameters of the search (`pellucid show counterfactual-search`).
    """
    search: CounterfactualSearch = catalogue.make("counterfactuals", "counterfactual-search", n=n, **parameters)
    held = model_of(model)
    rows, data, names = _rows(rows, data)
    q, usual, columns = _asked(held, rows, data, kinds, ids if ids is not None else names, seed, batch_size)
    goal, target, wanted = wanted_of(q, target, at_least, at_most, between, margin)
    q = q.with_target(target)
    within = actions(columns, usual, fixed=fixed, vary=vary, ranges=ranges, increase=increase, decrease=decrease, one_hot=one_hot, costs=costs, dtype=torch.empty(0, dtype=q.x.dtype).numpy().dtype)
    with watching(progress):
        made = search(q, within, goal)
    if not isinstance(made, Counterfactuals):
        raise CannotComplete(f"{search.name} gave a {type(made).__name__}. This is a fault of the search.")
    return _judged(made, q, wanted)


def _judged(found: Counterfactuals, q: Question, wanted: str) -> Counterfactuals:
    """The same with what was wanted; refused where every row has it already."""
    done = [b for b in range(q.size) if found.success[0, b] and not found.changed[0, b]]
    if len(done) == q.size:
        raise UsageError(f"{_whose(q.ids)} {'has' if q.size == 1 else 'have'} the answer that is wanted already, {found.answer(found.before[0])}. Want another: target=, at_least=, at_most=.")
    notes = (f"{len(done)} of {q.size} rows have the answer that is wanted already",) if done else ()
    return dataclasses.replace(found, wanted=wanted, notes=(*found.notes, *notes))


def _whose(ids: Sequence[Any]) -> str:
    return named(ids[0]) if len(ids) == 1 else f"All {len(ids)} rows"


def _rows(rows: Any, data: Any) -> tuple[Any, Any, Sequence[Any] | None]:
    """Rows and data as tables of the same columns, and the rows' names."""
    rows, data = map(as_frame, (rows, data))
    if data is None or not hasattr(data, "__len__") or not len(data):
        raise UsageError("Counterfactuals need rows of data, which show what is usual; got none. Give data=train.")
    if isinstance(rows, (int, np.integer)) or isinstance(rows, (list, tuple)) and rows and all(isinstance(r, (int, np.integer)) for r in rows):
        numbers = [int(r) for r in (rows if isinstance(rows, (list, tuple)) else [rows])]
        out = next((r for r in numbers if not 0 <= r < len(data)), None)
        if out is not None:
            raise UsageError(f"The data hold rows 0 to {len(data) - 1}; got row {out}.")
        return (data.iloc[numbers] if hasattr(data, "iloc") else data[numbers]), data, numbers
    if isinstance(rows, Mapping) and hasattr(data, "iloc"):
        rows = type(data)([dict(rows)])
    elif hasattr(rows, "to_frame") and getattr(rows, "ndim", 2) == 1:
        rows = rows.to_frame().T.infer_objects()
    elif not hasattr(rows, "iloc") and hasattr(rows, "ndim") and rows.ndim == 1:
        rows = rows[None]
    if hasattr(rows, "iloc") != hasattr(data, "iloc"):
        raise UsageError(f"Rows and data need to be of one kind; got {type(rows).__name__} and {type(data).__name__}.")
    return rows, data, list(rows.index) if hasattr(rows, "iloc") else None


def _asked(model: Any, rows: Any, data: Any, kinds: Any, ids: Any, seed: int, batch_size: Any) -> tuple[Question, Any, tuple[Column, ...]]:
    """A question about the rows, the data as codes, and what the columns hold: read together, so that they share their codes."""
    if hasattr(data, "iloc"):
        import pandas

        if model.columns is None:
            lost = [c for c in rows.columns if c not in data.columns]
            if lost:
                raise UsageError(f"The data need the rows' columns; they lack {', '.join(map(str, lost[:5]))}.")
            data = data[list(rows.columns)]
        lost = [c for c in (model.columns or []) if c not in map(str, rows.columns)]
        if lost:
            raise UsageError(f"{model.name} needs the columns {', '.join(model.columns[:8])}{', ...' if len(model.columns) > 8 else ''}; the rows lack {', '.join(lost[:5])}.")
        both: Any = pandas.concat([data[[c for c in data.columns if c in rows.columns]], rows], ignore_index=True)
    elif isinstance(data, torch.Tensor) or isinstance(rows, torch.Tensor):
        both = torch.cat([torch.as_tensor(data), torch.as_tensor(rows).to(torch.as_tensor(data))])
    else:
        data, rows = np.asarray(data), np.asarray(rows)
        if data.ndim != 2 or rows.ndim != 2 or data.shape[1] != rows.shape[1]:
            raise UsageError(f"Rows and data need the same columns; got shapes {rows.shape} and {data.shape}.")
        both = np.concatenate([data, rows.astype(data.dtype)])
    whole = ask_table(model, both, kinds=kinds, seed=seed)
    q = ask(whole.model, whole.x[len(data) :], None, ids=ids, seed=seed, batch_size=batch_size)
    return q, as_cells(whole.x[: len(data)]), columns_of(whole)


def wanted_of(q: Question, target: Any, at_least: float | None, at_most: float | None, between: Any, margin: float) -> tuple[Goal, Any, str]:
    """The goal, the target that it reads, and both in words."""
    out, labels = q.own_outputs(), q.model.labels
    numbers = [v for v in (at_least, at_most) if v is not None]
    if between is not None and (numbers or len(between) != 2):
        raise UsageError(f"between needs two numbers, (low, high), and no at_least or at_most beside it; got {between!r}.")
    low, high = between if between is not None else (at_least, at_most)
    if low is None and high is None:
        if target is None:
            return OtherClass(margin), None, "another class"
        if isinstance(target, Target) or not isinstance(target, (int, str)):
            raise UsageError(f"A class is wanted by its number or its name; got {target!r}. Of a value, say how much: at_least=, at_most= or between=.")
        k = position(target, out, labels)
        return NamedClass(int(k), margin), k, labels[int(k)] if labels else f"class {k}"  # type: ignore[arg-type]
    if low is not None and high is not None and not low <= high:
        raise UsageError(f"What is wanted needs its lower end first; got {low:g} to {high:g}, which holds nothing.")
    target = _read(q, out, target)
    name = target.resolve(out, labels).text(labels)
    words = f"of at least {low:g}" if high is None else f"of at most {high:g}" if low is None else f"between {low:g} and {high:g}"
    return Within(-np.inf if low is None else low + margin, np.inf if high is None else high - margin), target, f"{name} {words}"


def _read(q: Question, out: torch.Tensor, target: Any) -> Target:
    """What is compared with numbers: the only output, or the probability of a class."""
    if isinstance(target, Target):
        return target
    if out[0].numel() == 1:
        if target is not None:
            raise UsageError(f"{q.model.name} gives one number a row, so that there is no class {target!r}. Leave target out.")
        return Output()
    if target is None:
        raise UsageError(f"{q.model.name} gives {out[0].numel()} numbers a row; say of which at_least, at_most or between speak: target=.")
    sums = out.double().flatten(1).sum(1)
    chances = bool((out >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())
    return Label(target) if chances else Probability(target)
