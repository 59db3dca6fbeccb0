"""Input invariance: does a constant that is added to the input, and taken away by the model, change the map?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.card import Card, Needs, param
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._near import flat, runnable
from ._shuffling import asked_of, network
from ._told import told


class Shifted(nn.Module):
    """A network that takes a constant from its input first."""

    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, x: Tensor) -> object:
        """The inner network's answer."""
        return self.inner(x - self.by)


@dataclass(frozen=True, kw_only=True)
class InputInvariance(Metric):
    """Does a constant that is added to the input, and taken away again by the model, change the map?

    How: |map of the shifted pair - map| / |map|. The baseline stays where it was, as it does for a user whose zero is black: methods with a baseline are tested together with it.
    Units: relative change, Euclidean. Lower is better; 0 holds it.
    Chance: 0 for what ignores the input's level, such as gradients.
    Misleads when: the baseline ought to move with the data: integrated gradients from a shifted baseline pass, from a fixed one they fail, and both are right.
    Source: Kindermans et al., 2019, section 2.
    """

    card = Card(title="Input invariance", paper="arXiv:1711.00867", needs=Needs.MODULES, better="lower", cost="one more explanation")
    shift: float = param(1.0, "the constant", unit="input units")

    def score(self, e: Explanation) -> Scores:
        """The relative change, a row."""
        s = runnable(e, "input-invariance")
        model = network(s.q, "input-invariance")
        if not isinstance(s.q.x, Tensor) or s.q.x is not s.q.point and s.q.x.shape != s.q.point.shape:
            raise NotApplicable("input-invariance shifts one input of numbers; this model takes several, or tokens.")
        other = Shifted(model.module, self.shift).train(model.module.training)
        asked = asked_of(s.q, model, other)
        asked = asked.with_point(s.q.point + self.shift)
        own = flat(e.values)
        size = own.norm(dim=1)
        change = (flat(s.method(asked).values) - own).norm(dim=1)  # type: ignore[misc]
        return told(torch.where(size > 0, change / size.clamp_min(1e-300), torch.nan), "Relative change of the map for a shift that the model undoes", "lower", "the map is empty")
