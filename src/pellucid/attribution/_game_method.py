"""What every method over a game shares: players from the masker, one game for the rows with as many players, numbers spread over elements."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core.card import param
from ..core.errors import UsageError
from ..core.game import Board, Game
from ..core.players import Players, padded
from ..core.procedure import Method, Values
from ..core.question import Question
from ..modalities.maskers import masker_of


@dataclass(frozen=True)
class Played:
    """What an estimator found for (B, P) players; where it samples, with its standard error."""

    values: Tensor
    error: Tensor | None = None
    interactions: Tensor | None = None
    triples: Tensor | None = None
    convergence: Tensor | None = None
    fit: Tensor | None = None
    """(B,) R2 of a surrogate."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GameMethod(Method):
    """A method over a game: what the players are, and an estimator of what each is worth."""

    masker: Any = param("auto", "what the players are and what absent means: a name, groups, labels or a Masker")

    def attribute(self, q: Question) -> Values:
        return play(q, self.masker, self.estimate)

    def estimate(self, game: Game) -> Played:
        """The mathematics."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Sampled(GameMethod):
    """A method over a game that asks about some coalitions only."""

    budget: int = param(1000, "coalitions that a row may ask about", ge=2, unit="coalitions")
    tol: float = param(0.0, "error, as a share of v(everybody) - v(nobody), at which a row stops early; 0: the whole budget is spent", ge=0)


def play(q: Question, masker: object, estimate: Callable[[Game], Played]) -> Values:
    """Asks `estimate` once for the rows of each number of players, and gives every element an even share of its player's number."""
    board = masker_of(masker, q).board(q)
    counts = torch.tensor([len(n) for n in board.names])
    if not counts.all():
        raise UsageError(f"A game needs at least one player in every row; row {int((counts == 0).nonzero()[0])} has none. Choose another masker.")
    base = torch.zeros(q.size, dtype=torch.float64)
    whole: list[tuple[Tensor, Played]] = []
    for n in counts.unique().tolist():
        rows = (counts == n).nonzero()[:, 0]
        game = Game(board if len(rows) == q.size else board.take(rows))
        whole.append((rows, estimate(game)))
        base[rows] = game.ends()[0]
    return _told(board, _joined(whole, q.size, board.players), base)


def _joined(whole: list[tuple[Tensor, Played]], size: int, players: int) -> Played:
    """The groups' numbers as one batch in the rows' own order."""
    out: dict[str, Tensor | None] = {}
    for name in ("values", "error", "interactions", "triples", "convergence", "fit"):
        parts = [(rows, getattr(p, name)) for rows, p in whole]
        if any(t is None for _, t in parts):
            out[name] = None
            continue
        wide = [(rows, padded(t, players) if t.ndim > 1 else t) for rows, t in parts]
        joined = wide[0][1].new_zeros(size, *wide[0][1].shape[1:])
        for rows, t in wide:
            joined[rows] = t
        out[name] = joined
    notes = tuple(dict.fromkeys(n for _, p in whole for n in p.notes))
    return replace(whole[0][1], notes=notes, **out)  # type: ignore[arg-type]


def _told(board: Board, found: Played, base: Tensor) -> Values:
    players = Players(board.names, found.values, found.error, found.interactions, found.triples, board.labels, board.absent)
    error = None if found.error is None else board.share(found.error)
    most = max(map(len, board.names))
    notes = (f"{most} player{'s' * (most != 1)}; worth of a coalition: {board.value_function}", *found.notes)
    return Values(board.share(found.values), error=error, notes=notes, convergence=found.convergence, fit=found.fit, base=base, players=players)
