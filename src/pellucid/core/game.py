"""Games: players that take part or stay away, and what a coalition of them is worth. Every perturbation method is a sampler of coalitions and an estimator over one."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .errors import CannotComplete, UsageError
from .points import Points
from .question import Question
from .tree import Tree, take

TOGETHER = 200_000
"""Rows that are asked in one sweep: what bounds the memory for their answers."""


@dataclass(frozen=True)
class Board:
    """A question seen as a game: its players, and how a coalition becomes what the model is asked.

    Rows may differ in their players: `names[i]` are those of row i, and a column beyond them is a player that changes nothing.
    """

    question: Question
    names: tuple[tuple[str, ...], ...]
    absent: str
    """What "absent" means, in words."""
    make: Callable[[Tensor, Tensor, Tensor], Tree]
    """`make(present, rows, copies)`: points for (n, P) booleans, (n,) rows and (n,) copies."""
    share: Callable[[Tensor], Tree]
    """(B, P) a number for every player, as values shaped like the point; their sum is kept."""
    labels: Tensor | None = None
    """(B, ...) the player that each element of the point belongs to, -1 for none, where the point is one tensor."""
    copies: int = 1
    """How many inputs a coalition stands for: its worth is their mean. A background of 1,000 rows makes 1,000."""

    @property
    def players(self) -> int:
        """The most players of any row."""
        return max(map(len, self.names))

    @property
    def value_function(self) -> str:
        """What a coalition's worth is, in words."""
        over = f", the mean over {self.copies} backgrounds" if self.copies > 1 else ""
        return f"the target with absent players replaced by {self.absent}{over}"

    def take(self, rows: Tensor) -> "Board":
        """The game of those rows alone, on the same account."""
        names = tuple(self.names[i] for i in rows.tolist())
        own, every = max(map(len, names)), self.players

        def make(present: Tensor, part: Tensor, copies: Tensor) -> Tree:
            wide = present.new_ones(len(present), every)
            wide[:, :own] = present
            return self.make(wide, rows[part], copies)

        def share(numbers: Tensor) -> Tree:
            wide = numbers.new_zeros(self.question.size, every)
            wide[rows, :own] = numbers
            return take(self.share(wide), rows)

        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(self, question=self.question.take(rows), names=names, make=make, share=share, labels=labels)


class Masker(Protocol):
    """Says what the players of a question are, and what "absent" means."""

    def board(self, q: Question) -> Board: ...


class Game:
    """What coalitions are worth: `game(Z)` maps (K, P) booleans, or (K, B, P) with each row's own, to (K, B) numbers. Equal coalitions are asked once."""

    def __init__(self, board: Board) -> None:
        self.board, self.players, self.size = board, board.players, board.question.size
        if not self.players:
            raise UsageError(f"A game needs at least one player; the masker found none in {board.question.model.name}'s input. Choose another masker.")
        self.asked = 0
        """Coalitions that the model was asked about."""
        self._known: dict[bytes, Tensor] = {}

    def __call__(self, coalitions: Tensor) -> Tensor:
        z = coalitions.bool().cpu()
        if z.shape[-1] != self.players or z.ndim not in (2, 3) or (z.ndim == 3 and z.shape[1] != self.size):
            raise UsageError(f"A game needs coalitions of shape (K, {self.players}) or (K, {self.size}, {self.players}); got {tuple(z.shape)}.")
        if z.ndim == 3:
            self.asked += len(z)
            return self._ask(z)
        keys = [row.tobytes() for row in z.numpy()]
        fresh = {k: i for i, k in reversed(list(enumerate(keys))) if k not in self._known}
        if fresh:
            pick = sorted(fresh.values())
            self.asked += len(pick)
            worth = self._ask(z[pick][:, None].expand(-1, self.size, -1))
            self._known.update(zip((keys[i] for i in pick), worth, strict=True))
        return torch.stack([self._known[k] for k in keys])

    def take(self, rows: Tensor) -> "Game":
        """The game of those rows alone: what is known of them is kept."""
        part = Game(self.board.take(rows))
        part.asked = self.asked
        part._known = {k: worth[rows] for k, worth in self._known.items()} if part.players == self.players else {}
        return part

    def draw(self) -> np.random.Generator:
        """Random numbers for coalitions: the same for every row with as many players, whatever lies beside it in the batch."""
        return np.random.default_rng((self.board.question.seed % 2**63, self.players))

    def ends(self) -> tuple[Tensor, Tensor]:
        """((B,), (B,)) what nobody and everybody is worth."""
        nobody, everybody = self(torch.stack([torch.zeros(self.players, dtype=torch.bool), torch.ones(self.players, dtype=torch.bool)]))
        return nobody, everybody

    def _ask(self, z: Tensor) -> Tensor:
        """(K, B) worths of (K, B, P) coalitions, in double precision."""
        d = self.board.copies
        step = max(1, TOGETHER // (d * self.size))
        return torch.cat([self._some(z[i : i + step], d) for i in range(0, len(z), step)]) if len(z) else z.new_zeros(0, self.size, dtype=torch.float64)

    def _some(self, z: Tensor, d: int) -> Tensor:
        def make(s: Tensor, rows: Tensor) -> Tree:
            return self.board.make(z[s // d, rows], rows, s % d)

        worth = self.board.question.value(Points(len(z) * d, make)).double().cpu()
        if worth.shape != (len(z) * d, self.size):
            raise CannotComplete(f"A game needs one value for each of {len(z) * d * self.size} inputs; {self.board.question.model.name} gave shape {tuple(worth.shape)}.")
        return worth.reshape(len(z), d, self.size).mean(1)


def shared_evenly(labels: Sequence[Tensor], like: Sequence[Tensor], pack: Callable[[list[Any]], Tree]) -> Callable[[Tensor], Tree]:
    """Every element of the point gets an even share of its player's number; elements of no player (label -1) get zero.

    `labels` are integers shaped (B, ...) like each tensor of the point, player numbers running through all of them.
    """

    def share(numbers: Tensor) -> Tree:
        counts = torch.zeros(numbers.shape, dtype=torch.float64)
        for lab in labels:
            flat = lab.flatten(1).cpu()
            counts.scatter_add_(1, flat.clamp(min=0), (flat >= 0).double())
        lost = ((counts == 0) & (numbers.cpu() != 0)).nonzero()
        if len(lost):
            raise UsageError(f"A player needs to cover at least one element; player {int(lost[0, 1])} of row {int(lost[0, 0])} covers none, and its number would be lost.")
        per = (numbers.double().cpu() / counts.clamp(min=1)).nan_to_num()
        out = []
        for lab, t in zip(labels, like, strict=True):
            flat = lab.flatten(1).cpu()
            out.append((per.gather(1, flat.clamp(min=0)) * (flat >= 0)).reshape(lab.shape).to(t))
        return pack(out)

    return share
