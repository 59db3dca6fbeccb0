"""The players of a game and what each was worth: the numbers behind a map of superpixels, words or columns."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Players:
    """What every player of every row was worth. Rows may differ in their players: the columns beyond `names[i]` hold zero.

    `interactions` are (B, P, P), symmetric, in target units: what two players are worth together beyond what each is worth;
    `triples` are (B, P, P, P) alike. `labels` say which player an element of the point belongs to (-1: none).
    """

    names: tuple[tuple[str, ...], ...]
    values: Tensor
    error: Tensor | None = None
    interactions: Tensor | None = None
    triples: Tensor | None = None
    labels: Tensor | None = None
    absent: str = ""

    TENSORS = ("values", "error", "interactions", "triples", "labels")

    def ranked(self, row: int = 0) -> list[tuple[str, float, float | None]]:
        """(name, value, standard error) of a row's players, the weightiest first."""
        n = len(self.names[row])
        order = self.values[row, :n].abs().argsort(descending=True, stable=True).tolist()
        return [(self.names[row][i], float(self.values[row, i]), None if self.error is None else float(self.error[row, i])) for i in order]

    def cells(self) -> tuple[tuple[tuple[str, str], ...], ...] | None:
        """(name, what it held) of every player, where all names say both ("age = 40", as a mixed table's do); None elsewhere."""
        return self._cells

    @functools.cached_property
    def _cells(self) -> tuple[tuple[tuple[str, str], ...], ...] | None:
        """Once for all rows: views ask for it row by row."""
        if not all(" = " in n for own in self.names for n in own):
            return None
        return tuple(tuple((n.partition(" = ")[0], n.partition(" = ")[2]) for n in own) for own in self.names)

    def take(self, rows: Tensor) -> "Players":
        """Those rows."""
        own = {k: t[rows] if (t := getattr(self, k)) is not None else None for k in self.TENSORS}
        return Players(names=tuple(self.names[i] for i in rows.tolist()), absent=self.absent, **own)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """All but the tensors, as plain data."""
        return {"names": [list(n) for n in self.names], "absent": self.absent}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {f"players.{k}": t for k in self.TENSORS if (t := getattr(self, k)) is not None}

    @classmethod
    def from_parts(cls, d: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> "Players | None":
        """Back from `to_dict` and `tensors`; None where there are no players."""
        if d is None:
            return None
        own: dict[str, Any] = {k: tensors.get(f"players.{k}") for k in cls.TENSORS}
        return cls(names=tuple(tuple(n) for n in d["names"]), absent=d["absent"], **own)


def padded(t: Tensor, players: int) -> Tensor:
    """(B, n, ...) with every axis of players filled up with zeros to `players`."""
    out = t.new_zeros(len(t), *[players] * (t.ndim - 1))
    out[(slice(None), *(slice(0, n) for n in t.shape[1:]))] = t
    return torch.as_tensor(out)
