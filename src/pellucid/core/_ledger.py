"""What became of relevance on the way: biases, shifts and constants have nobody to give to, and keep what they get."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._kept import all_finite, by_row, wide

Key = tuple[str, str]
"""An operation: (module, name)."""
FEW = 2**14
"""Numbers of a constant up to which sums of what arrived at it are kept until the pass is over."""


class _Due(NamedTuple):
    """A constant, (k,), and (rows, k) sums of what arrived at each of its numbers: their products are made for all operations at once."""

    key: Key
    amount: Tensor
    arrived: Tensor
    known: bool


@dataclass
class Ledger:
    """What each operation, (module, name), absorbed of each of `rows` rows."""

    rows: int
    absorbed: dict[Key, Tensor] = field(default_factory=dict)
    by_row: bool = True
    """Whether every operation had its rows on the first axis; else what it absorbed is spread evenly over the rows."""
    due: list[_Due] = field(default_factory=list)

    def constant(self, where: str, name: str, amount: Tensor, g: Tensor) -> None:
        """A constant part of a value, at which `g` arrived: all of its relevance stays here."""
        known = bool(g.ndim) and len(g) == self.rows
        shape = (1,) * (g.ndim - amount.ndim) + tuple(amount.shape)
        axes = [i for i in range(int(known), g.ndim) if shape[i] == 1 < g.shape[i]]
        if not axes or amount.numel() > FEW or shape[0] > 1:
            per_row, known = by_row(amount, g, self.rows)
            self.enter(where, name, per_row, known)
            return
        arrived = g.sum(axes, dtype=wide(g)).reshape(len(g) if known else 1, -1)
        self.due.append(_Due((where, name), amount.reshape(-1), arrived, known))

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

    def _settle(self) -> None:
        """Makes the products that are due."""
        due, self.due = self.due, []
        while due:
            first = due[0]
            alike = [d for d in due if d.arrived.dtype == first.arrived.dtype and d.arrived.device == first.arrived.device and d.known == first.known]
            due = [] if len(alike) == len(due) else [d for d in due if all(d is not a for a in alike)]
            a, b = torch.cat([d.amount for d in alike]).to(first.arrived.dtype), torch.cat([d.arrived for d in alike], 1)
            made = a * b
            if not all_finite(made):
                made = torch.where(b == 0, 0, made)
            for d, part in zip(alike, made.split([d.amount.numel() for d in alike], 1), strict=True):
                per_row = part.sum(1)
                self.enter(*d.key, per_row if d.known else (per_row / self.rows).expand(self.rows), d.known or self.rows == 1)

    def take(self) -> dict[Key, Tensor]:
        """What was entered since it was last taken."""
        self._settle()
        found, self.absorbed = self.absorbed, {}
        return found


class Account:
    """What the ledgers of many passes come to, for all rows of a question."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._tables: dict[Any, tuple[tuple[Key, ...], Tensor]] = {}
        self.by_row = True
        self.changed = 0
        """How many operations of a pass got another gradient than their own."""

    @property
    def absorbed(self) -> dict[Key, Tensor]:
        """What each operation kept, a row."""
        found: dict[Key, Tensor] = {}
        for keys, table in self._tables.values():
            found.update({k: found[k] + amount if k in found else amount for k, amount in zip(keys, table, strict=True)})
        return found

    def enter(self, mode: Any, rows: Tensor, source: Tensor) -> None:
        """Adds what a pass's operations absorbed of its rows `source`, which are the question's rows `rows`."""
        if mode is None:
            return
        alike: dict[Any, dict[Key, Tensor]] = {}
        for key, amount in mode.ledger.take().items():
            alike.setdefault((amount.shape[1:], amount.dtype, amount.device), {})[key] = amount
        for (shape, dtype, device), amounts in alike.items():
            keys = tuple(amounts)
            if (keys, shape, dtype) not in self._tables:
                self._tables[keys, shape, dtype] = keys, torch.zeros(len(keys), self.rows, *shape, dtype=dtype, device=device)
            here = torch.stack(tuple(amounts.values()))[:, source.to(device)]
            self._tables[keys, shape, dtype][1].index_add_(1, rows.to(device), here)
        self.by_row &= mode.ledger.by_row
        self.changed = max(self.changed, mode.changed)
