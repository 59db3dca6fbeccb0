"""Players that take part by degrees: between what is absent and what is there, element by element."""

import torch
from torch import Tensor

from ..core.game import Board
from ..core.points import Points
from ..core.tree import Tree, leaves
from ._path import wide


class Degrees:
    """What a board's question answers when player j is there to the degree m[:, j] in [0, 1]; of many backgrounds, the mean."""

    def __init__(self, board: Board) -> None:
        self.board, self.labels = board, _labels(board)

    def take(self, rows: Tensor) -> "Degrees":
        """Those rows alone."""
        return Degrees(self.board.take(rows))

    def __call__(self, m: Tensor) -> Tensor:
        """(K, B) answers to (K, P) degrees."""
        q, d = self.board.question, self.board.copies
        point = leaves(q.point)

        def make(s: Tensor, rows: Tensor) -> Tree:
            there = torch.cat([m[s // d], m.new_ones(len(s), 1)], 1)  # label -1 reads the last column
            gone = leaves(self.board.make(torch.zeros(len(s), m.shape[1], dtype=torch.bool), rows, s % d))
            return tuple(_between(z0, p[rows], there, lab[rows] if len(lab) > 1 else lab) for z0, p, lab in zip(gone, point, self.labels, strict=True))

        return q.value(Points(len(m) * d, make)).double().cpu().reshape(len(m), d, q.size).mean(1)


def _between(absent: Tensor, present: Tensor, there: Tensor, labels: Tensor) -> Tensor:
    flat = labels.flatten(1).expand(len(there), -1)
    degree = there.gather(1, torch.where(flat < 0, there.shape[1] - 1, flat)).reshape(absent.shape).to(wide(absent[:0]))
    return torch.lerp(absent.to(degree.dtype), present.to(degree.dtype), degree).to(absent.dtype)


def _labels(board: Board) -> list[Tensor]:
    """(B, ...) the player of every element, -1 for none, for each tensor of the point: read off how the board shares out each bit of a player's number."""
    if board.labels is not None:
        return [board.labels]
    size, n = board.question.size, board.players
    number = torch.arange(n)
    bits = [leaves(board.share((number >> k & 1).double().expand(size, n))) for k in range(max(1, (n - 1).bit_length()))]
    own = leaves(board.share(torch.ones(size, n, dtype=torch.float64)))
    found = [sum((b[i] > 0).long() << k for k, b in enumerate(bits)) for i in range(len(own))]
    return [torch.where(o > 0, f, -1).cpu() for o, f in zip(own, found, strict=True)]
