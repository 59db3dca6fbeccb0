"""Feature inclusion: the rise of the answer when one player comes alone."""

from dataclasses import dataclass

import torch

from ..core.card import Card, Needs, Promise
from ..core.game import Game
from ._game_method import GameMethod, Played


@dataclass(frozen=True, kw_only=True)
class FeatureInclusion(GameMethod):
    """How much does this player bring when nobody else is there (leave one in)?

    How: v(i alone) - v(nobody), for every column, group, region or word i of the masker.
    Units: target units; the values sum to v(everybody) - v(nobody) only where players do not interact.
    Misleads when: a player works only beside others: alone, a patch of fur is no cat, and gets nothing.
    Source: Covert, Lundberg, Lee 2021, arXiv:2011.14878, table 1 ("include individual").
    """

    card = Card(
        title="Feature inclusion", paper="arXiv:2011.14878", needs=Needs.VALUE, cost="one forward row a player and background row", baseline=True, samples=True,
        promises=Promise.LINEAR | Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
    )

    def estimate(self, game: Game) -> Played:
        nobody, _ = game.ends()
        return Played((game(torch.eye(game.players, dtype=torch.bool)) - nobody).T)
