"""Model parameter randomization: does the map fall apart with the network's weights?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._shuffling import questions
from ._told import told


@dataclass(frozen=True)
class Stages:
    """Which layers were shuffled at each stage, and how alike the maps still were, (stages, B)."""

    layers: tuple[tuple[str, ...], ...]
    alike: Tensor


@dataclass(frozen=True, kw_only=True)
class ModelParameterRandomization(Metric):
    """Does the map fall apart with the network's weights?

    How: layers are shuffled, each tensor within itself, from the top down, from the bottom up, or each alone; the map of every such network is compared with the true one by
    rank correlation, and the mean over stages taken. BatchNorm behind shuffled layers is estimated again: with fresh parameters in its place, as is often done, a deep network
    becomes a constant, and the test compares float noise.
    Units: rank correlation. Lower is better.
    Chance: 0 for a map that is drawn anew each time; 1 for edges and for all that ignores the weights.
    Misleads when: noisy maps score well by noise alone; shuffled from the top, lower layers are intact and keep a good map alike (Binder et al., 2023).
    Source: Adebayo et al., 2018, section 3.
    """

    card = Card(title="Model parameter randomization", paper="arXiv:1810.03292", needs=Needs.MODULES, better="lower",
                cost="one more explanation a stage, 22 forward rows a stage where there is BatchNorm", random=True)
    order: str = param("top-down", "which layers are shuffled at each stage", choices=("top-down", "bottom-up", "independent"))
    layers: int = param(5, "stages, or one a layer where there are fewer", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The mean rank correlation over stages, a row."""
        return told(self.curve(e).alike.mean(0), "Rank correlation of the map with maps of shuffled networks", "lower")

    def curve(self, e: Explanation) -> Stages:
        """Stage by stage."""
        s, asked = questions(e, "model-parameter-randomization", self.order, self.layers)
        names, alike = [], []
        for layers, q in asked:
            names.append(layers)
            alike.append(agreement(e.values, s.method(q).values).double().cpu())  # type: ignore[misc]
        return Stages(tuple(names), torch.stack(alike))
