"""`pel.learn`: something learnt from a model and rows of data, in one call."""

from collections.abc import Sequence
from typing import Any

from ..backends.load import model_of
from ..backends.tabular import ask_table
from ..core import catalogue
from ..core.errors import UnknownName, UsageError
from ..core.estimator import Estimator, Fitted
from ..core.progress import Watcher, watching
from ..core.question import ask

KINDS = {"effects": "effect", "surrogates": "surrogate", "examples": "way to choose examples"}
"""The kinds of procedure that learn from rows of data, and what one of each is called."""


def learn(
    model: Any, data: Any, *, method: str | Estimator, target: Any = None, kinds: Any = None, baseline: Any = 0, ids: Any = None, seed: int = 0, batch_size: Any = None,
    progress: Watcher | None = None, **parameters: Any,
) -> Fitted:
    """What has a model learnt, as its answers on these rows show?

    `data` is a DataFrame of any columns, an array or a tensor of rows, or a list of texts; `method` the name of an effect, a surrogate or a way to choose examples
    (`pellucid list effects`, `list surrogates`, `list examples`), or one made already. `kinds` says what a column holds where that cannot be seen:
    {"zip": "category"}. Other keywords are the method's parameters.
    """
    chosen = named(method, parameters)
    asked = model_of(model)
    if isinstance(data, (list, tuple)) and data and all(isinstance(t, str) for t in data):
        q = ask(asked, list(data), target, None, None, ids, seed, batch_size)
    else:
        q = ask_table(asked, data, target, baseline=baseline, kinds=kinds, ids=ids, seed=seed, batch_size=batch_size)
    with watching(progress):
        return chosen(q)


def named(method: str | Estimator, parameters: dict[str, Any], kinds: Sequence[str] = tuple(KINDS)) -> Estimator:
    """The estimator behind a name of these kinds, with its parameters; one that is made already takes none."""
    if isinstance(method, Estimator):
        if parameters:
            raise UsageError(f"Parameters go into the method itself; got {', '.join(parameters)} beside a {type(method).__name__}.")
        return method
    known = {name: kind for kind in kinds for name in catalogue.entries(kind)}
    if method not in known:
        *some, last = (KINDS[kind] for kind in kinds)
        raise UnknownName(f"{', '.join(some)} or {last}" if some else last, str(method), known, f"`pellucid list {kinds[0]}` shows {'some' if some else 'them all'}.")
    made: Estimator = catalogue.make(known[method], method, **parameters)
    return made
