"""Test-time augmentation: any method averaged over the picture, its mirror image, and both brighter and darker."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import catalogue
from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable, UsageError
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.running import Running
from ..core.tree import each, map_leaves
from ._layer import grid_of, picture_size


@dataclass(frozen=True, kw_only=True)
class Augmented(Method):
    """What is left of a map when the picture is mirrored and made brighter or darker?

    How: the mean of another method's values over the picture and its mirror image, each times 1 - gain, 1 and 1 + gain; maps of mirrored pictures are
    mirrored back. Gains multiply the inputs as the model takes them.
    Units: those of the method inside.
    Misleads when: the model is meant to tell left from right, or bright from dark: its maps are then averaged over different pictures.
    Source: Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam, aug_smooth.
    """

    card = Card(title="Test-time augmentation", paper="https://github.com/jacobgil/pytorch-grad-cam", needs=Needs.VALUE, promises=Promise.NONE,
                cost="6 times the method inside, 2 without gain", baseline=True, wraps=True)
    gain: float = param(0.1, "how much brighter and darker", ge=0, le=1)
    method: Any = param("grad-cam", "the method inside: a name, or a Method with its own parameters")

    def inner(self) -> Method:
        """The method inside."""
        made = catalogue.make("methods", self.method) if isinstance(self.method, str) else self.method
        if not isinstance(made, Method) or made.card.wraps:
            raise UsageError(f"Augmented needs a method's name or a Method, and no wrapper; got {self.method!r}.")
        return made

    def shaped(self, q: Question) -> list[tuple[int, ...]] | None:
        return self.inner().shaped(q)

    def attribute(self, q: Question) -> Values:
        inner, size = self.inner(), picture_size(q)
        inner._check_needs(q)
        if size is None:
            raise NotApplicable("Augmented mirrors pictures on their grid of pixels; the inputs hold none. Use smooth-grad.")
        picture = q.at_layer(None) if q.places else q
        running, found = Running(), list[Values]()
        for gain in (1 - self.gain, 1.0, 1 + self.gain) if self.gain else (1.0,):
            for turned in (False, True):
                found.append(inner.attribute(_again(q, picture, gain, turned) if turned or gain != 1 else q))
                running.add(each(lambda v, f=turned: _mirrored(v, size) if f else v, found[-1].values))
        notes = tuple(n for n in found[0].notes if all(n in f.notes for f in found))
        return Values(running.mean, signed=inner.card.signed and found[0].signed, at=found[0].at, notes=notes)


def _again(q: Question, picture: Question, gain: float, turned: bool) -> Question:
    """The question at its place, of the picture mirrored and scaled."""
    one = _turned(picture, gain, turned)
    return one.at_layer(list(q.places)) if q.places else one


def _turned(q: Question, gain: float, turned: bool) -> Question:
    """The question of the picture mirrored and scaled, its baseline mirrored where it is a picture too."""
    one = q.with_point(map_leaves(lambda t: _changed(t, gain, turned), q.point))
    return one if isinstance(q.baseline, (int, float, str)) else one.with_baseline(map_leaves(lambda t: _changed(t, 1.0, turned), q.start))


def _changed(t: Tensor, gain: float, turned: bool) -> Tensor:
    """A picture mirrored and scaled; inputs of other kinds stay."""
    if t.ndim != 4:
        return t
    return (t.flip(3) if turned else t) * gain


def _mirrored(values: Tensor, picture: tuple[int, int]) -> Tensor:
    """Values on a grid, left and right exchanged."""
    if values.ndim == 4 and values.shape[2:] == torch.Size(picture):
        return values.flip(3)
    grid = grid_of(tuple(values.shape[1:]), picture)
    if grid is None:
        raise NotApplicable(f"Augmented mirrors maps on a grid; this layer gives {tuple(values.shape[1:])} a row. Choose another layer (at=...), or smooth-grad.")
    back = values.clone()
    grid.planes(back).copy_(grid.planes(values).flip(3))
    return back
