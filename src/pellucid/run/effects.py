"""`pel.effect`: how a model's answers depend on columns, in one call."""

from dataclasses import replace
from typing import Any

from ..backends import load, wrap
from ..backends.tabular import ask_table
from ..core import catalogue
from ..core.errors import UnknownName, UsageError
from ..core.estimator import Estimator, Fitted
from ..core.progress import Watcher, watching
from ..core.question import Question
from ..core.target import PerRow
from ..effects._rows import Labels, levels
from ..modalities.columns import columns_of, read


def effect(
    model: Any, data: Any, columns: Any = None, *, method: str | Estimator = "accumulated-local-effects", target: Any = None, by: Any = None, kinds: Any = None, ids: Any = None, seed: int = 0,
    batch_size: Any = None, progress: Watcher | None = None, **parameters: Any,
) -> Fitted:
    """How do the answers depend on these columns, over all rows?

    `data` is a DataFrame of any columns, an array or a tensor of rows; `columns` are names, ("a", "b") for a pair; None: the few that move the answer most.
    `method`: "accumulated-local-effects", "partial-dependence" and what `pellucid list effects` shows; other keywords are its parameters.
    `target`: a class or another quantity, the same for all rows; of two classes the second unless said. `by`: a column, also one that the model does not
    take, or a label for every row: each group of rows gets its own curve. `kinds` says what a column holds where that cannot be seen: {"zip": "category"}.
    """
    if hasattr(data, "to_pandas") and not hasattr(data, "iloc"):
        data = data.to_pandas()
    q = ask_table(load(model) if isinstance(model, str) else wrap(model), data, target, kinds=kinds, ids=ids, seed=seed, batch_size=batch_size)
    asked = {**parameters, **({"columns": columns} if columns is not None else {}), **({"by": _groups(by, data, q)} if by is not None else {})}
    chosen, notes = _made(method, asked), list[str]()
    with watching(progress):
        if target is None:
            q, notes = _one_target(q)
        found = chosen(q)
    return replace(found, notes=(*notes, *found.notes), provenance={**found.provenance, "notes": [*notes, *found.provenance.get("notes", [])]})


def _made(method: str | Estimator, asked: dict[str, Any]) -> Estimator:
    if isinstance(method, Estimator):
        if asked:
            raise UsageError(f"Parameters go into the method itself; got {', '.join(asked)} beside a {type(method).__name__}.")
        return method
    if method not in catalogue.entries("effects"):
        raise UnknownName("effect", str(method), catalogue.entries("effects"), "`pellucid list effects` shows them all.")
    made: Estimator = catalogue.make("effects", method, **asked)
    return made


def _groups(by: Any, data: Any, q: Question) -> Any:
    """A column's name or place where the model takes it; else what it holds, as a label for every row."""
    names = [c.name for c in columns_of(q)]
    if isinstance(by, (str, int)):
        own = [str(c) for c in data.columns] if hasattr(data, "columns") else names
        if isinstance(by, int) or by in names:
            return by
        if by not in own:
            raise UnknownName("column", by, own)
        return labelled(by, data)
    if isinstance(by, Labels):
        return by
    return Labels(str(getattr(by, "name", None) or ""), tuple(map(str, by)))


def labelled(name: str, frame: Any) -> Labels:
    """A column of a DataFrame as a label for every row; numbers of many values by quarters."""
    columns, codes = read(frame.iloc[:, [[str(c) for c in frame.columns].index(name)]])
    words, order = levels(columns[0], codes[:, 0])
    return Labels(name, tuple(words.tolist()), tuple(order))


def _one_target(q: Question) -> tuple[Question, list[str]]:
    """The second of two classes; what an only answer is; of more classes the one that all rows have, or a sentence."""
    shape = tuple(q.own_outputs().shape[1:])
    if shape == (2,):
        named = f" {q.model.labels[1]!r}" if q.model.labels else ""
        return q.with_target(1), [f"target: the second of two classes,{named or ' 1'}"]
    if isinstance(q.resolved_target(), PerRow):
        labels = [repr(n) for n in q.model.labels or range(shape[0])]
        named = f"{', '.join(labels[:6])}{', ...' if len(labels) > 6 else ''}"
        raise UsageError(f"Effects follow one answer over all rows; {q.model.name} has {shape[0]:,} and each row its own. Name one with target=: {named}.")
    return q, []
