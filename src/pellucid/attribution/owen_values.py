"""Owen values: Shapley values among players who come in groups."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.game import Game
from ._coalitions import enough
from ._game_method import Played, Sampled
from ._hierarchy import Tree, contexts, shuffled, tree_of, weighed
from ._orders import along, orders
from ._rounds import noted, spent
from ._shapley import mean_of


@dataclass(frozen=True, kw_only=True)
class OwenValues(Sampled):
    """What does a player add, on average over the orders in which its group joins together?

    How: groups lie in a hierarchy. In a random order every group stays together, at each level; a value is the mean of what the player adds where it joins.
    Where all coalitions of that kind fit into the budget they are asked and the values are exact, else orders are drawn, each with its reverse.
    Units: target units; the values sum to v(everybody) - v(nobody), and those of a group to the group's own value.
    Misleads when: the hierarchy is arbitrary: another one gives other values. "auto" groups correlated columns of a background, or parts of a picture
    that lie together, else neighbours.
    Source: Owen 1977, doi:10.1007/978-3-642-45494-3_7; levels: Winter 1989, doi:10.1007/BF01268147; Lundberg, Lee 2017, arXiv:1705.07874.
    """

    card = Card(
        title="Owen values", paper="doi:10.1007/978-3-642-45494-3_7", needs=Needs.VALUE, cost="`budget` forward rows a background row", baseline=True, samples=True, random=True,
        promises=Promise.COMPLETE | Promise.LINEAR | Promise.IMPLEMENTATION_INVARIANT,
    )
    hierarchy: Any = param("auto", 'groups of players: nested lists of names or numbers, "auto", "halves" (neighbours together) or "flat" (Shapley values)')

    def estimate(self, game: Game) -> Played:
        labels = game.board.labels
        if self.hierarchy != "auto" or labels is None or labels.ndim < 4:
            return self._by(tree_of(self.hierarchy, game.board), game)
        _, which = labels.flatten(1).unique(dim=0, return_inverse=True)
        alike = [(which == k).nonzero()[:, 0] for k in range(int(which.max()) + 1)]
        parts = [game.take(rows) for rows in alike]
        return _together([self._by(tree_of("auto", part.board), part) for part in parts], torch.cat(alike).argsort())

    def _by(self, tree: Tree, game: Game) -> Played:
        n = game.players
        if contexts(tree) <= self.budget:
            return _exact(tree, game)
        enough(self.name, game, self.budget, 2 + 4 * (n - 1))

        def walked(part: Game, budget: int) -> Any:
            count = (budget - 2) // (2 * (n - 1))
            return mean_of(along(part, orders(n, count, part.draw(), lambda rng: shuffled(tree, rng))))

        return noted(spent(game, self.budget, self.tol, 2 + 16 * (n - 1), walked), "orders were drawn")


def _exact(tree: Tree, game: Game) -> Played:
    """The weighted sum over every context."""
    who, weight, there = zip(*weighed(tree), strict=True)
    z = torch.zeros(len(who), game.players, dtype=torch.bool)
    for row, others in zip(z, there, strict=True):
        row[others] = True
    own = torch.nn.functional.one_hot(torch.tensor(who), game.players)
    worth = game(torch.cat([z | own.bool(), z]))
    gain = (worth[: len(z)] - worth[len(z) :]) * torch.tensor(weight, dtype=torch.float64)[:, None]
    values = gain.T @ own.double()
    return Played(values, torch.zeros_like(values), notes=(f"exact: {game.asked:,} coalitions",))


def _together(found: list[Played], order: Tensor) -> Played:
    """Rows that were played with those cut alike."""
    values, error = (torch.cat([getattr(p, k) for p in found])[order] for k in ("values", "error"))
    return Played(values, error, notes=tuple(dict.fromkeys(note for p in found for note in p.notes)))
