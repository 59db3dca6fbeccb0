"""Players that join one by one."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..core.game import Game


def orders(players: int, count: int, rng: np.random.Generator, draw: Callable[[np.random.Generator], np.ndarray] | None = None) -> Tensor:
    """(K, P) random orders, one after the other, so that more of them begin with the same ones."""
    one = draw or (lambda r: r.permutation(players))
    return torch.from_numpy(np.stack([one(rng) for _ in range(count)]))


def along(game: Game, order: Tensor) -> Tensor:
    """(K, B, P) what every player adds where it joins, the mean over each (K, P) order and its reverse.

    Those who came before a player in one order are those who come after it in the reverse: its coalitions are complements,
    and the mean of the two additions is a difference of the game's odd part.
    """
    k, n = order.shape
    rank = order.argsort(1)
    there = rank[:, None, :] < torch.arange(n + 1)[None, :, None]
    flat = there.reshape(-1, n)
    odd = ((game(flat) - game(~flat)) / 2).reshape(k, n + 1, game.size)
    steps = odd.diff(dim=1)
    return steps.gather(1, rank[:, :, None].expand(-1, -1, game.size)).transpose(1, 2)
