"""Feature ablation: the drop of the answer when one player is taken away."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._game_method import GameMethod, Played


@dataclass(frozen=True, kw_only=True)
class FeatureAblation(GameMethod):
    """How much does the answer fall when this player alone is absent (leave one out)?

    How: v(everybody) - v(everybody without i), for every column, group, region or word i of the masker.
    Units: target units; the values sum to v(everybody) - v(nobody) only where players do not interact.
    Misleads when: two players say the same: each can be spared for the other, and both get nothing.
    Source: Covert, Lundberg, Lee 2021, arXiv:2011.14878, table 1 ("remove individual"); Li, Monroe, Jurafsky 2016, arXiv:1612.08220.
    """

    card = Card(
        title="Feature ablation", paper="arXiv:2011.14878", needs=Needs.VALUE, cost="one forward row a player and background row", baseline=True, samples=True,
        promises=Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        _, everybody = game.ends()
        return Played((everybody - game(~torch.eye(game.players, dtype=torch.bool))).T)
