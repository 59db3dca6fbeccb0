"""Equivariance: does the map move with the picture?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat, runnable
from ._told import correlation, interval, told

MOVES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "shift": lambda t, k: t.roll((k, k), (-2, -1)),
    "flip": lambda t, k: t.flip(-1),
    "rotation": lambda t, k: t.rot90(1, (-2, -1)),
}


@dataclass(frozen=True, kw_only=True)
class Equivariance(Metric):
    """Does the map move with the picture when it is shifted, mirrored or turned?

    How: the rank correlation of the map of the moved picture with the moved map. With `layer`, also whether what the layer sees moves: where it does not, the network
    itself is not equivariant and the map need not be.
    Units: rank correlation. Higher is better: 1 is a map that moves with the picture.
    Chance: 0 for noise, 1 for edges.
    Misleads when: the model does not see moved pictures alike: then a faithful map must differ. Read the model's own change in the sentence.
    Source: Crabbé and van der Schaar, 2023, definition 2.2.
    """

    card = Card(title="Moves with the picture", paper="arXiv:2304.06715", cost="one more explanation", random=False)
    move: str = param("shift", "how the picture is moved", choices=("shift", "flip", "rotation"))
    by: int = param(4, "pixels of a shift, round the edges", ge=1, unit="pixels")
    layer: str = param("", "a layer with a grid whose value is compared as well")

    def score(self, e: Explanation) -> Scores:
        """The rank correlation, a row."""
        s = runnable(e, "equivariance")
        x = s.q.point
        if s.method is None or not isinstance(x, Tensor) or x.ndim != 4 or not isinstance(e.values, Tensor) or e.values.ndim != 4:
            raise NotApplicable("equivariance moves pictures and their maps; these are none.")
        if self.move == "rotation" and x.shape[2] != x.shape[3]:
            raise NotApplicable(f"equivariance turns square pictures; got {tuple(x.shape[2:])}. Ask for a shift or a flip.")
        asked = s.q.take(torch.arange(s.size)).with_point(self._moved(x, x.shape[-1]))
        other = s.method(asked)
        change = (asked.target_values().double() - s.q.target_values().double()).abs().mean()
        words = f"Rank correlation of the {self.move}ed picture's map with the moved map".replace("fliped", "flipped").replace("rotationed", "turned")
        scores = told(agreement(self._moved(e.values, x.shape[-1]), other.values), words)
        more = f" The answer itself changes by {change:.3g} on average."
        if self.layer:
            inside = [q.at_layer(self.layer).point for q in (s.q, asked)]
            if inside[0].ndim != 4:
                raise NotApplicable(f"equivariance needs a layer with a grid; {self.layer} has shape {tuple(inside[0].shape)}.")
            r = correlation(flat(self._moved(inside[0], x.shape[-1])), flat(inside[1]))
            more += f" {self.layer} moves with it to {interval(r).mean:.2f} (correlation)."
        return Scores(scores.values, scores.sentence + more)

    def _moved(self, t: Tensor, width: int) -> Tensor:
        """A grid moved as the picture is; a coarser one by as much of its own pixels."""
        return MOVES[self.move](t, round(self.by * t.shape[-1] / width))
