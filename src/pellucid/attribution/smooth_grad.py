"""SmoothGrad, its square and VarGrad: any method over noisy copies of the point."""

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
from ..core.tree import Tree, each, leaves

HELD = 2**25
"""Bytes of noisy copies that are handed to the inner method at once; the engine cuts them into chunks of its own."""


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Method):
    """What is left of a map when the input trembles, and how much does it tremble itself?

    How: the mean of another method's values over copies of the point with Gaussian noise, the mean of their squares
    (SmoothGrad-squared), or their variance (VarGrad, without bias: divided by samples - 1); each value has its standard error.
    Units: those of the method inside, squared for "mean-square" and "variance". Noise is a fraction of each row's own range.
    Misleads when: the noise is so large that the copies are no longer inputs of the same kind. Squares and variances have
    no sign, and are large wherever the map is restless, also where its mean is nothing.
    Source: Smilkov, Thorat, Kim, Viegas, Wattenberg 2017, arXiv:1706.03825, section 3; Hooker, Erhan, Kindermans, Kim 2018,
    arXiv:1806.10758 (squares); Adebayo, Gilmer, Goodfellow, Kim 2018, arXiv:1810.03307 (variance).
    """

    card = Card(title="SmoothGrad", paper="arXiv:1706.03825", needs=Needs.VALUE, promises=Promise.NONE, cost="samples times the method inside", random=True, baseline=True, wraps=True)
    samples: int = param(25, "noisy copies", ge=2, le=100_000)
    noise: float = param(0.15, "standard deviation", ge=0, unit="fraction of the row's range")
    statistic: str = param("mean", "what is made of the copies' values", choices=("mean", "mean-square", "variance"))
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
        copies = max(1, HELD // (_bytes(q.x) + _bytes(q.point)))
        running = Running(spread_too=self.statistic == "variance")
        runs = list[Values]()
        for s in range(0, self.samples, copies):
            found = inner.attribute(self._noisy(q, torch.arange(s, min(s + copies, self.samples))))
            for k in range(0, leaves(found.values)[0].shape[0], q.size):
                running.add(each(lambda v, k=k: self._counted(v[k : k + q.size]), found.values))
            runs.append(dataclasses.replace(found, values=None, error=None))
        notes = tuple(n for n in runs[0].notes if all(n in r.notes for r in runs))
        signed = self.statistic == "mean" and inner.card.signed and runs[0].signed
        return Values(*self._made(running), signed=signed, at=runs[0].at, notes=notes)

    def _counted(self, v: Tensor) -> Tensor:
        return v.square() if self.statistic == "mean-square" else v

    def _made(self, running: Running) -> tuple[Tree, Tree]:
        """The statistic and its standard error."""
        return (running.variance(), running.error_of_variance()) if self.statistic == "variance" else (running.mean, running.error())

    def _noisy(self, q: Question, samples: Tensor) -> Question:
        """Those copies of all rows, as rows of one question."""
        s, rows = samples.repeat_interleave(q.size), torch.arange(q.size).repeat(len(samples))
        noise = q.noise(s, rows)
        return q.take(rows).with_point(each(lambda z, e: z[rows] + self.noise * _range(z)[rows] * e, q.point, noise))


def _bytes(tree: Tree) -> int:
    return sum(t.numel() * t.element_size() for t in leaves(tree) if isinstance(t, Tensor))


def _range(z: Tensor) -> Tensor:
    flat = z.flatten(1)
    return (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (z.ndim - 1))
