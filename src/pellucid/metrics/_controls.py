"""Maps that know nothing of the model and often look right: a good map has to say more than they do."""

import math
import re

import torch
from torch import Tensor
from torch.nn import functional

from ..core.question import Question, Samples
from ..core.rows import row_seed
from ..core.tree import leaves
from ._mask_pool import shrink
from ._subject import PICTURE, Grid

TEXT = ("token", "word", "sentence", "span")
_FREQUENT = (
    "the of and to a in is that it for was on with as be are this by at have had not but from or an they which you were all we when there can one been has "
    "who will no if so its would what their about up more out do into them than then some could her him his she he i my me our your just very too also"
)
COMMON = frozenset(_FREQUENT.split())
"""English words that are frequent whatever a text is about."""


def controls(q: Question, grid: Grid) -> dict[str, Tensor]:
    """Named (B, *grid) maps that a look at the input alone gives: edges and centre of pictures; length, position and rarity of words; size of cells."""
    if grid.kind == PICTURE:
        x = leaves(q.at_layer(None).point if q.places else q.point)[0].detach().cpu().double()
        middle = shrink(centre(*grid.shape).double(), grid.compared)
        return {"edges": shrink(edges(x), grid.compared), "centre": middle.expand(len(x), *middle.shape)}
    if q.model.axis in TEXT and not q.places:
        return words(q, grid)
    if q.places:
        return {"position": positions(q.size, grid.shape[0])}
    return {"size": sizes(q, grid)}


def told_apart(q: Question, grid: Grid) -> str:
    """The controls in words."""
    if grid.kind == PICTURE:
        return "edges or the centre"
    return "position, length or rarity of words" if q.model.axis in TEXT and not q.places else "positions" if q.places else "the size of the cells"


def edges(x: Tensor) -> Tensor:
    """(B, C, H, W) pictures -> (B, H, W) Sobel magnitude of the mean channel."""
    k = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]).to(x)
    grey = functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), "replicate")
    return functional.conv2d(grey, torch.stack([k, k.T])[:, None]).square().sum(1).sqrt()


def centre(height: int, width: int, sigma: float = 0.4) -> Tensor:
    """(H, W) Gaussian in the middle; `sigma` in half widths."""
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return torch.exp(-(x.square() + y.square()) / (2 * sigma * sigma))


def positions(rows: int, count: int) -> Tensor:
    """(B, P): what comes late."""
    return torch.linspace(0, 1, count, dtype=torch.float64).expand(rows, count)


def words(q: Question, grid: Grid) -> dict[str, Tensor]:
    """How late a word comes, how long it is, and how rare: frequent English words 0, others by how seldom these texts use them."""
    texts = q.model.features(q.x) or ((),) * q.size
    folded = [[re.sub(r"^\W+|\W+$", "", w).casefold() for w in own] for own in texts]
    seen: dict[str, int] = {}
    for own in folded:
        for w in set(own):
            seen[w] = seen.get(w, 0) + 1
    length, rare, late = (torch.zeros(q.size, grid.shape[0], dtype=torch.float64) for _ in range(3))
    for i, own in enumerate(folded):
        n = min(len(own), grid.shape[0])
        length[i, :n] = torch.tensor([float(len(w)) for w in own[:n]], dtype=torch.float64)
        rare[i, :n] = torch.tensor([0.0 if w in COMMON or not w else 1.0 + math.log(q.size / seen[w]) for w in own[:n]], dtype=torch.float64)
        late[i, :n] = torch.linspace(0, 1, n, dtype=torch.float64)
    return {"position": late, "length": length, "rarity": rare}


def sizes(q: Question, grid: Grid) -> Tensor:
    """(B, P): how far each cell lies from what absent cells hold, in the data's own units."""
    x = leaves(q.point)[0].detach().cpu().double()
    given = q.baseline.parts[0].to(x) if isinstance(q.baseline, Samples) else None
    start = given.mean(0, keepdim=True) if given is not None else leaves(q.start)[0].detach().cpu().double().expand_as(x)
    away = (x - start).abs().nan_to_num()
    if given is not None and len(given) > 1:
        away = away / given.std(0, keepdim=True).clamp_min(1e-12)
    return away.sum(3 - grid.axis) if away.ndim == 3 else away.flatten(1)


def drawn(q: Question, grid: Grid) -> Tensor:
    """(B, *grid) numbers drawn at random, a row by its name: chance as a map."""
    gens = [torch.Generator().manual_seed(row_seed(q.seed, ("random map", name), 0)) for name in q.ids]
    coarse = tuple(min(7, d) for d in grid.compared)
    maps = torch.stack([torch.randn(coarse, generator=g, dtype=torch.float64) for g in gens])
    return shrink(maps, grid.compared) if grid.kind == PICTURE else torch.stack([torch.randn(grid.compared, generator=g, dtype=torch.float64) for g in gens])
