"""What is learnt from a model and rows of data: effects of columns, surrogates, rules, prototypes. The author writes `fit`; the base class does the rest."""

import dataclasses
import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError
from .evidence import Cost
from .keeping import atomic, plain
from .paying import paying
from .planner import Plan
from .procedure import Procedure
from .provenance import provenance
from .question import Question

VIEWS = "pellucid.views.fitted"
"""Pictures and pages live on a higher floor, and are loaded when they are asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What was learnt, how it came about, and what it cost. Every kind of result adds its own fields."""

    estimator: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    target: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    provenance: dict[str, Any] = field(default_factory=dict)

    def table(self) -> list[dict[str, Any]]:
        """What was learnt as rows of plain numbers and words: what the command line prints, and `pandas.DataFrame(...)` takes."""
        raise NotImplementedError

    def plot(self, **settings: Any) -> Any:
        """A matplotlib figure of it."""
        return importlib.import_module(VIEWS).figure(self, **settings)

    def _repr_html_(self) -> str:
        return str(importlib.import_module(VIEWS).html(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"kind": type(self).__name__, **{f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(Fitted) if f.name != "cost"},
                "cost": dataclasses.asdict(self.cost), "rows": self.table()}  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Writes a picture (.png, .svg), a page (.html), or the numbers (.json)."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UsageError(f"save() needs a folder that exists; there is no {str(path.parent)!r}.")
        if path.suffix == ".json":
            atomic(path, lambda p: Path(p).write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8"))
        elif path.suffix in (".png", ".svg", ".html"):
            importlib.import_module(VIEWS).save(self, path)
        else:
            raise UsageError(f"save() knows .png, .svg, .html and .json; got {path.name!r}.")
        return path


class Estimator(Procedure):
    """Learns something about a model from the rows of a question."""

    def fit(self, q: Question) -> Fitted:
        """The mathematics."""
        raise NotImplementedError

    def __call__(self, q: Question) -> Fitted:
        """Checks needs, fits, and records how it came about and what it cost."""
        self._check_needs(q)
        q = q.fresh()
        try:
            with paying(q.engine.spend):
                found = self.fit(q)
            return stamped(found, self, q)
        finally:
            q.close()


F = TypeVar("F", bound=Fitted)


def stamped(found: F, procedure: Procedure, q: Question) -> F:
    """What was found, with its name, parameters, target, cost and where it comes from."""
    told = {**provenance(q, found), "rows": q.size, "seed": q.seed}
    names = tuple(dict.fromkeys(q.target_names()))
    count = q.cost()  # last: what is told of a question may still be asked
    cost = Cost(count.forward, count.backward, count.seconds, count.chunk(), str(Plan(count.steps)))
    return dataclasses.replace(found, estimator=procedure.name, parameters=procedure.parameters(), target=names, provenance=told, cost=cost)
