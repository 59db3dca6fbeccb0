"""Infidelity: when the input is perturbed, does the map say by how much the answer changes?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import UsageError
from ..core.explanation import Explanation
from ..core.points import Points
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._mask_pool import generator
from ._told import told
from ._units import Units, elements, units


@dataclass(frozen=True, kw_only=True)
class Infidelity(Metric):
    """When the input is perturbed, does the map say by how much the answer changes?

    How: the mean over perturbations I of (I . map - (answer at x - answer at x - I)) squared. "gaussian" noise is for maps of slopes (gradients);
    "square" hides random squares, "subset" random features, "noisy-baseline" everything: there the values are shares of the answer, and I . map is the sum of what is hidden.
    `perturb` takes a function as captum does: inputs to (perturbations, perturbed inputs), or to perturbed inputs alone.
    Units: squared units of the target. Lower is better; 0 is perfect. `normalize` scales the map by the factor that fits best.
    Chance: the mean squared change of the answer, for a map of zeros; `relative` divides by it: 1 is no better than no map.
    Misleads when: maps of other scales are compared without `normalize`; gradients win with small noise, for whom it was made.
    Source: Yeh et al., 2019, definition 2.1 and section 3.2.
    """

    card = Card(title="Infidelity", paper="arXiv:1901.09392", better="lower", cost="samples + 1 forward rows a row", random=True)
    samples: int = param(100, "perturbations", ge=1)
    kind: str = param("square", "perturbation", choices=("square", "subset", "gaussian", "noisy-baseline"))
    sigma: float = param(0.1, "standard deviation of the noise", ge=0, unit="input units")
    values: str = param("auto", "what a value is: a share of the answer, or a slope; auto: a slope for gaussian and perturb, a share elsewhere", choices=("auto", "share", "slope"))
    normalize: bool = param(False, "scale the map by the factor that fits best")
    relative: bool = param(False, "divide by the mean squared change of the answer")
    fill: str = param("baseline", "what hidden features hold", choices=("baseline", "auto", "blur", "mean", "noise"))
    perturb: Any = param(None, "captum's: inputs -> (perturbations, perturbed inputs), or perturbed inputs")
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))

    def score(self, e: Explanation) -> Scores:
        """The infidelity, a row."""
        u = units(e, self.fill, None, self.answer)
        parts = tuple(leaves(u.q.point))
        maps = elements(e, parts)
        told_by_map = torch.zeros(self.samples, u.size, dtype=torch.float64)
        answers = u.q.value(Points(self.samples, self._recorded(u, parts, maps, told_by_map))).double().cpu()
        falls = u.whole()[None] - answers
        if self.normalize:
            told_by_map = told_by_map * (told_by_map * falls).sum(0) / told_by_map.square().sum(0).clamp_min(1e-300)
        found = (told_by_map - falls).square().mean(0)
        if self.relative:
            change = falls.square().mean(0)
            found = torch.where(change > 0, found / change, torch.nan)
        return told(found, "Mean squared error of the map's account of perturbations", "lower", "no perturbation changes the answer")

    def _recorded(self, u: Units, parts: tuple[Tensor, ...], maps: tuple[Tensor, ...], into: Tensor) -> Callable[[Tensor, Tensor], Any]:
        """Makes the points, and writes down what the map says of each."""
        slope = self.values == "slope" or (self.values == "auto" and (self.kind == "gaussian" or self.perturb is not None))
        if self.kind == "gaussian" and not slope:
            raise UsageError('Infidelity needs values="slope" with gaussian noise: a share of the answer says nothing of a small step.')

        def make(s: Tensor, rows: Tensor) -> Any:
            change, new = self._changed(u, parts, s, rows)
            held = torch.zeros(len(s), dtype=torch.float64)
            for i, (m, d) in enumerate(zip(maps, change, strict=True)):
                weight = d.double().cpu() if slope or self.perturb is not None else self._share(u, parts, i, d, rows)
                held += (weight * m[rows]).flatten(1).sum(1)
            into[s, rows] = held
            return new

        return make

    def _share(self, u: Units, parts: tuple[Tensor, ...], i: int, change: Tensor, rows: Tensor) -> Tensor:
        """How much of the way to the fill each element went."""
        way = (parts[i] - u.fill[i])[rows]
        return torch.where(way == 0, (change != 0).to(way), change / torch.where(way == 0, 1, way)).double().cpu()

    def _changed(self, u: Units, parts: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """What is taken away, and what is left."""
        x = [p[rows] for p in parts]
        if self.perturb is not None:
            return _by_captum(self.perturb, x)
        if self.kind in ("gaussian", "noisy-baseline"):
            noise = [self.sigma * n for n in leaves(u.q.noise(s, rows))]
            change = noise if self.kind == "gaussian" else [p - f[rows] - n for p, f, n in zip(x, u.fill, noise, strict=True)]
        else:
            gone = torch.stack([_hidden(u, int(k), int(r), self.kind == "square") for k, r in zip(s, rows, strict=True)])
            marks = [u.spread(gone, i, rows).to(p) for i, p in enumerate(x)]
            change = [(p - f[rows]) * m for p, f, m in zip(x, u.fill, marks, strict=True)]
        return change, tuple(p - d for p, d in zip(x, change, strict=True))


def _hidden(u: Units, sample: int, row: int, square: bool) -> Tensor:
    """(P,) which units a sample hides: a random square of a picture, else a random subset."""
    gen = generator(u.q.seed, (u.q.ids[row], sample), "infidelity")
    if not (square and u.picture):
        return torch.rand(u.count, generator=gen) < torch.rand((), generator=gen)
    h, w = u.labels[0].shape[2:]
    side = 1 + int(torch.randint(max(min(h, w) // 2, 1), (), generator=gen))
    top, left = (int(torch.randint(n - side + 1, (), generator=gen)) for n in (h, w))
    marks = torch.zeros(h, w, dtype=torch.bool)
    marks[top : top + side, left : left + side] = True
    return marks.flatten()


def _by_captum(perturb: Callable[..., Any], x: list[Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """What a perturbation function of captum's gives for these rows; one tensor goes in and comes out bare."""
    bare = len(x) == 1
    found = perturb(x[0] if bare else tuple(x))
    if isinstance(found, tuple) and len(found) == 2 and (not bare or all(isinstance(f, Tensor) for f in found)):
        change, new = ([t] if isinstance(t, Tensor) else list(t) for t in found)
    else:
        new = [found] if isinstance(found, Tensor) else list(found)
        change = [a - b for a, b in zip(x, new, strict=True)]
    if any(n.shape != p.shape for n, p in zip(new, x, strict=True)):
        raise UsageError(f"perturb needs to give inputs shaped like those it got, {[tuple(p.shape) for p in x]}; got {[tuple(n.shape) for n in new]}.")
    return change, tuple(new)
