"""Random logit: is it another map for another class, drawn at random?"""

from dataclasses import dataclass

import torch

from ..core.agreement import agreement
from ..core.card import Card
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.target import Label, PerRow, Probability, of_row
from ._mask_pool import generator
from ._subject import live
from ._told import told


@dataclass(frozen=True, kw_only=True)
class RandomLogit(Metric):
    """Is it another map for another class, drawn at random?

    How: rank correlation of the map with the same method's for a random other class.
    Units: rank correlation. Lower is better.
    Chance: 1 for edges and all that is blind to the class.
    Misleads when: the drawn class rests on the same parts (two cats): `class-dependence` asks a far class for that reason.
    Source: Sixt, Granz and Landgraf, 2020, section 4.
    """

    card = Card(title="Random logit", paper="arXiv:1912.09818", better="lower", cost="one more explanation", random=True)

    def score(self, e: Explanation) -> Scores:
        """The rank correlation, a row."""
        s = live(e)
        own, out = s.q.resolved_target(), s.q.own_outputs()
        mine = [of_row(own, i) for i in range(s.size)]
        if s.method is None or out.ndim != 2 or out.shape[1] < 2 or not all(isinstance(t, (Label, Probability)) and isinstance(t.index, int) for t in mine):
            raise NotApplicable("random-logit asks the same method about another class; this explanation was made elsewhere, or is not about a class.")
        n = out.shape[1]
        step = [1 + int(torch.randint(n - 1, (), generator=generator(s.q.seed, row, "logit"))) for row in s.q.ids]
        asked = PerRow(tuple(type(t)((t.index + k) % n) for t, k in zip(mine, step, strict=True)))  # type: ignore[attr-defined,call-arg]
        other = s.method(s.q.with_target(asked))
        return told(agreement(e.values, other.values), "Rank correlation with the map of a random other class", "lower")
