"""Players of a table: columns and groups of them, absent ones drawn from a background."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.game import Board
from ..core.question import Question
from ..core.start import Samples
from ..core.tree import leaves
from ._pieces import Described, Piece, behind, board_of, held
from .features import cut, features_of, shared_names


@dataclass(frozen=True, eq=False, repr=False)
class TableMasker(Described):
    """Players are columns, or groups of columns that come and go together.

    `background`: rows (D, columns) that absent columns are taken from, as a tensor, an array or a data frame; a coalition is worth the mean over
    all D of them, so that it costs D rows of the model (1,000 background rows, 100 coalitions: 100,000 rows an explained row). None is left out:
    give fewer rows if that is too dear. A single row or a number is a baseline: one row a coalition. None is the question's own baseline.
    `groups`: {"address": ["street", "town"], "age": [3]} or lists of columns; those that no group names are players of their own.
    `names`: the columns' names, in order; a data frame brings its own.
    Misleads when: columns depend on each other. Absent columns are drawn together from one background row but apart from the present ones, so that
    the model is asked about rows that never occur (pregnant men); put such columns into one group. A single baseline row stands for one point of view.
    """

    background: Any = None
    groups: Any = None
    names: Sequence[str] | None = None

    def board(self, q: Question) -> Board:
        n = len(leaves(q.point))
        if n != 1:
            raise UsageError(f"TableMasker needs one explained table; the point holds {n} tensors. Give a tuple of maskers, one an input.")
        return board_of(q, [self.piece(q, 0)])

    def piece(self, q: Question, i: int) -> Piece:
        """The players of tensor i of the point."""
        p = leaves(q.point)[i]
        if p.ndim != 2:
            raise UsageError(f"TableMasker needs a table, (rows, columns); got {tuple(p.shape)}. Use ImageMasker, SeriesMasker or FeatureMasker.")
        background, words = behind(q, i, self._rows(p))
        frame = getattr(self.background, "columns", None)
        names = self.names if self.names is not None else shared_names(features_of(q, i)) if frame is None else tuple(map(str, frame))
        labels, players = cut(p, self.groups, names)
        return Piece(labels, (players,) * q.size, held(background), words, len(background))

    def _rows(self, p: Tensor) -> Any:
        """The background as a baseline: many rows as samples, one as itself."""
        if self.background is None or isinstance(self.background, (int, float, str, Samples)):
            return self.background
        try:
            given = torch.as_tensor(self.background.to_numpy() if hasattr(self.background, "to_numpy") else self.background)
        except (TypeError, ValueError):
            raise UsageError(f"A background needs rows of numbers; got {type(self.background).__name__}. Encode texts and categories as the model takes them.") from None
        return Samples(given) if given.ndim == p.ndim else given
