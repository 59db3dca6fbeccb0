"""LIME: a linear model of what the model answers when parts of the input come and go."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import enough, everyone
from ._game_method import Played, Sampled
from ._settled import Asker, settled
from ._surrogate import Draws, Fit, fit, narrowed, size_chances, weights_of


@dataclass(frozen=True, kw_only=True)
class LIME(Sampled):
    """Which linear model answers like this one when parts of the input come and go?

    How: coalitions are drawn as LIME's kernel exp(-d^2 / (2 width^2)) weighs them, d the cosine distance to everybody, and all count alike
    (GLIME): the same linear model as LIME's, from fewer questions. Draws come in antithetic pairs until every error is below `tol`.
    Where the budget reaches all coalitions they are all asked, and nothing is left to chance.
    Units: target units a player; the values sum to the linear model's own answer for everybody less that for nobody.
    Misleads when: the local R2, which is always told, is low: then no linear model answers like this one here, however small the errors.
    Source: Ribeiro, Singh, Guestrin 2016, arXiv:1602.04938, equation 2; Tan, Tian, Li 2023 (GLIME), arXiv:2311.15722, section 4.
    """

    card = Card(
        title="LIME", paper="arXiv:1602.04938", needs=Needs.VALUE, cost="at most `budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    budget: int = param(2000, "coalitions that a row may ask about", ge=2, unit="coalitions")
    tol: float = param(0.02, "error, as a share of v(everybody) - v(nobody), at which a row stops early; 0: the whole budget is spent", ge=0)
    kernel_width: float = param(0.25, "how far from the input the linear model must hold, in cosine distance", ge=0.1)
    num_features: Any = param("all", "the weightiest players that the linear model may use, fitted again without the others", ge=1)

    def estimate(self, game: Game) -> Played:
        n = game.players
        chances = size_chances(n, self.kernel_width)
        if n < 2 or 2**n <= self.budget:
            z = everyone(n)
            return self._told(self._fit(z, game(z), weights_of(z, chances) if n > 1 else torch.full((2,), 0.5, dtype=torch.float64)), f"all {2**n:,} coalitions")
        enough(self.name, game, self.budget, 2 * n + 4)
        nobody, everybody = game.ends()
        draws = Draws(n, chances, game.draw())

        def solve(rows: Tensor, answers: Tensor) -> dict[str, Tensor]:
            return self._fit(draws(0, len(answers)), answers).parts

        done = settled(game.size, 4 * n + 4, self.budget, self.tol * (everybody - nobody).abs(), Asker(game, draws), solve, even=2)
        return self._told(Fit(*done.found.values()), done.told("coalitions", self.tol))

    def _fit(self, z: Tensor, y: Tensor, weight: Tensor | None = None) -> Fit:
        whole = fit(z, y, weight)
        most = z.shape[1] if self.num_features == "all" else self.num_features
        return whole if most >= z.shape[1] else narrowed(z, y, weight, whole, most)

    def _told(self, found: Fit, asked: str) -> Played:
        low, high = float(found.r2.min()), float(found.r2.max())
        kept, n = self.num_features, found.values.shape[1]
        words = f"local R2 {low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"local R2 {low:.2f} to {high:.2f}"
        fewer = (f"{kept} of {n} players were kept, the other {n - kept} were given zero",) if kept != "all" and kept < n else ()
        return Played(found.values, found.error, fit=found.r2, notes=(asked, words, *fewer))
