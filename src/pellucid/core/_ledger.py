"""What became of relevance on the way: biases, shifts and constants have nobody to give to, and keep what they get."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ._kept import by_row


@dataclass
class Ledger:
    """What each operation, (module, name), absorbed of each of `rows` rows."""

    rows: int
    absorbed: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    by_row: bool = True
    """Whether every operation had its rows on the first axis; else what it absorbed is spread evenly over the rows."""

    def constant(self, where: str, name: str, amount: Tensor, g: Tensor) -> None:
        """A constant part of a value, at which `g` arrived: all of its relevance stays here."""
        per_row, known = by_row(amount, g, self.rows)
        self.enter(where, name, per_row, known)

    def lost(self, where: str, name: str, value: Tensor, g: Tensor, xs: Sequence[Tensor], given: Sequence[Tensor | None]) -> None:
        """An operation got value * g and handed on x * r for each of its inputs."""
        here, known = by_row(value, g, self.rows)
        for x, r in zip(xs, given, strict=True):
            if r is not None:
                there, also = by_row(x.detach(), r, self.rows)
                here, known = here - there, known and also
        self.enter(where, name, here, known)

    def enter(self, where: str, name: str, amount: Tensor, known: bool) -> None:
        """Adds to the account of an operation."""
        self.by_row &= known
        key = (where, name)
        self.absorbed[key] = self.absorbed[key] + amount if key in self.absorbed else amount

    def take(self) -> dict[tuple[str, str], Tensor]:
        """What was entered since it was last taken."""
        found, self.absorbed = self.absorbed, {}
        return found


class Account:
    """What the ledgers of many passes come to, for all rows of a question."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.absorbed: dict[tuple[str, str], Tensor] = {}
        self.by_row = True
        self.changed = 0
        """How many operations of a pass got another gradient than their own."""

    def enter(self, mode: Any, rows: Tensor, source: Tensor) -> None:
        """Adds what a pass's operations absorbed of its rows `source`, which are the question's rows `rows`."""
        if mode is None:
            return
        for key, amount in mode.ledger.take().items():
            total = self.absorbed.setdefault(key, amount.new_zeros(self.rows, *amount.shape[1:]))
            total.index_add_(0, rows.to(total.device), amount[source.to(amount.device)])
        self.by_row &= mode.ledger.by_row
        self.changed = max(self.changed, mode.changed)
