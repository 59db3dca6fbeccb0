"""Sensitivity: does what the model ignores get zero?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ._told import told
from ._units import drawn, units


@dataclass(frozen=True, kw_only=True)
class SensitivityZero(Metric):
    """Does what the model ignores get zero?

    How: each unit is drawn at random from its row's range, alone; those that never change the answer, beyond rounding, are ignored. The share of the map's mass on them.
    Beyond `most` units a random part is tested.
    Units: share of the tested mass. Lower is better; 0 holds the axiom.
    Chance: the share of units that are ignored.
    Misleads when: a unit matters only together with others, or far from this input: drawn alone it looks ignored.
    Source: Sundararajan, Taly and Yan, 2017 (sensitivity b, dummy); Nguyen and Rodriguez Martinez, 2020 (non-sensitivity).
    """

    card = Card(title="Zero for what is ignored", paper="arXiv:1703.01365", better="lower", cost="draws forward rows a unit, at most `most` units", random=True)
    most: int = param(200, "units that are tested", ge=1)
    draws: int = param(5, "draws of each unit", ge=1)
    tol: float = param(1e-6, "largest change of the answer that is rounding, as a share of its size", ge=0)
    masker: Any = param(None, "units to draw, as for game methods; None: pixels, columns, positions")

    def score(self, e: Explanation) -> Scores:
        """The share on ignored units, a row; 0 where none is ignored."""
        u = units(e, "baseline", self.masker)
        gen = torch.Generator().manual_seed(u.q.seed)
        tested = torch.randperm(u.count, generator=gen)[: self.most].sort().values
        unit = torch.arange(u.count)
        hidden = lambda s, rows: unit[None] == tested[s // self.draws, None]  # noqa: E731
        answers = u.values(len(tested) * self.draws, hidden, lambda s, rows: drawn(u.q, s, rows))
        change = (answers - u.whole()).abs().reshape(len(tested), self.draws, u.size).amax(1).T
        ignored = change <= self.tol * u.whole().abs().clamp_min(1e-12)[:, None]
        mass = u.scores[:, tested].abs()
        total = mass.sum(1)
        return told(torch.where(total > 0, (mass * ignored).sum(1) / total.clamp_min(1e-300), 0.0), "Share of the map on what the model ignores", "lower")
