"""Internal influence: a layer's gradient, averaged while the input comes into being."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ._along import along, is_start
from ._quadrature import Rule, gauss_legendre, midpoint


@dataclass(frozen=True, kw_only=True)
class InternalInfluence(Method):
    """Which units would move the answer, on average over the way from nothing to this input?

    How: the mean of df/dh over inputs on the straight path from the baseline to the input; h is the layer's value, or the input itself.
    Units: target units for one unit of h; the values sum to nothing in particular. Times the change of h along the path they are conductance.
    Misleads when: a unit has much influence and never changes: influence says what would count, conductance what did.
    Source: Leino, Sen, Datta, Fredrikson, Li 2018, arXiv:1802.03788, with the uniform distribution on the path from a baseline.
    """

    card = Card(title="Internal influence", paper="arXiv:1802.03788", needs=Needs.GRADIENT,
                promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT, cost="steps rows forward and backward", baseline=True)
    steps: int = param(50, "nodes on the path", ge=1, le=100_000, unit="gradient rows")
    rule: str = param("gauss-legendre", "where the nodes lie", choices=("gauss-legendre", "midpoint"))

    def attribute(self, q: Question) -> Values:
        rule = (gauss_legendre if self.rule == "gauss-legendre" else midpoint)(self.steps, q.size)
        whole, half = (q.pack(list(part)) for part in zip(*self._means(q, rule), strict=True))
        return Values(whole, convergence=agreement(whole, half) if self.steps > 1 else None, notes=(f"{self.steps} {self.rule} nodes",))

    def _means(self, q: Question, rule: Rule) -> list[Tensor]:
        """(2, B, ...) means by the rule and by every other node."""
        if is_start(q):
            return leaves(q.grad(q.path(rule.nodes), weights=rule.weights))
        done, sums = 0, list[Tensor]()
        for block in along(q, rule.nodes, "Internal influence"):
            n = len(block.slopes[0])
            new = [torch.einsum("jnb,nb...->jb...", rule.weights[:, done : done + n].to(g), g) for g in block.slopes]
            sums, done = [a + b for a, b in zip(sums, new, strict=True)] if sums else new, done + n
        return sums
