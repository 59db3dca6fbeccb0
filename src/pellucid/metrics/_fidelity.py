"""Does hiding what a map marks lower the answer? The mathematics, on plain tensors of one row.

A pool holds `n` masks over `P` places (1 = kept, 0 = hidden) and the answer under each. A map says how much each place
should matter, so the answer should follow the attribution that is kept. How much is kept at all is held fixed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = 1e-6
"""Below this, a spread is that of rounding: the map or the answer is constant."""


@dataclass(frozen=True)
class Fit:
    """How well maps predict the answers of one pool, once the kept area and any controls are taken out."""

    masks: Tensor
    answers: Tensor
    basis: Tensor

    def correlate(self, maps: Tensor) -> Tensor:
        """(k, P) maps -> (k,) correlations between kept attribution and answer; 0 where the map has nothing left to say."""
        maps = maps.to(self.masks)
        kept = residual(maps @ self.masks.T, self.basis)
        floor = EMPTY * (maps.abs() @ self.masks.T).norm(dim=1)
        dead = (kept.norm(dim=1) <= floor) | (maps.amax(1) == maps.amin(1))
        return torch.where(dead, 0.0, unit(kept) @ self.answers)

    def curve(self, heat: Tensor, bins: int = 8) -> tuple[Tensor, Tensor]:
        """(bins,) shares of the map's order and the mean answer there, in standard deviations: rising where the map is right."""
        kept = residual(heat.flatten()[None].to(self.masks) @ self.masks.T, self.basis)[0]
        parts = self.answers[kept.argsort()].mul(len(kept) ** 0.5).tensor_split(bins)
        return (torch.arange(bins) + 0.5) / bins, torch.stack([p.mean() for p in parts])


@dataclass(frozen=True)
class Chance:
    """A map's correlation against that of the same map put elsewhere."""

    r: float
    z: float
    p: float


def fit(masks: Tensor, answers: Tensor, controls: tuple[Tensor, ...] = ()) -> Fit:
    """(n, P) masks and (n,) answers, ready to be predicted; `controls` are (P,) maps whose share is taken out first."""
    masks, answers = masks.double(), answers.double()
    basis = nuisance(masks, controls)
    left = residual(answers, basis)
    still = left.norm() <= EMPTY * answers.norm()
    return Fit(masks, torch.zeros_like(left) if still else unit(left), basis)


def nuisance(masks: Tensor, controls: tuple[Tensor, ...] = ()) -> Tensor:
    """(n, k) orthonormal columns: constant, kept area, its square, and what each control map would keep."""
    area = masks.mean(1)
    columns = [torch.ones_like(area), area, area.square(), *(masks @ c.to(masks).flatten() for c in controls)]
    return torch.linalg.qr(torch.stack(columns, 1)).Q


def residual(v: Tensor, basis: Tensor) -> Tensor:
    """What is left of the last axis of `v` after the columns of `basis`."""
    return v - (v @ basis) @ basis.T


def unit(v: Tensor) -> Tensor:
    """The last axis at length one."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def against(f: Fit, heat: Tensor, elsewhere: Tensor) -> Chance:
    """The (P,) map against the (k, P) same map elsewhere: no texture, only its place can win."""
    r, null = f.correlate(heat.flatten()[None])[0], f.correlate(elsewhere)
    spread = null.std(correction=0)
    z = (r - null.mean()) / spread if spread > EMPTY else torch.zeros_like(r)
    return Chance(float(r), float(z), float((1 + (null >= r).sum()) / (1 + len(null))))


def moved(heat: Tensor, n: int, gen: torch.Generator) -> Tensor:
    """(h, w) map -> (n, h*w): shifted round the edges, turned and mirrored; its texture stays, its place goes."""
    h, w = heat.shape
    turns = [torch.rot90(heat, k) for k in (range(4) if h == w else (0, 2))]
    poses = torch.stack([m for t in turns for m in (t, t.flip(1))]).flatten(1)
    pose = torch.randint(len(poses), (n, 1), generator=gen)
    down, right = torch.randint(h, (n, 1, 1), generator=gen), torch.randint(w, (n, 1, 1), generator=gen)
    y, x = torch.arange(h).view(1, h, 1), torch.arange(w).view(1, 1, w)
    place = ((y - down) % h) * w + (x - right) % w
    return poses[pose, place.flatten(1)]


def shuffled(heat: Tensor, n: int, gen: torch.Generator) -> Tensor:
    """(P,) map -> (n, P): its values at random positions, for features that have no neighbours."""
    order = torch.rand(n, heat.numel(), generator=gen).argsort(1)
    return heat.flatten()[order]


def ceiling(cells: Tensor, answers: Tensor, folds: int = 4, ridge: float = 3.0) -> float:
    """How well any map of (n, P) `cells` could predict the answers: ridge regression, masks held out in complementary pairs.

    Neighbours 2k and 2k + 1 are complements of each other and stay in one fold.
    """
    cells, answers = cells.double(), answers.double()
    basis = nuisance(cells)
    left, x = residual(answers, basis), residual(cells.T, basis).T
    if left.norm() <= EMPTY * answers.norm():
        return 0.0
    fold = torch.arange(len(x)) // 2 % folds
    return sum(_held_out(x, unit(left), fold == k, ridge) for k in range(folds)) / folds


def _held_out(x: Tensor, y: Tensor, test: Tensor, ridge: float) -> float:
    train = x[~test]
    gram = train @ train.T + ridge * torch.eye(len(train), dtype=x.dtype)
    guess = x[test] @ (train.T @ torch.linalg.solve(gram, y[~test]))
    pair = torch.stack([guess, y[test]])
    pair = pair - pair.mean(1, keepdim=True)
    return float(unit(pair[0]) @ unit(pair[1]))


def gini(a: Tensor) -> float:
    """How unequally a map is spread: 0 when every place has the same size, near 1 when one place has all of it."""
    v = a.flatten().double().abs().sort().values
    n, total = len(v), v.sum()
    if not total > 0:
        return 0.0
    return float((2 * torch.arange(1, n + 1, dtype=v.dtype) - n - 1) @ v / (n * total))
