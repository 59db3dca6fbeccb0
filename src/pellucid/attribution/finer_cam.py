"""Finer-CAM: Grad-CAM of a class less the classes that are most like it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Values
from ..core.question import Question
from ..core.target import Label, Neuron, PerRow, Target, label_text, of_row
from ._cam import ActivationMap, Seen


@dataclass(frozen=True, kw_only=True)
class FinerCAM(ActivationMap):
    """Where did the network look to tell this class from those most like it?

    How: Grad-CAM of the contrast y_c - strength * mean(y_d) over the few outputs d nearest to y_c; the model's own outputs say which (a note names them).
    In a picture of outputs, and of a unit of a layer, they are the other channels at the same place.
    Units: activation times target units over input; maps are one channel, unsigned unless `relu=False`.
    Misleads when: the nearest outputs are no look-alikes of the class: far from the decision, nearness of logits says little.
    Source: Zhang, Gu, Chen, Mai, Cheng, Berger-Wolf, Su, Stewart, Chao 2025, arXiv:2501.11309.
    """

    card = Card(title="Finer-CAM", paper="arXiv:2501.11309", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    relu: bool = param(True, "keep only what speaks for the target")
    nearest: int = param(3, "outputs that the class is told from", ge=1)
    strength: float = param(0.6, "share of their mean that is taken off", ge=0)

    def attribute(self, q: Question) -> Values:
        return self.drawn(q.about(Finer(q.engine.target, self.nearest, self.strength)))

    def channels(self, seen: Seen) -> Tensor:
        told = seen.g.mean((2, 3), keepdim=True) * seen.h
        contrast = seen.q.resolved_target()
        labels = seen.q.model.labels if contrast.reads is None else None
        near = {contrast.words(out, b, labels): None for b, out in enumerate(seen.q.own_outputs()[:SAID])}
        seen.notes.append(f"told from the nearest outputs: {'; '.join(near)}")
        return told


SAID = 8
"""Rows whose nearest outputs a note names."""


@dataclass(frozen=True)
class Finer(Target):
    """One output less a share of the mean of the outputs nearest to it, where it is read."""

    target: Target
    nearest: int
    strength: float

    @property
    def reads(self) -> object:
        return self.target.reads

    def resolve(self, out: Tensor, labels: object) -> Target:
        known = self.target.resolve(out, labels)
        for t in known.targets if isinstance(known, PerRow) else (known,):
            if not isinstance(t, (Label, Neuron)):
                raise NotApplicable(f"Finer-CAM needs a target that is one output among several, to tell it from those nearest; got {t.text(labels)}. Use grad-cam.")
        return Finer(known, self.nearest, self.strength)

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([self._one(o, of_row(self.target, r)) for o, r in zip(out, rows.tolist(), strict=True)])

    def _one(self, out: Tensor, target: Label | Neuron) -> Tensor:
        line, own = _line(out, target)
        return line[own] - self.strength * line[self._near(line, own)].mean()

    def _near(self, line: Tensor, own: int) -> Tensor:
        if len(line) < 2:
            raise NotApplicable("Finer-CAM needs a target that is one output among several, to tell it from those nearest; the model gives one. Use grad-cam.")
        gap = (line.detach() - line.detach()[own]).abs()
        gap[own] = torch.inf
        return gap.topk(min(self.nearest, len(line) - 1), largest=False).indices

    def words(self, out: Tensor, row: int, labels: list[str] | None) -> str:
        """The nearest outputs of one row, by name."""
        return ", ".join(label_text(i, labels) for i in self._near(*_line(out, of_row(self.target, row))).tolist())

    def text(self, labels: object) -> str:
        return f"{self.target.text(labels)} rather than the {self.nearest} nearest"


def _line(out: Tensor, target: Label | Neuron) -> tuple[Tensor, int]:
    """The outputs that differ from the target's in their class alone, and its place among them: channels come first in a picture and last in a sequence."""
    where = target.index if isinstance(target.index, tuple) else (target.index,)
    axis = 0 if len(where) == 3 else len(where) - 1
    return out[(*where[:axis], slice(None), *where[axis + 1 :])], int(where[axis])
