"""DeepLIFT: differences from a baseline, handed back through every operation by exact slopes."""

from dataclasses import dataclass, replace

import torch

from ..core._memory import Memory
from ..core.card import Card, Needs, Promise, param
from ..core.points import Points
from ..core.procedure import Method, Values, sum_of
from ..core.question import Question
from ..core.rules import Rules
from ..core.tree import Tree, each, leaves
from ._reveal_cancel import reveal_cancel
from ._secant import RESCALE

LOUD = 50
"""Values whose sizes add up to this many times the difference they explain cancel each other for the most part."""


@dataclass(frozen=True, kw_only=True)
class DeepLift(Method):
    """How much of the difference to the baseline does each part account for?

    How: one pass at the baseline, one at the point; each operation hands the difference of its output back to its inputs by the
    slope between the two, instead of the tangent. Sums, products, softmax, maxima and normalization have exact slopes too.
    Units: target units; a row's values sum to f(z) - f(baseline), whatever the network.
    Misleads when: effects that cancel between baseline and point are large against their difference (a note says so): baselines
    at which a normalization divides by nearly nothing, such as embeddings of zeros.
    Source: Shrikumar, Greenside, Kundaje 2017, arXiv:1704.02685, sections 3.2 to 3.5.
    """

    card = Card(title="DeepLIFT", paper="arXiv:1704.02685", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.COMPLETE | Promise.LOCAL,
                cost="2 forward rows and 1 backward row, one more forward at a layer", baseline=True)

    rule: str = param("rescale", "what nonlinear operations hand back: one slope, or one for what raises and one for what lowers them", choices=("rescale", "reveal-cancel"))

    def attribute(self, q: Question) -> Values:
        local: set[str] = set()
        m = multipliers(q, q.start, RESCALE if self.rule == "rescale" else reveal_cancel(local))
        values = each(torch.mul, each(torch.sub, q.point, q.start), m)
        where = (f"positive and negative parts were not known everywhere: the difference was split by its sign at {', '.join(sorted(local))}",) if local else ()
        return Values(values, notes=(*cancelling(values), *where))


def multipliers(q: Question, start: Tree, rules: Rules) -> Tree:
    """What a step at each part of the point adds to the target on the way from the baseline `start`, in one."""
    parts = leaves(start)
    return q.with_rules(replace(rules, memory=Memory()), Points(1, lambda s, rows: tuple(t[rows] for t in parts))).grad()


def cancelling(values: Tree) -> tuple[str, ...]:
    """A warning where the values are large and their sum is not."""
    sizes, sums = sum_of(each(torch.abs, values)), sum_of(values).abs()
    loud = sizes > LOUD * sums
    if not loud.any():
        return ()
    worst = float((sizes / sums.clamp(min=torch.finfo(sums.dtype).tiny)).max())
    where = "Where a normalization divides by nearly nothing at the baseline, choose another ([PAD], a mean, a blur)"
    return (f"in {int(loud.sum())} of {len(loud)} rows the values cancel: their sizes add up to {worst:.3g} times their sum. {where}",)


