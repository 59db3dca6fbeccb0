"""Which rows are equal. Equal rows are asked once, and noise is drawn for a row by its name, wherever it lies in a batch."""

import functools
import hashlib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

REMEMBERED = 200_000
"""Values kept, so that a row which was asked once is not asked again."""
LONG_ROW = 4096
"""Bytes from which Python's own hash of a row beats a matrix product."""


class Memory(dict[Any, float]):
    """Values by the key of their row, and the type they had."""

    dtype = torch.float32

    def learn(self, keys: Collection[Any], y: Tensor, needed: Iterable[Any] = ()) -> None:
        """Takes in new values; where there is no room, only the `needed` old ones are kept. Others may hold this memory too."""
        if len(self) + len(y) > REMEMBERED:
            kept = {k: self[k] for k in needed if k in self}
            self.clear()
            self.update(kept)
        self.update(zip(keys, y.detach().cpu().tolist(), strict=True))
        self.dtype = y.dtype


def row_keys(parts: tuple[Tensor, ...], rows: Tensor) -> list[Any]:
    """A key a row; equal keys mean equal points of the same row (64 bits of hash and more: a chance below 1e-7 for a million rows)."""
    columns = [k for p in parts for k in _keys(p)]
    return list(zip(rows.tolist(), *columns, strict=True))


def _keys(part: Tensor) -> list[list[int]]:
    raw = part.detach().reshape(len(part), -1).contiguous()
    width = raw.shape[1] * raw.element_size()
    if raw.device.type == "cpu" and width >= LONG_ROW:
        view = raw.view(torch.uint8).numpy()
        return [[hash(r.tobytes()) for r in view], _sums(raw).tolist()]
    words = _words(raw)
    factors = _factors(words.shape[1], raw.device)
    return [(words * f).sum(1).tolist() for f in factors]


def _words(raw: Tensor) -> Tensor:
    """Integers of at most 32 bits: times a factor, what differs in the sign alone (bit 63 of a double) would be the same for every column."""
    narrow = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
    real = torch.view_as_real(raw) if raw.is_complex() else raw
    return real.view(narrow[real.element_size()]).to(torch.int64).reshape(len(raw), -1)


def _sums(raw: Tensor) -> Tensor:
    narrow = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return raw.view(narrow[raw.element_size()]).sum(1, dtype=torch.int64) if raw.element_size() in narrow else raw.sum(1)


@functools.lru_cache(maxsize=16)
def _factors(width: int, device: torch.device) -> Tensor:
    odd = np.random.default_rng(20170301).integers(-(2**63), 2**63 - 1, (2, width)) | 1
    return torch.from_numpy(odd).to(device)


def equal_groups(parts: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """(first, inverse, turn): one representative of each group of equal points, each row's group, and its turn in it.

    None where all points differ.
    """
    seen: dict[Any, int] = {}
    first: list[int] = []
    inverse: list[int] = []
    turn: list[int] = []
    count: list[int] = []
    for i, key in enumerate(row_keys(parts, rows)):
        if key not in seen:
            seen[key] = len(first)
            first.append(i)
            count.append(0)
        g = seen[key]
        inverse.append(g)
        turn.append(count[g])
        count[g] += 1
    if len(first) == len(rows):
        return None
    return torch.tensor(first), torch.tensor(inverse), torch.tensor(turn)


def row_seed(seed: int, row: object, sample: int) -> int:
    """A seed that depends on the run's seed, the row's name and the sample's number, and on nothing else."""
    text = f"{seed}|{row!r}|{sample}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
