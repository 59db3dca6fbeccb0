"""SmoothGrad: any method averaged over noisy copies of the point."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import catalogue
from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.running import Running
from ..core.tree import each, leaves

TOGETHER = 16
"""Noisy rows that are handed to the inner method at once; the engine cuts them into chunks of its own."""


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Method):
    """What is left of a map when the input trembles?

    How: the mean of another method's values over copies of the point with Gaussian noise; each value has its standard error.
    Units: those of the method inside. Noise is a fraction of each row's own range.
    Misleads when: the noise is so large that the copies are no longer inputs of the same kind.
    Source: Smilkov, Thorat, Kim, Viegas, Wattenberg 2017, arXiv:1706.03825, section 3.
    """

    card = Card(title="SmoothGrad", paper="arXiv:1706.03825", needs=Needs.VALUE, promises=Promise.NONE, cost="samples times the method inside", random=True, baseline=True, wraps=True)
    samples: int = param(25, "noisy copies", ge=2, le=100_000)
    noise: float = param(0.15, "standard deviation", ge=0, unit="fraction of the row's range")
    method: Any = param("saliency", "the method inside: a name, or a Method with its own parameters")

    def inner(self) -> Method:
        """The method inside; a gradient keeps its sign, so that noise cancels."""
        if isinstance(self.method, Method):
            return self.method
        if not isinstance(self.method, str):
            raise UsageError(f"SmoothGrad needs a method's name or a Method; got {self.method!r}.")
        made = catalogue.make("methods", self.method)
        return dataclasses.replace(made, absolute=False) if hasattr(made, "absolute") else made

    def shaped(self, q: Question) -> list[tuple[int, ...]] | None:
        return self.inner().shaped(q)

    def attribute(self, q: Question) -> Values:
        inner = self.inner()
        if inner.card.wraps:
            raise UsageError("SmoothGrad needs a method inside that is no wrapper itself.")
        inner._check_needs(q)
        q.resolved_target()
        copies = max(1, TOGETHER // q.size)
        running = Running()
        first: Values | None = None
        for s in range(0, self.samples, copies):
            found = inner.attribute(self._noisy(q, torch.arange(s, min(s + copies, self.samples))))
            first = first or found
            for k in range(0, leaves(found.values)[0].shape[0], q.size):
                running.add(each(lambda v, k=k: v[k : k + q.size], found.values))
        return Values(running.mean, error=running.error(), signed=inner.card.signed and first.signed, at=first.at)  # type: ignore[union-attr]

    def _noisy(self, q: Question, samples: Tensor) -> Question:
        """Those copies of all rows, as rows of one question."""
        s, rows = samples.repeat_interleave(q.size), torch.arange(q.size).repeat(len(samples))
        noise = q.noise(s, rows)
        return q.take(rows).with_point(each(lambda z, e: z[rows] + self.noise * _range(z)[rows] * e, q.point, noise))


def _range(z: Tensor) -> Tensor:
    flat = z.flatten(1)
    return (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (z.ndim - 1))
