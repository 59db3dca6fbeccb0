"""Deep feature factorization: a layer as a few concepts, each with the effect it has on the target."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.points import Points
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen
from ._concepts import factorized


@dataclass(frozen=True, kw_only=True)
class DeepFeatureFactorization(ActivationMap):
    """Into which concepts does the layer divide this picture, and what does each do to the answer?

    How: positive activations (positions x channels) are factorized into `concepts` parts, each a map times a direction, none negative. A concept's effect is
    f - f(layer without it). The map shows each concept where it lies, weighted so that it sums to its effect; with `concept` one of them alone, 1 being the
    one of the greatest effect. Notes tell all effects and how much of the activation the concepts hold.
    Units: target units, summing to the concepts' effects together; maps are one channel and signed.
    Misleads when: few concepts hold little of the layer, or several do the same: each alone is then missed by nobody. Every row has concepts of its own.
    Source: Collins, Achanta, Susstrunk 2018, arXiv:1806.10206, section 3; effects by removal are ours.
    """

    card = Card(
        title="Deep feature factorization", gives="hidden semantics", paper="arXiv:1806.10206", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE,
        cost="1 forward row a concept, above the layer",
    )  # fmt: skip
    concepts: int = param(5, "parts the layer is divided into", ge=1, le=64)
    concept: Any = param("all", "the concept that is drawn, by the size of its effect; all: their sum", choices=("all",), ge=1)
    rounds: int = param(200, "updates of the factorization", ge=1)

    def attribute(self, q: Question) -> Values:
        if self.concept != "all" and self.concept > self.concepts:
            raise UsageError(f"Deep feature factorization was asked for concept {self.concept} of {self.concepts}. Raise concepts, or choose a lower number.")
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        v = seen.h.relu().flatten(2).mT
        k = min(self.concepts, *v.shape[1:])
        where, what = factorized(v, k, self.rounds)
        effect = self._effects(seen, where, what)
        held = 1 - (v - where @ what).square().sum((1, 2)) / v.double().square().sum((1, 2)).clamp(min=torch.finfo(torch.float64).tiny)
        self._tell(seen, effect, held)
        maps = where / where.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny) * effect[:, None]
        if self.concept != "all":
            order = effect.abs().sort(dim=1, descending=True, stable=True)[1]
            maps = maps.gather(2, order[:, None, min(self.concept, k) - 1 : min(self.concept, k)].expand(-1, maps.shape[1], -1))
        return maps.mT.unflatten(2, seen.h.shape[2:]).to(seen.h.dtype)

    def _effects(self, seen: Seen, where: Tensor, what: Tensor) -> Tensor:
        """(B, k) what the target loses without each concept."""
        point = seen.point

        def without(s: Tensor, rows: Tensor) -> Tensor:
            z = point[rows]
            planes = seen.grid.planes(z)
            planes -= (what[rows, s][:, :, None] * where[rows, :, s][:, None]).unflatten(2, planes.shape[2:]).to(z.dtype)
            return z

        left = seen.q.value(Points(where.shape[2], without))
        return (seen.q.target_values() - left).T.double()

    def _tell(self, seen: Seen, effect: Tensor, held: Tensor) -> None:
        sorted_ = effect.gather(1, effect.abs().sort(dim=1, descending=True, stable=True)[1])
        for b in range(min(len(held), SAID)):
            seen.notes.append(f"row {b}: {effect.shape[1]} concepts hold {float(held[b]):.0%} of the activation; effects {', '.join(f'{e:.3g}' for e in sorted_[b].tolist())}")


SAID = 8
"""Rows of which the notes tell."""
