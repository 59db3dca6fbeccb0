"""The kinds of procedure. The author writes the mathematics; the base class checks, runs, verifies and records."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .card import Card, Promise, check_parameters
from .catalogue import name_of
from .errors import CannotComplete, NotApplicable, PellucidError
from .explanation import Cost, Explanation
from .paying import paying
from .planner import Plan
from .players import Players
from .provenance import describe
from .question import Question, Samples
from .running import Running
from .tree import Tree, each, leaves


@dataclass(frozen=True)
class Values:
    """What a method computed: values shaped like the point; where it samples, their standard error.

    `convergence` is (B,): how alike the map is to the map from half the work (rank correlation, 1: the same).
    """

    values: Tree
    error: Tree | None = None
    notes: tuple[str, ...] = ()
    convergence: Tensor | None = None
    at: str | None = None
    signed: bool = True
    absorbed: Tensor | None = None
    """(B,) for rules: the share of the answer that operations kept on the way."""
    unaccounted: Tensor | None = None
    """(B,) for rules: the share of the answer that neither the values nor `absorbed` account for."""
    base: Tensor | None = None
    """(B,) what nobody is worth, where a game's "absent" is not the question's baseline."""
    total: Tensor | None = None
    """(B,) what the values explain, where that is the target in another scale."""
    players: Players | None = None
    fit: Tensor | None = None
    """(B,) for surrogates: R2, the share of the answer's variance around the input that the simple model explains."""


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A value: parameters and one verb."""

    card: ClassVar[Card]

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def name(self) -> str:
        """The catalogue's name."""
        return name_of(self)

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def _check_needs(self, q: Question) -> None:
        lacking = self.card.needs & ~q.model.can
        if lacking:
            words = ", ".join(n.name.lower() for n in type(lacking) if n in lacking and n.name)
            raise NotApplicable(f"{self.name} needs a model that offers {words}; {q.model.name} does not. `pellucid show {self.name}` says more.")


class Method(Procedure):
    """Gives every part of the input, or of a layer, its share in the answer."""

    def attribute(self, q: Question) -> Values:
        """The mathematics."""
        raise NotImplementedError

    def shaped(self, q: Question) -> list[tuple[int, ...]] | None:
        """The shapes that the values must have; None where the method chooses its own grid."""
        return [tuple(t.shape) for t in leaves(q.point)]

    def __call__(self, q: Question) -> Explanation:
        """Asks the question: checks needs, runs, verifies, and records how the answer came about."""
        self._check_needs(q)
        q = q.fresh()
        try:
            many = isinstance(q.baseline, Samples) and self.card.baseline and not self.card.samples
            with paying(q.engine.spend):
                found = self._averaged(q) if many else self.attribute(q)
            self._verify(q, found)
            return self._explanation(q, found)
        finally:
            q.close()

    def _averaged(self, q: Question) -> Values:
        """The mean over many baselines, with its standard error; all else is the first run's, less notes that not every run gave."""
        samples, running, inside, runs = q.baseline, Running(), Running(), list[Values]()
        for k in range(samples.n):
            one = dataclasses.replace(q, baseline=tuple(p[k : k + 1] for p in samples.parts), _local=q._local)
            q._local.__dict__.pop("start", None)
            found = self.attribute(one)
            running.add(found.values)
            if found.error is not None:
                inside.add(each(torch.square, found.error))
            runs.append(dataclasses.replace(found, values=None, error=None))
        q._local.__dict__.pop("start", None)
        shared = tuple(n for n in runs[0].notes if all(n in r.notes for r in runs))
        notes = (*shared, f"averaged over {samples.n} baselines")
        return dataclasses.replace(runs[0], values=running.mean, error=_joined(running.error(), inside.mean), notes=notes, convergence=None)

    def _verify(self, q: Question, found: Values) -> None:
        shapes = self.shaped(q)
        got = [tuple(t.shape) for t in leaves(found.values)]
        if shapes is not None and got != shapes:
            raise CannotComplete(f"{self.name} needs values shaped like the point, {shapes}; it made {got}. This is a fault of the method.")
        for t in leaves(found.values):
            if not torch.isfinite(t).all():
                raise CannotComplete(f"{self.name} came out with {int((~torch.isfinite(t)).sum())} values that are not finite. Likely: a 16-bit model (try float32), or inputs far out of range.")

    def _explanation(self, q: Question, found: Values) -> Explanation:
        complete = Promise.COMPLETE in self.card.promises and (found.base is not None or not isinstance(q.baseline, Samples))
        total = q.target_values() if found.total is None else found.total
        base = (q.value(q.start) if found.base is None else found.base.to(total)) if complete else found.base
        gap = sum_of(found.values) - (total - base) if complete and base is not None else None
        facts = describe(q, found, self.card)
        count = q.cost()  # last: what is told of a question may still be asked
        cost = Cost(count.forward, count.backward, count.seconds, count.chunk(), str(Plan(count.steps)))
        return Explanation(values=found.values, method=self.name, parameters=self.parameters(), total=total, cost=cost, base=base, gap=gap, error=found.error,
                           convergence=found.convergence, absorbed=found.absorbed, unaccounted=found.unaccounted, players=found.players, fit=found.fit,
                           signed=self.card.signed and found.signed, question=q.unplanned(), **facts)


def _joined(between: Tree | None, within: Tree | None) -> Tree | None:
    """The standard error over baselines joined with that of the draws inside, which are the same for each baseline and do not average out."""
    if between is None or within is None:
        return between if within is None else each(torch.sqrt, within)
    return each(lambda b, w: (b.square() + w).sqrt(), between, within)


def sum_of(values: Tree) -> Tensor:
    """(B,) the sum of each row's values, in double precision."""
    return sum(t.double().flatten(1).sum(1) for t in leaves(values)).to(leaves(values)[0].dtype)


@dataclass(frozen=True)
class Scores:
    """What a metric found: a number a row, and one sentence."""

    values: Tensor
    sentence: str = ""


class Metric(Procedure):
    """Tests an explanation; gives every row a number."""

    def score(self, e: Explanation) -> Scores:
        """The mathematics."""
        raise NotImplementedError

    def __call__(self, e: Explanation) -> Scores:
        """Scores an explanation, whose question must still be live."""
        if e.question is None:
            raise NotApplicable(f"{self.name} needs to ask the model again; this explanation was loaded from a file and has no live question. Use pel.assess(model, x, values, target).")
        found = self.score(e)
        if found.values.shape != (len(e),):
            raise PellucidError(f"{self.name} needs one score for each of {len(e)} rows; it made {tuple(found.values.shape)}.")
        return found
