"""What can go wrong, in one small tree. Every message says who needs what, what came instead, and what to do.

PellucidError
├── UsageError (also ValueError)   a parameter, a name, a file or an input that cannot be used
│   └── UnknownName                a name that is not in the catalogue, the model or its labels
├── ModelError                     the model raised, or returned what no target can read
├── NotApplicable                  this procedure cannot answer this question
└── CannotComplete                 the work began and cannot be finished
    └── Cancelled                  somebody asked it to stop
"""

import difflib
from collections.abc import Iterable


class PellucidError(Exception):
    """Anything Pellucid says about a question it could not answer."""


class UsageError(PellucidError, ValueError):
    """A parameter, a name, a file or an input that cannot be used as it is."""


class UnknownName(UsageError):
    """A name nobody knows; the message offers the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        near = nearest(name, names)
        offer = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(f"There is no {kind} {name!r}.{offer}{' ' + hint if hint else ''}")
        self.kind, self.name, self.near = kind, name, near

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        return UnknownName, (self.kind, self.name, self.near)


class ModelError(PellucidError):
    """The model raised, or returned what no target can read."""


class NotApplicable(PellucidError):
    """This procedure cannot answer this question; another one may."""


class CannotComplete(PellucidError):
    """The work began and cannot be finished."""


class Cancelled(CannotComplete):
    """Somebody asked the work to stop between two chunks."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names a person who typed `name` most likely meant."""
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    inside = [k for k in folded if name and name.casefold() in k][:3]
    return [folded[k] for k in dict.fromkeys([*close, *inside])][:3]
