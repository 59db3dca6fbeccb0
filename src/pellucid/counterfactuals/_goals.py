"""When is an answer the one that is wanted? Shortfalls are in the units of the model's answer; 0 and below means reached."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.question import Question

TINY = 1e-300
"""What an answer misses that ties with the one wanted but is not given."""


def _classes(outputs: Tensor, wanted: str) -> Tensor:
    if outputs.ndim != 3 or outputs.shape[2] < 2:
        got = "one number" if outputs[0, 0].numel() == 1 else tuple(outputs.shape[2:])
        raise UsageError(f"{wanted} needs a model that gives a number for each class; this one gives {got} a row. Say which numbers are wanted: at_least=, at_most= or between=.")
    return outputs.double()


def _missed(gap: Tensor, reached: Tensor, margin: float) -> Tensor:
    """How far a class is from being given: `gap` is what it lacks behind the best other."""
    return torch.where(reached, gap.clamp(max=0.0) + margin, gap.clamp(min=TINY) + margin)


@dataclass(frozen=True)
class OtherClass:
    """Any other class than the row's own, ahead by `margin`."""

    margin: float = 0.0

    def shortfall(self, outputs: Tensor, value: Tensor, q: Question) -> Tensor:
        """(n, B) how far the row's own class is ahead."""
        out = _classes(outputs, "Another class")
        own = q.own_outputs().double().argmax(-1).to(out.device)
        mine = out.gather(2, own.expand(len(out), -1)[..., None])[..., 0]
        others = out.scatter(2, own.expand(len(out), -1)[..., None], -torch.inf).amax(2)
        return _missed(mine - others, out.argmax(2) != own, self.margin)


@dataclass(frozen=True)
class NamedClass:
    """The class at a position, ahead of all others by `margin`."""

    index: int
    margin: float = 0.0

    def shortfall(self, outputs: Tensor, value: Tensor, q: Question) -> Tensor:
        """(n, B) how far the best other class is ahead."""
        out = _classes(outputs, "A class by name")
        others = out.clone()
        others[..., self.index] = -torch.inf
        return _missed(others.amax(2) - out[..., self.index], out.argmax(2) == self.index, self.margin)


@dataclass(frozen=True)
class Within:
    """The target's value lies in a range: a probability of at least 0.8, a price between two numbers."""

    low: float = -float("inf")
    high: float = float("inf")

    def shortfall(self, outputs: Tensor, value: Tensor, q: Question) -> Tensor:
        """(n, B) how far the value is from the range; inside, how far from its nearer end (negative)."""
        v = value.double()
        return torch.maximum(self.low - v, v - self.high)
