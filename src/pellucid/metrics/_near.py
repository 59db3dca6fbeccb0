"""The same method on copies of each row that were moved a little: what the measures of robustness are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.tree import Tree, each, leaves, take
from ._mask_pool import generator
from ._subject import Subject, live
from ._told import told

TOGETHER = 64
"""Moved rows that are explained in one question."""


@dataclass(frozen=True)
class Copies:
    """`k` moved copies of B rows, flattened: inputs and values (k, B, D), and whether the prediction is still the same (k, B)."""

    x: Tensor
    values: Tensor
    kept: Tensor
    read: Callable[[str], Tensor]
    """(k, B, D) of a layer there, or of the outputs ("")."""


@dataclass(frozen=True, kw_only=True)
class Moving(Metric):
    """What every measure of robustness takes: how far copies of a row are moved, and which of them count."""

    draws: int = param(10, "moved copies of each row", ge=1)
    radius: float = param(0.02, "largest change of a number", ge=0, unit="fraction of the input's range, or input units")
    relative: bool = param(True, "whether the radius is a share of each row's range")
    keep: bool = param(True, "leave out copies whose prediction changed: there the map has to change")
    perturb: Any = param(None, "a function of inputs that moves them, as captum's; instead of noise")

    def compared(self, s: Subject, change: Callable[[Copies], Tensor]) -> list[Tensor]:
        """(k, B) of every portion of copies what changed; NaN where the prediction did, unless those are kept."""
        found = ((change(c), c) for c in copies(s, self.draws, self.radius, self.relative, self.perturb))
        return [torch.where(c.kept, changed, torch.nan) if self.keep else changed for changed, c in found]

    def of_map(self, s: Subject) -> list[Tensor]:
        """The relative change of the map, Euclidean; NaN of an empty map."""
        own = flat(s.e.values)
        size = own.norm(dim=1)
        return self.compared(s, lambda c: (c.values - own).norm(dim=-1) / torch.where(size > 0, size, torch.nan))


@dataclass(frozen=True, kw_only=True)
class Stability(Moving):
    """How the map changes, entry by entry, for every change of something else."""

    least: float = param(1e-6, "nothing is divided by less than this", ge=0)

    def ratios(self, s: Subject, moved: Callable[[Copies], Tensor], what: str) -> Scores:
        """The largest relative change of the map for a change `moved` of something, a row."""
        own = flat(s.e.values)
        found = self.compared(s, lambda c: relative_change(c.values, own, self.least) / moved(c).clamp(min=self.least))
        return told(largest(found), f"Largest relative change of the map for that of the {what}", "lower", "every copy changed the prediction")


def runnable(e: Explanation, who: str, moves: bool = True) -> Subject:
    """The explanation with a method that can be run again; at the input, where the metric moves that."""
    s = live(e)
    if s.method is None:
        raise NotApplicable(f"{who} runs the method again; {e.method or 'a map made elsewhere'} is not in the catalogue, so that it cannot be. Explain with pel.explain.")
    if moves and s.q.places:
        raise NotApplicable(f"{who} moves the input and compares maps at the input; this explanation lies at {s.q.at}. Explain at the input.")
    return s


def flat(t: Tree) -> Tensor:
    """(B, D) double-precision numbers of a tree."""
    return torch.cat([v.detach().double().cpu().flatten(1) for v in leaves(t)], 1)


def copies(s: Subject, draws: int, radius: float, relative: bool = True, perturb: Any = None) -> Iterator[Copies]:
    """Copies moved by uniform noise of at most `radius` (times each row's range where relative), or by a function of inputs."""
    if s.method is None:
        return
    q, size = s.q.with_target(s.q.resolved_target()), s.size
    own = s.e.predictions
    step = max(1, TOGETHER // size)
    for first in range(0, draws, step):
        ks = range(first, min(first + step, draws))
        rows = torch.arange(size).repeat(len(ks))
        tiled = take(q.point, rows)
        z = perturb(tiled) if perturb else moved(tiled, [generator(q.seed, q.ids[r], f"near {k}") for k in ks for r in range(size)], radius, relative)
        z = z[0] if isinstance(z, tuple) and isinstance(tiled, Tensor) else z
        asked = q.take(rows).with_point(z)
        other = s.method(asked)
        same = [not own or not other.predictions or own[i % size][0][0] == p[0][0] for i, p in enumerate(other.predictions or [()] * len(rows))]

        def read(layer: str, asked: Any = asked, n: int = len(ks)) -> Tensor:
            return flat(asked.at_layer(layer).point if layer else asked.own_outputs()).unflatten(0, (n, size))

        shape = (len(ks), size)
        yield Copies(flat(z).unflatten(0, shape), flat(other.values).unflatten(0, shape), torch.tensor(same).reshape(shape), read)


def moved(x: Tree, gens: list[torch.Generator], radius: float, relative: bool) -> Tree:
    """Uniform noise of at most `radius`, times each row's range where relative."""

    def move(t: Tensor) -> Tensor:
        u = torch.stack([2 * torch.rand(t.shape[1:], generator=g, dtype=torch.float64) - 1 for g in gens]).to(t)
        wide = (t.flatten(1).amax(1) - t.flatten(1).amin(1)).reshape(-1, *[1] * (t.ndim - 1)) if relative else 1.0
        return t + radius * wide * u

    return each(move, x)


def largest(found: list[Tensor]) -> Tensor:
    """(B,) the largest over all copies, those that are NaN left out; NaN where all are."""
    all_ = torch.cat(found)
    top = all_.nan_to_num(-torch.inf).amax(0)
    return torch.where(all_.isnan().all(0), torch.nan, top)


def relative_change(new: Tensor, old: Tensor, least: float) -> Tensor:
    """(k, B) Euclidean length of (new - old) / old, entry by entry; entries of `old` are not divided by less than `least`."""
    floor = torch.where(old < 0, old.clamp(max=-least), old.clamp(min=least))
    return ((new - old) / floor).norm(dim=-1)
