"""XRAI: integrated gradients of whole regions, the densest first."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ._layer import grid_of
from ._segments import felzenszwalb, into_frame, out_of_frame
from .integrated_gradients import IntegratedGradients


@dataclass(frozen=True, kw_only=True)
class XRAI(Method):
    """Which regions of the picture made the answer, in order of how dense they are in it?

    How: integrated gradients from black and from white (the least and the largest number of each row's picture), averaged
    and summed over channels. The picture is cut into overlapping regions at six scales (Felzenszwalb); of those, the one with
    the highest mean is taken first, then the one that adds the highest mean outside of what was taken, until all is taken.
    At a layer, the attributions of its grid are spread over the picture first.
    Units: target units a pixel, one map a picture, even within a region; a row's values sum to what integrated gradients from
    the two baselines sum to on average (with channels="max", to more). The question's baseline plays no part.
    Misleads when: what matters does not follow visible edges, or is thinner than a region. Regions are all or nothing: a
    slightly different picture (rounded to 16 bits, say) may be cut otherwise.
    Source: Kapishnikov, Bolukbasi, Viegas, Terry 2019, arXiv:1906.02825, algorithm 1; scales as in the authors' code.
    """

    card = Card(title="XRAI", paper="arXiv:1906.02825", needs=Needs.GRADIENT, promises=Promise.LINEAR, cost="twice integrated gradients")
    steps: int | str = param("auto", 'nodes on each path, or "auto"', ge=1, le=100_000, unit="gradient rows", choices=("auto",))
    channels: str = param("sum", "what a pixel's channels amount to; the authors' code takes the largest", choices=("sum", "max"))
    fast: bool = param(False, "order regions once, by their own mean")

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        inputs = leaves(q.at_layer(None).point)
        pictures = [p for p in inputs if p.ndim == 4]
        if len(pictures) != 1:
            raise NotApplicable(f"XRAI needs one picture as input, a grid (rows, channels, height, width); got {[tuple(p.shape) for p in inputs]}. Use integrated-gradients.")
        here = leaves(q.point)
        q.resolved_target()
        q.engine.close()  # both are known to the questions below, which borrow the same copy of the model
        picture, ends = pictures[0], (torch.amin, torch.amax)
        found = [self._from(q, tuple(_even(p, end) for p in inputs)) for end in ends]
        gain = into_frame(sum(self._planes(q, f, picture) for f in found) / 2)
        maps = torch.stack([self._regions(p, g) for p, g in zip(picture, gain, strict=True)])
        convergence = [f.convergence for f in found if f.convergence is not None]
        return Values(out_of_frame(maps, tuple(picture.shape[2:]))[:, None].to(here[0]), convergence=sum(convergence) / len(convergence) if convergence else None,
                      notes=tuple(f"from {name}: {n}" for name, f in zip(("black", "white"), found, strict=True) for n in f.notes))

    def _from(self, q: Question, baseline: tuple[Tensor, ...]) -> Values:
        """Integrated gradients from there."""
        with contextlib.closing(q.with_baseline(baseline)) as one:
            return IntegratedGradients(steps=self.steps).attribute(one)

    def _planes(self, q: Question, found: Values, picture: Tensor) -> Tensor:
        """(B, h, w) attributions, channels taken together."""
        values = leaves(found.values)
        mine = values[0] if q.places else next(v for v in values if v.shape == picture.shape)
        grid = grid_of(tuple(mine.shape[1:]), tuple(picture.shape[2:]))
        if grid is None or (q.places and len(values) != 1):
            raise NotApplicable(f"XRAI needs a layer with a spatial grid; {q.at} gives {[tuple(v.shape[1:]) for v in values]} a row. Leave out at= to see the input.")
        planes = grid.planes(mine)
        return planes.sum(1) if self.channels == "sum" else planes.amax(1)

    def _regions(self, picture: Tensor, gain: Tensor) -> Tensor:
        return torch.from_numpy(felzenszwalb(picture).joined(gain.flatten().numpy(), self.fast)).reshape(gain.shape)


def _even(p: Tensor, end: Callable[..., Tensor]) -> Tensor:
    """Every row at its least or largest number; what is no picture stays as it is."""
    return end(p, (1, 2, 3), keepdim=True).expand_as(p).clone() if p.ndim == 4 else p
