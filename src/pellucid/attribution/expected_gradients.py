"""Expected gradients: integrated gradients over many baselines, one random point of one path at a time."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.points import Points
from ..core.procedure import Method, Values
from ..core.question import Question, Samples, spread
from ..core.rows import row_seed
from ..core.tree import Tree, is_float, leaves

HELD = 2**25
"""Bytes of baselines, at the place that is explained, that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(Method):
    """How much does each part contribute, against a whole set of baselines (GradientSHAP)?

    How: the mean of (z - z0) * df/dz at z0 + a (z - z0), over baselines z0 from the question's `pel.Samples` and a from
    [0, 1], drawn for each row by its name; with `noise`, z is drawn as well. Each baseline gets its equal share of draws,
    and the path is cut in stretches with two draws each: the mean stays without bias and varies less, and the two tell its
    standard error.
    Units: target units; the values sum to f(z) less the mean of f over the baselines, on average over draws.
    Misleads when: the baselines are no inputs like those the model knows; parts that many baselines share with the row get little.
    The standard error is that of the draws: it takes the given baselines for all there are.
    Source: Erion, Janizek, Sturmfels, Lundberg, Lee 2019, arXiv:1906.10670; Lundberg, Lee 2017, arXiv:1705.07874.
    """

    card = Card(title="Expected gradients", paper="arXiv:1906.10670", needs=Needs.GRADIENT, promises=Promise.LOCAL | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
                cost="samples rows forward and backward", random=True, baseline=True, samples=True)
    samples: int = param(100, "draws, an odd number is rounded up: they come in pairs", ge=2, le=100_000, unit="gradient rows")
    noise: float = param(0.0, "standard deviation of Gaussian noise on the point", ge=0, unit="fraction of the row's range")

    def attribute(self, q: Question) -> Values:
        pool = q.baseline.n if isinstance(q.baseline, Samples) else 1
        plans = [_plan(self.samples + self.samples % 2, pool, row_seed(q.seed, ("path", name), 0)) for name in q.ids]
        index, t, weight = (torch.stack(column, 1) for column in zip(*plans, strict=True))
        sums = _Pairs(q.point, weight)
        for first, start in _starts(q, index):
            path = _Path(q, t, first, start, self.noise)
            q.stream(path.points(), functools.partial(sums.take, path))
        note = f"{len(t)} draws, two in each of {len(t) // 2} stretches of {'the path' if pool == 1 else f'the paths from {pool} baselines'}"
        return Values(q.pack(sums.mean()), error=q.pack(sums.error()), notes=(note,))


def _plan(n: int, pool: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """For one row (baseline, fraction of the path, weight) of `n` draws. Draws 2 h and 2 h + 1 lie in the same stretch.

    With at least two draws a baseline, each baseline's own path is cut in stretches; the pairs then tell the error without
    bias. With fewer, one set of stretches serves all, and draws have baselines of their own, none twice before all
    were used once: the pairs then tell at least the error.
    """
    g, cells = torch.Generator().manual_seed(seed), n // 2
    u, order = torch.rand(n, generator=g, dtype=torch.float64), torch.randperm(pool, generator=g)
    if cells < pool:
        index = torch.cat([order, torch.randperm(pool, generator=g)])[:n]
        cell = torch.arange(cells).repeat_interleave(2)
        return index, (cell + u) / cells, torch.full((n,), 1 / n, dtype=torch.float64)
    own = torch.full((pool,), cells // pool).index_add_(0, order[: cells % pool], torch.ones(cells % pool, dtype=torch.long))
    index = torch.arange(pool).repeat_interleave(own)
    cell = torch.arange(cells) - (own.cumsum(0) - own)[index]
    index, cell = index.repeat_interleave(2), cell.repeat_interleave(2)
    return index, (cell + u) / own[index], 1 / (2.0 * pool * own[index].double())


def _starts(q: Question, index: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """(first draw, (n, B, ...) baselines) of as many draws as are held at once, carried to the place."""
    if not isinstance(q.baseline, Samples):
        yield 0, [t.expand(len(index), *t.shape) for t in leaves(q.start)]
        return
    alike = all(is_float(t) for t in leaves(q.x) if isinstance(t, Tensor) and t.ndim)  # nothing of a row is left once the baseline is in its place
    many = max(2, HELD // sum(t.numel() * t.element_size() for t in leaves(q.point)) // 2 * 2)
    for first in range(0, len(index), many):
        block = index[first : first + many]
        key = block if alike else block * q.size + torch.arange(q.size)
        wanted, back = key.unique(return_inverse=True)
        rows, which = (torch.zeros_like(wanted), wanted) if alike else (wanted % q.size, wanted // q.size)
        held = q.take(rows).with_baseline(tuple(p[which] for p in q.baseline.parts)).start
        yield first, [t[back] for t in leaves(held)]


class _Path:
    """Draws on the way from the baselines to the point; remembers the span of the chunk it made last."""

    def __init__(self, q: Question, t: Tensor, first: int, start: list[Tensor], noise: float) -> None:
        self.q, self.t, self.first, self.start, self.noise = q, t, first, start, noise
        self.span: list[Tensor] = []

    def points(self) -> Points:
        return Points(len(self.start[0]), self._make)

    def _make(self, s: Tensor, rows: Tensor) -> Tree:
        z, z0, f = self._ends(self.first + s, rows), [t[s, rows] for t in self.start], self.t[self.first + s, rows]
        self.span = [a - b for a, b in zip(z, z0, strict=True)]
        return tuple(b + spread(f.to(b), b) * d for b, d in zip(z0, self.span, strict=True))

    def _ends(self, s: Tensor, rows: Tensor) -> list[Tensor]:
        z = [t[rows] for t in leaves(self.q.point)]
        if not self.noise:
            return z
        size = [t.flatten(1).amax(1) - t.flatten(1).amin(1) for t in z]
        return [t + self.noise * spread(r, t) * e for t, r, e in zip(z, size, leaves(self.q.noise(s, rows)), strict=True)]


class _Pairs:
    """The weighted sum of draws as they come, and its standard error from the difference of the two in each stretch."""

    def __init__(self, like: Tree, weight: Tensor) -> None:
        self.like, self.weight = leaves(like), weight
        self.sums, self.squares, self.waiting = list[Tensor](), list[Tensor](), list[Tensor]()

    def take(self, path: _Path, g: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> None:
        """The gradients of draws `s` of rows `rows` on a path, in order."""
        self._add([a * b for a, b in zip(path.span, g, strict=True)], path.first + s, rows)

    def _add(self, values: list[Tensor], s: Tensor, rows: Tensor) -> None:
        if not self.sums:  # not before: a caller's inference mode would make tensors that cannot be added to
            self.sums, self.squares, self.waiting = ([torch.zeros_like(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in self.like] for _ in range(3))
        for sample in s.unique().tolist():
            mine = (s == sample).nonzero()[:, 0]
            for v, total, square, first in zip(values, self.sums, self.squares, self.waiting, strict=True):
                at, own = rows[mine].to(v.device), v[mine.to(v.device)].to(total.dtype)
                w = spread(self.weight[sample, rows[mine]].to(total), total)
                total[at] += w * own
                if sample % 2:
                    square[at] += (w * (own - first[at])).square()
                else:
                    first[at] = own

    def mean(self) -> list[Tensor]:
        return [t.to(like.dtype) for t, like in zip(self.sums, self.like, strict=True)]

    def error(self) -> list[Tensor]:
        return [t.sqrt().to(like.dtype) for t, like in zip(self.squares, self.like, strict=True)]
