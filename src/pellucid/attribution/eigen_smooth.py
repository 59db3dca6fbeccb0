"""Eigen-smooth: a class activation map without what its main pattern does not hold."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..core import catalogue
from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.procedure import Values
from ..core.question import Question
from ._cam import ActivationMap, Seen
from ._principal import first_component


@dataclass(frozen=True, kw_only=True)
class EigenSmooth(ActivationMap):
    """What is left of a class activation map when only the main pattern of its channels is kept?

    How: what each channel adds to another map, projected on the first principal component over positions, up where that map is; then ReLU.
    Around hi-res-cam it is EigenGrad-CAM.
    Units: those of the map inside, up to the rotation of channels; maps are one channel, unsigned unless `relu=False`. Zero is the mean over positions.
    Misleads when: what is thrown away as noise is a second thing that the class rests on.
    Source: Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam, eigen_smooth.
    """

    card = Card(title="Eigen-smooth", paper="https://github.com/jacobgil/pytorch-grad-cam", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="that of the map inside")
    relu: bool = param(True, "keep only what speaks for the target")
    method: Any = param("grad-cam", "the map inside: the name of a class activation map, or one with its own parameters")

    def inner(self) -> ActivationMap:
        """The map inside."""
        made = catalogue.make("methods", self.method) if isinstance(self.method, str) else self.method
        if not isinstance(made, ActivationMap):
            raise UsageError(f"Eigen-smooth needs a class activation map, whose channels it can see; got {self.method!r}. Use smooth-grad around other methods.")
        return made

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        return first_component(self.inner().channels(seen))
