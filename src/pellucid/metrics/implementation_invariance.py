"""Implementation invariance: has another network that computes the same the same map?"""

from dataclasses import dataclass
from typing import Any

import torch

from ..backends.wrap import wrap
from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.model import Model
from ..core.procedure import Metric, Scores
from ._near import flat, runnable
from ._told import told


@dataclass(frozen=True, kw_only=True)
class ImplementationInvariance(Metric):
    """Has another network that computes the same function the same map?

    How: |map of the twin - map| / |map|, after a check that both give the same outputs on these rows.
    Units: relative change, Euclidean. Lower is better; 0 holds the axiom.
    Chance: about 1.4 for unrelated maps of one size.
    Misleads when: the twin differs beyond these rows: equal answers at some points are no equal functions, and gradients may differ.
    Source: Sundararajan, Taly and Yan, 2017, section 2.2.
    """

    card = Card(title="Implementation invariance", paper="arXiv:1703.01365", better="lower", cost="one more explanation")
    twin: Any = param(None, "another model that computes the same: folded, exported, rewritten")
    tol: float = param(1e-4, "largest difference of the outputs, as a share of the largest output", ge=0)

    def score(self, e: Explanation) -> Scores:
        """The relative change, a row."""
        if self.twin is None:
            raise NotApplicable("implementation-invariance needs another model that computes the same (twin=...), such as one with BatchNorm folded; got none.")
        s = runnable(e, "implementation-invariance")
        other = self.twin if isinstance(self.twin, Model) else wrap(self.twin)
        asked = s.q.with_target(s.q.resolved_target()).with_model(other)
        one, two = flat(s.q.own_outputs()), flat(asked.own_outputs())
        off = float((one - two).abs().max() / one.abs().max().clamp_min(1e-300)) if one.shape == two.shape else torch.inf
        if off > self.tol:
            raise UsageError(f"implementation-invariance needs a twin with the same outputs; these differ by {off:.2g} of the largest.")
        own = flat(e.values)
        size = own.norm(dim=1)
        change = (flat(s.method(asked).values) - own).norm(dim=1)  # type: ignore[misc]
        return told(torch.where(size > 0, change / size.clamp_min(1e-300), torch.nan), "Relative change of the map for a twin that computes the same", "lower", "the map is empty")
