"""Guided integrated gradients: a path that changes first what the model minds least."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import Tree, each, leaves
from ._path import Trapezoid, told, wide


@dataclass(frozen=True, kw_only=True)
class GuidedIntegratedGradients(Method):
    """How much did each part add to the answer, on a way from nothing to this input that keeps clear of noisy gradients?

    How: gradient times step, summed along a path of `steps` steps of one length (L1). Each step goes where the gradient is
    smallest: the `fraction` of the features with the least |df/dz| moves first, then the next, none further than `distance`
    from the straight path. Each step counts the mean gradient of its two ends (the paper: of its start). Features that
    the baseline already has right take no part.
    With `anchors`, the path passes through that many points of the straight path; the pieces between them run side by
    side, which fills a batch.
    Units: target units; a row's values sum to f(z) - f(z0) as the steps grow finer, and the result says how nearly.
    Misleads when: steps are few on a network with shattered gradients, or what has a small gradient alone matters together.
    Source: Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi 2021, arXiv:2106.09788, section 4 and algorithm 1.
    """

    card = Card(title="Guided integrated gradients", paper="arXiv:2106.09788", needs=Needs.GRADIENT, baseline=True,
                promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
                cost="steps and 1 more forward and backward rows, one after the other")
    steps: int = param(200, "steps of the path", ge=1, le=100_000, unit="gradient rows")
    fraction: float = param(0.25, "share of the features that moves first", ge=0.01, le=1)
    distance: float = param(0.02, "how far a feature may be off the straight path; 0: integrated gradients, 1: anywhere between the ends", ge=0, le=1, unit="of its way")
    anchors: int = param(0, "points of the straight path that the path passes through", ge=0, le=1000)

    def attribute(self, q: Question) -> Values:
        pieces = self.anchors + 1
        moves = max(1, round(self.steps / pieces))
        way = each(lambda z, z0: (z - z0).abs().flatten(1).repeat(pieces, 1), q.point, q.start)
        room = torch.cat([wide(w) for w in leaves(way)], 1)
        done, found = torch.zeros_like(room), Trapezoid()
        for step in range(moves):
            z = _at(q, done, pieces)
            g = q.grad(z)
            found.add(z, g)
            done = self._moved(done, room, torch.cat([wide(t.abs().flatten(0, 1).flatten(1)) for t in leaves(g)], 1), (step + 1) / moves)
        z = _at(q, done, pieces)
        found.add(z, q.grad(z))
        whole, half = (each(lambda s, p: s.sum(0).to(p.dtype), s, q.point) for s in found.sums())
        change = q.target_values() - q.value(q.start)
        return Values(whole, convergence=agreement(whole, half) if moves > 1 else None, notes=(told(moves * pieces, whole, change),))

    def _moved(self, done: Tensor, way: Tensor, slope: Tensor, t: float) -> Tensor:
        """How much of its way each feature has done, once `1 - t` of the whole distance is left."""
        if t == 1:
            return torch.ones_like(done)
        low, high = max(t - self.distance, 0.0), min(t + self.distance, 1.0)
        done, whole = done.clamp(min=low), way.sum(1, keepdim=True)
        first = math.floor(self.fraction * (way.shape[1] - 1)) + 1
        close = whole * max(1e-9, 8 * torch.finfo(way.dtype).eps)
        for _ in range(math.ceil(way.shape[1] / first) + 1):
            left = (way * (1 - done)).sum(1, keepdim=True) - whole * (1 - t)
            free = (done < high) & (way > 0) & (left > close)
            if not free.any():
                break
            size = slope.masked_fill(~free, torch.inf)
            chosen = free & (size <= size.kthvalue(first, dim=1, keepdim=True).values)
            share = left / (way * (high - done) * chosen).sum(1, keepdim=True)
            done = torch.where(chosen, torch.where(share < 1, done + (high - done) * share, high), done)
        return done


def _at(q: Question, done: Tensor, pieces: int) -> Tree:
    """(pieces, B, ...) points, from how much of its way within its piece each feature has done."""
    sizes = [t[0].numel() for t in leaves(q.point)]
    first = torch.arange(pieces, device=done.device).repeat_interleave(q.size)[:, None]
    parts = iter(((first + done) / pieces).split(sizes, 1))
    return each(lambda z, z0: torch.lerp(z0, z, next(parts).to(z).reshape(pieces, *z.shape)), q.point, q.start)
