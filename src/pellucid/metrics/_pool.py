"""The pool at work: a question's answers under random masks, asked when they are needed and kept for every map and target."""

import torch
from torch import Tensor

from ..core.evidence import Cost
from ..core.points import Points
from ..core.question import Question, Samples
from ..core.start import blur
from ..core.target import Target
from ..core.tree import Tree, leaves
from ._mask_pool import FeatureMasks, ImageMasks, feature_masks, image_masks
from ._subject import PICTURE, Grid, spent

WIDEST = 20_000
"""Outputs a row above which only the question's own target is kept."""
MOST = 200_000
"""The same for the outputs of all rows: 128 times as many numbers are held."""


class Pool:
    """Answers of one question's rows under random masks. One pool serves any number of maps of the same rows."""

    def __init__(self, q: Question, grid: Grid, fill: str = "blur") -> None:
        self.grid = grid
        self.q = q.at_layer(None) if grid.kind == PICTURE and q.places else q
        self.opening = spent(self.q, self.q.own_outputs)
        self.target = self.q.resolved_target()
        self.own = self.q.own_outputs()
        self.whole = self.target.reads is None and self.own.ndim == 2 and self.own.shape[1] <= WIDEST and self.own.numel() <= MOST
        self._x = leaves(self.q.point)[0]
        self._fill = self._filled(fill)
        self._held: list[Tensor] = [torch.empty(0)] * q.size
        self._masks: dict[int, ImageMasks | FeatureMasks] = {}

    def count(self, row: int) -> int:
        """Masks asked so far."""
        return len(self._held[row])

    def masks(self, n: int) -> ImageMasks | FeatureMasks:
        """The first `n` masks of every row."""
        if n not in self._masks:
            seed, ids, shape = self.q.seed, self.q.ids, self.grid.shape
            self._masks[n] = image_masks(n, (shape[0], shape[1]), seed, ids) if self.grid.kind == PICTURE else feature_masks(n, shape[0], seed, ids)
        return self._masks[n]

    def grow(self, rows: list[int], n: int) -> Cost:
        """Asks for masks until each of these rows has `n`."""
        total, self.opening = self.opening, Cost()
        for have in sorted({self.count(r) for r in rows if self.count(r) < n}):
            total = total + self._ask([r for r in rows if self.count(r) == have], have, n)
        return total

    def answers(self, row: int, n: int, target: Target | None = None) -> Tensor:
        """(n,) double-precision answers of one row under its first `n` masks; of another target where whole outputs are kept."""
        held = self._held[row][:n]
        if self.whole:
            held = (target or self.target).read(held, torch.full((len(held),), row))
        return held.double().cpu()

    def _ask(self, rows: list[int], have: int, n: int) -> Cost:
        masks, named = self.masks(n), torch.tensor(rows)
        asked = self.q if len(rows) == self.q.size else self.q.take(named)
        points = Points(n - have, lambda s, r: self._blend(masks.full(s + have, named[r]), named[r]))
        got: list[Tensor] = []
        cost = spent(asked, lambda: got.append(asked.outputs(points) if self.whole else asked.value(points)))
        for i, r in enumerate(rows):
            self._held[r] = torch.cat([self._held[r].to(got[0]).reshape(have, *got[0].shape[2:]), got[0][:, i]])
        if asked is not self.q:
            asked.close()
        return cost

    def _blend(self, m: Tensor, rows: Tensor) -> Tree:
        x, fill = self._x[rows], self._fill[rows]
        if self.grid.kind == PICTURE:
            m = m[:, None]
        elif x.ndim == 3:
            m = m.unsqueeze(3 - self.grid.axis)
        return fill + m.to(x) * (x - fill)

    def _filled(self, fill: str) -> Tensor:
        x = self._x
        if self.grid.kind != PICTURE:
            many = isinstance(self.q.baseline, Samples)
            return self.q.baseline.parts[0].to(x).mean(0, keepdim=True).expand_as(x) if many else leaves(self.q.start)[0].expand_as(x)
        return blur(x) if fill == "blur" else x.mean((2, 3), keepdim=True).expand_as(x)
