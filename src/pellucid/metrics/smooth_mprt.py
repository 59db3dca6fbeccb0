"""Smooth parameter randomization: does the map fall apart with the weights, its noise averaged out?"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, param
from ..core.explanation import Explanation
from ..core.procedure import Method, Metric, Scores
from ..core.question import Question
from ..core.tree import Tree, each, take
from ._mask_pool import generator
from ._near import TOGETHER, moved
from ._shuffling import questions
from ._told import told


@dataclass(frozen=True, kw_only=True)
class SmoothMprt(Metric):
    """Does the map fall apart with the network's weights, once noise is averaged out of it?

    How: `model-parameter-randomization`, with each map the mean over copies of the input with noise, so that maps do not differ by noise alone.
    Units: rank correlation. Lower is better.
    Chance: 1 for edges and for all that ignores the weights.
    Misleads when: as `model-parameter-randomization`, less its reward for noise.
    Source: Hedström et al., 2024, section 4.1.
    """

    card = Card(title="Smooth parameter randomization", paper="arXiv:2401.06465", needs=Needs.MODULES, better="lower", cost="samples more explanations a stage and for the network itself", random=True)
    order: str = param("top-down", "which layers are shuffled at each stage", choices=("top-down", "bottom-up", "independent"))
    layers: int = param(3, "stages, or one a layer where there are fewer", ge=1)
    samples: int = param(10, "noisy copies over which each map is averaged", ge=1)
    noise: float = param(0.1, "largest noise", ge=0, unit="fraction of the input's range")

    def score(self, e: Explanation) -> Scores:
        """The mean rank correlation over stages, a row."""
        s, asked = questions(e, "smooth-mprt", self.order, self.layers, moves=True)
        own = self._smooth(s.method, s.q)  # type: ignore[arg-type]
        alike = [agreement(own, self._smooth(s.method, q)).double().cpu() for _, q in asked]  # type: ignore[arg-type]
        return told(torch.stack(alike).mean(0), "Rank correlation of smoothed maps with those of shuffled networks", "lower")

    def _smooth(self, method: Method, q: Question) -> Tree:
        q, size = q.with_target(q.resolved_target()), q.size
        step, total = max(1, TOGETHER // size), None
        for first in range(0, self.samples, step):
            ks = range(first, min(first + step, self.samples))
            rows = torch.arange(size).repeat(len(ks))
            z = moved(take(q.point, rows), [generator(q.seed, q.ids[r], f"smooth {k}") for k in ks for r in range(size)], self.noise, True)
            part = each(functools.partial(_summed, n=len(ks)), method(q.take(rows).with_point(z)).values)
            total = part if total is None else each(torch.add, total, part)
        return each(lambda t: t / self.samples, total)


def _summed(t: Tensor, n: int) -> Tensor:
    return t.detach().double().unflatten(0, (n, len(t) // n)).sum(0)
