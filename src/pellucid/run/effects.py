"""`pel.effect`: how a model's answers depend on columns, in one call."""

from dataclasses import replace
from typing import Any

from ..backends.frame import as_frame
from ..backends.load import model_of
from ..backends.tabular import ask_table
from ..core.errors import UnknownName, UsageError
from ..core.estimator import Estimator, Fitted
from ..core.progress import Watcher, watching
from ..core.question import Question
from ..core.target import PerRow
from ..effects._rows import Labels, levels
from ..modalities.columns import columns_of, read
from .learn import named


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
    data = as_frame(data)
    q = ask_table(model_of(model), data, target, kinds=kinds, ids=ids, seed=seed, batch_size=batch_size)
    asked = {**parameters, **({"columns": columns} if columns is not None else {}), **({"by": _groups(by, data, q)} if by is not None else {})}
    chosen, notes = named(method, asked, ["effects"]), list[str]()
    with watching(progress):
        if target is None:
            q, notes = _one_target(q)
        found = chosen(q)
    return replace(found, notes=(*notes, *found.notes), provenance={**found.provenance, "notes": [*notes, *found.provenance.get("notes", [])]})


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
