"""Grid pointing game: in a mosaic of pictures of different classes, does the map of a class stay in its own picture?"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.target import Label, Probability, of_row
from ._mask_pool import generator
from ._near import runnable
from ._regions import share
from ._told import told


@dataclass(frozen=True, kw_only=True)
class GridPointingGame(Metric):
    """In a mosaic of the rows' own pictures, each of another class, does the map of a class stay in its own picture?

    How: each row is put at a random place of a mosaic with other rows of other targets, shrunk to the model's size (or whole, where the model takes larger pictures);
    the share of the map's positive part that lies in the row's own cell, mean over mosaics. No labels are needed.
    Units: share. Higher is better.
    Chance: 1 / side^2, which edges have too.
    Misleads when: the model does not know the shrunk picture any more, or its class is seen in another cell; single cells are noisy, many rows are needed.
    Source: Böhle, Fritz and Schiele, 2021, section 4; Rao, Böhle and Schiele, 2022.
    """

    card = Card(title="Grid pointing game", paper="arXiv:2104.00032", cost="one more explanation a mosaic", random=True)
    side: int = param(2, "pictures a side", ge=2)
    mosaics: int = param(3, "mosaics of each row", ge=1)
    whole: bool = param(False, "mosaics of full-sized pictures, for models that take any size")

    def score(self, e: Explanation) -> Scores:
        """The share in the row's own cell; NaN where there are too few rows of other classes."""
        s = runnable(e, "grid-pointing-game")
        x, target = s.q.point, s.q.resolved_target()
        if not isinstance(x, Tensor) or x.ndim != 4 or s.method is None:
            raise NotApplicable("grid-pointing-game puts pictures together; these inputs are none.")
        own = [of_row(target, i) for i in range(s.size)]
        if not all(isinstance(t, (Label, Probability)) for t in own):
            raise NotApplicable("grid-pointing-game needs a class for each row; ask about classes.")
        found = torch.full((self.mosaics, s.size), torch.nan, dtype=torch.float64)
        for k in range(self.mosaics):
            drawn = [_drawn(own, i, self.side**2, generator(s.q.seed, s.q.ids[i], f"mosaic {k}")) for i in range(s.size)]
            rows = [i for i, d in enumerate(drawn) if d is not None]
            if not rows:
                continue
            cells = torch.stack([d for d in drawn if d is not None])
            z = _mosaics(x, cells, self.side, self.whole)
            asked = s.q.take(torch.tensor(rows))
            heat = s.method(asked.with_point(z)).values
            if not isinstance(heat, Tensor) or heat.ndim != 4:
                raise NotApplicable("grid-pointing-game needs a map on the picture's grid.")
            place = (cells == torch.tensor(rows)[:, None]).long().argmax(1)
            found[k, rows] = _inside(heat, place, self.side)
        return told(found.nanmean(0), f"Share of the positive part in the row's own cell of {self.side} x {self.side} (chance {1 / self.side**2:.2f})",
                    why=f"a mosaic needs {self.side**2} rows of different classes, or the map has no positive part")


def _drawn(own: list[object], i: int, n: int, gen: torch.Generator) -> Tensor | None:
    """(n,) rows for the cells of one mosaic: row i at a random place, and others of targets that are all different."""
    chosen, seen = [i], {own[i]}
    for j in torch.randperm(len(own), generator=gen).tolist():
        if own[j] not in seen and len(chosen) < n:
            chosen.append(j)
            seen.add(own[j])
    return torch.tensor(chosen)[torch.randperm(n, generator=gen)] if len(chosen) == n else None


def _mosaics(x: Tensor, cells: Tensor, side: int, whole: bool) -> Tensor:
    """(R, C, H, W) mosaics; cells are shrunk by averaging unless whole."""
    h, w = x.shape[2:]
    if whole:
        return torch.cat([torch.cat([x[cells[:, r * side + c]] for c in range(side)], 3) for r in range(side)], 2)
    down, right = ([d * (k + 1) // side - d * k // side for k in range(side)] for d in (h, w))
    row = lambda r: torch.cat([F.adaptive_avg_pool2d(x[cells[:, r * side + c]], (down[r], right[c])) for c in range(side)], 3)  # noqa: E731
    return torch.cat([row(r) for r in range(side)], 2)


def _inside(heat: Tensor, place: Tensor, side: int) -> Tensor:
    """(R,) share of the positive part in each mosaic's own cell; a coarse map's cells are weighed by what lies in each."""
    v = heat.detach().cpu().double().sum(1, keepdim=True)
    v = F.interpolate(v, scale_factor=side, mode="nearest") if min(v.shape[2:]) % side else v
    v = v[:, 0].clamp(min=0)
    edges = [[d * k // side for k in range(side + 1)] for d in v.shape[1:]]
    held = torch.stack([v[:, edges[0][r] : edges[0][r + 1], edges[1][c] : edges[1][c + 1]].sum((1, 2)) for r in range(side) for c in range(side)], 1)
    return share(held.gather(1, place[:, None])[:, 0], held.sum(1))
