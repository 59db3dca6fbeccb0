"""All checks of one explanation, and the verdict they lead to."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.evidence import Cost, Evidence, Reading
from ..core.explanation import Explanation
from ..core.procedure import Method
from ..core.question import Question
from ..core.tree import leaves
from ._controls import TEXT, told_apart
from ._fidelity import gini
from ._pool import Pool
from ._subject import PICTURE, Subject, named, spent, subject
from ._verdict import CONTRADICTED, PICTURES, SEQUENCES, TABLES, TEXTS, Cuts, Facts, Judged, judge, judge_rows, open_to_doubt
from .class_dependence import ClassDependence
from .completeness_gap import CompletenessGap
from .conservation import Conservation
from .convergence import Convergence
from .local_fit import LocalFit
from .mask_fidelity import MaskFidelity, Tested, missing, readings, second_opinion
from .sparseness import Sparseness
from .stability import Stability

FULL = 256
"""Masks at level "full"."""
FEW = 8
"""Rows up to which each may have more masks: 512 for every row of many would cost more than all else, and move their mean little."""


def gather(q: Question, explanation: Explanation, method: Method | None, level: str = "basic", cuts: Cuts | None = None, pool: Pool | None = None) -> Evidence:
    """Can this explanation be trusted? `method` is None for a map that was made elsewhere; a `pool` may be shared by several maps.

    "basic" asks 128 forward rows a row and at most one more explanation; "full" doubles the masks, hides in a second way and shakes the input.
    Up to eight rows, one whose verdict is within its own noise gets up to 512 masks; more rows settle the verdict between them.
    """
    cuts = cuts or Cuts()
    s = subject(q, explanation, method)
    own = spent(q, q.own_outputs)
    changed, steps = ClassDependence().read(s, cuts), Convergence().read(s, cuts)
    facts = [facts_of(s, i, changed, steps) for i in range(s.size)]
    hidden, found = _hide(s, facts, cuts, level, pool)
    facts = [joined(f, t) for f, t in zip(facts, found, strict=True)]
    own_account = [m.read(s) for m, told in ((Conservation(), explanation.absorbed), (LocalFit(), explanation.fit)) if told is not None]
    rest = (CompletenessGap().read(s), *own_account, *([Stability().read(s)] if level == "full" else []), Sparseness().read(s, cuts))
    every = (*hidden, changed, steps, *rest)
    return _evidence(s, facts, every, cuts, level, sum((r.cost for r in every), own))


def _hide(s: Subject, facts: list[Facts], cuts: Cuts, level: str, pool: Pool | None) -> tuple[tuple[Reading, ...], list[Tested]]:
    """The readings that rest on hiding parts, and their numbers."""
    if not s.grid.kind:
        return (missing(s.grid.why),), [Tested(why=s.grid.why)] * s.size
    check = MaskFidelity(masks=FULL) if level == "full" else MaskFidelity()
    pool = pool or Pool(s.q, s.grid)
    found, cost = check.measure(s, pool, lambda i, t: s.size <= FEW and open_to_doubt(joined(facts[i], t), cuts))
    out = readings(s, found, cost, cuts, "blur" if s.grid.kind == PICTURE else "the baseline as fill")
    if level == "full" and s.grid.kind == PICTURE:
        second, more = check.measure(s, Pool(s.q, s.grid, "mean"))
        out = (*out, second_opinion(second, found, more))
    return out, found


def facts_of(s: Subject, i: int, changed: Reading | None, steps: Reading) -> Facts:
    """What is known of one row before parts were hidden."""
    values = [t[i] for t in leaves(s.e.values)]
    row = lambda reading, name: reading.rows[i] if reading is not None and reading.name == name and reading.rows else None  # noqa: E731
    return Facts(
        target=s.e.target[i],
        finite=all(bool(torch.isfinite(v).all()) for v in values),
        gini=gini(s.maps()[i]),
        blind=row(changed, "class-dependence"),
        network=row(changed, "network-dependence"),
        converged=row(steps, "convergence"),
        noise=row(steps, "noise"),
        kind=kind_of(s),
        beside=told_apart(s.q, s.grid) if s.grid.kind else "",
        empty=_empty(s, values),
    )


def kind_of(s: Subject) -> str:
    """What the rows are, as the thresholds know them."""
    if s.grid.kind == PICTURE:
        return PICTURES
    flat = isinstance(s.e.values, Tensor) and s.e.values.ndim == 2 and not s.q.places
    return (TEXTS if s.q.model.axis in TEXT else TABLES) if flat else SEQUENCES


def joined(f: Facts, t: Tested) -> Facts:
    """The same with what hiding parts found."""
    return replace(f, r=t.r, z=t.z or 0.0, add=t.add, ceiling=t.ceiling or 0.0, untested=t.why)


def _empty(s: Subject, values: Sequence[Tensor]) -> str:
    """What to say of a map whose positive part is all there is, and is nothing."""
    if s.e.signed or any(bool(v.any()) for v in values):
        return ""
    return (
        f"Empty: at {s.e.at or 'the input'} nothing raises {named(s.e.target)}, so that the positive part is zero everywhere. Try an earlier layer (at=...) or a method with signs."
    )


def _evidence(s: Subject, facts: list[Facts], every: tuple[Reading, ...], cuts: Cuts, level: str, cost: Cost) -> Evidence:
    judged = [judge(f, cuts) for f in facts]
    groups = [i[0] for i in s.q.ids] if s.q.fan > 1 else s.q.ids
    whole = judge_rows(facts, judged, groups, cuts, s.q.seed)
    return Evidence(whole.verdict, _told(whole, facts, s), every, level, tuple(j.verdict for j in judged), cost=cost)


def _told(whole: Judged, facts: list[Facts], s: Subject) -> tuple[str, ...]:
    """The reasons, and what has no vote but must be said: a map without signs marks where, not which way."""
    where = not s.e.signed and whole.verdict != CONTRADICTED and any(f.r is not None for f in facts)
    return (*whole.reasons, "The map has no signs: it marks where, not which way.") if where else whole.reasons
