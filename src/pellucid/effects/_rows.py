"""What every effect begins with: a table's rows as numbers, the columns that are asked about, groups of rows, and one way to ask with cells replaced."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.points import Points
from ..core.question import Question
from ..core.target import PerRow
from ..core.tree import leaves
from ..modalities.columns import Column, columns_of

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
MOST, LOOKED, SHUFFLES = 6, 300, 2
"""Columns that are shown where none is named; the rows that are looked at to choose them, and how often their cells are shuffled."""
COHORTS, LEVELS = 8, 6
"""Groups that are compared, and different numbers up to which each is a group of its own."""
EVERYBODY = "all rows"


@dataclass(frozen=True)
class Labels:
    """A label for every row, and what they are called: groups that need not be a column of the model's."""

    name: str
    values: tuple[Any, ...]
    order: tuple[str, ...] = ()
    """In which they stand; sorted unless said."""

    def __repr__(self) -> str:
        return f"{self.name or 'labels'} ({len(set(map(str, self.values)))} groups)"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Some rows by their places, and what they have in common."""

    name: str
    rows: Places


@dataclass(frozen=True, eq=False)
class Sheet:
    """A question's rows as numbers, and what its columns hold."""

    q: Question
    columns: tuple[Column, ...]
    codes: Floats

    @classmethod
    def of(cls, q: Question, least: int = 2) -> "Sheet":
        """The table of a question; refuses what no effect can be read from."""
        columns = columns_of(q)
        if q.size < least:
            raise UsageError(f"Effects compare the answers on at least {least} rows; the table has {q.size}. `ceteris-paribus` explains a single row against a table.")
        target = q.resolved_target()
        if isinstance(target, PerRow):
            raise UsageError(f"Effects follow one answer over all rows; here each row has its own. Name one: target={_example(q)}.")
        return cls(q, columns, leaves(q.point)[0].detach().double().cpu().numpy())

    def place(self, name: Any) -> int:
        """A column's place from its name or its number."""
        names = [c.name for c in self.columns]
        if str(name) in names:
            return names.index(str(name))
        if isinstance(name, int) and 0 <= name < len(names):
            return name
        raise UnknownName("column", str(name), names)

    def known(self, j: int) -> Floats:
        """The cells of a column that are not missing."""
        return self.codes[~np.isnan(self.codes[:, j]), j]

    def varies(self, j: int) -> bool:
        """Whether a column holds at least two different cells; missing is one of them."""
        return len(np.unique(self.codes[:, j])) > 1

    def chosen(self, columns: Any, pairs: bool = True, by: Any = None) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
        """The columns (one place) and pairs (two) that are asked about, and how they were chosen where nobody named them."""
        if columns is None:
            return self._strongest(self.place(by) if isinstance(by, (str, int)) else -1)
        given = [columns] if isinstance(columns, (str, int)) else list(columns)
        if not given:
            raise UsageError("Effects need at least one column; got an empty list. Leave columns out to see the strongest.")
        found = list(dict.fromkeys(self._pick(c) for c in given))
        for pick in found:
            if len(pick) > 1 and not pairs:
                raise UsageError(f"This takes columns one at a time; got the pair {' and '.join(self.columns[j].name for j in pick)}.")
            for j in pick:
                self._check(j)
        return found, ()

    def _pick(self, given: Any) -> tuple[int, ...]:
        names = [c.name for c in self.columns]
        if isinstance(given, str) and given not in names and ":" in given:
            given = given.split(":")
        if isinstance(given, (str, int)) or not isinstance(given, Sequence):
            return (self.place(given),)
        pick = tuple(self.place(c.strip() if isinstance(c, str) else c) for c in given)
        if len(pick) != 2 or pick[0] == pick[1]:
            raise UsageError(f"Effects are of single columns or of two different ones together; got {', '.join(map(str, given))}.")
        return pick

    def _check(self, j: int) -> None:
        c, known = self.columns[j], self.known(j)
        if not len(known):
            raise UsageError(f"Column {c.name!r} has no effect to show: every one of its {len(self.codes):,} cells is missing.")
        if not self.varies(j):
            raise UsageError(f"Column {c.name!r} has no effect to show: it holds {c.word(known[0])} in every row. Name another column.")

    def _strongest(self, but: int) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
        """The columns whose shuffled cells move the answers most, but for the one that makes groups."""
        usable = [j for j in range(len(self.columns)) if j != but and len(self.known(j)) and self.varies(j)]
        if not usable:
            raise UsageError("Effects need a column that varies; every column of this table holds one thing only.")
        if len(usable) <= 1:
            return [(j,) for j in usable], ()
        chance = np.random.default_rng(self.q.seed)
        rows = some(np.arange(len(self.codes)), LOOKED, chance)
        part, n = part_of(self.q, rows), len(rows)
        x = leaves(part.point)[0]
        other = torch.as_tensor(np.stack([chance.permutation(n) for _ in range(SHUFFLES * len(usable))]))
        of = torch.tensor(usable).repeat_interleave(SHUFFLES)

        def make(s: Tensor, r: Tensor) -> Tensor:
            z, line = x[r.to(x.device)].clone(), torch.arange(len(r))
            z[line, of[s]] = x[other[s, r], of[s]]
            return z

        moved = asked(part, Points(len(other), make)) - part.target_values().detach().double().cpu().numpy()
        size = np.abs(moved).reshape(len(usable), -1).mean(1)
        order = [usable[i] for i in np.argsort(-size, kind="stable")[:MOST]]
        told = f"columns: the {len(order)} of {len(self.columns)} whose shuffled cells move the answer most (over {n:,} rows)" if len(order) < len(self.columns) else ""
        return [(j,) for j in order], (told,) if told else ()

    def cohorts(self, by: Any) -> tuple[tuple[Cohort, ...], tuple[str, ...]]:
        """Groups of rows: all of them, by what a column holds, or by a label for every row; and what was left out."""
        if by is None:
            return (Cohort(EVERYBODY, np.arange(len(self.codes))),), ()
        if isinstance(by, (str, int)):
            keys, names = levels(self.columns[self.place(by)], self.codes[:, self.place(by)])
            own = self.columns[self.place(by)].name
        else:
            given = by.values if isinstance(by, Labels) else by
            keys, own = np.array([str(v) for v in list(given)]), by.name if isinstance(by, Labels) else ""
            names = [n for n in by.order if n in keys] if isinstance(by, Labels) and by.order else sorted(set(keys.tolist()))
            if len(keys) != len(self.codes):
                raise UsageError(f"by= needs a column's name or a label for each of {len(self.codes):,} rows; got {len(keys):,} labels.")
        counts = {name: int((keys == name).sum()) for name in names}
        kept = [name for name in names if counts[name] >= 2]
        large = sorted(sorted(kept, key=lambda name: -counts[name])[:COHORTS], key=kept.index)
        if not large:
            raise UsageError(f"by={own or 'labels'} leaves no group of at least 2 rows; name a column whose values more rows share.")
        left = len(names) - len(large)
        note = (f"{left} of {len(names)} groups{f' of {own}' * bool(own)} are not shown: the {COHORTS} largest of at least 2 rows are",) if left else ()
        return tuple(Cohort(f"{own} {name}".strip(), np.flatnonzero(keys == name)) for name in large), note


def levels(c: Column, cells: Floats) -> tuple[NDArray[np.str_], list[str]]:
    """What a column holds in each row, in words - numbers of many values by quarters - and the words in order."""
    known = cells[~np.isnan(cells)]
    values = np.unique(known)
    if not c.ordered or len(values) <= LEVELS:
        words = [c.word(v) for v in values]
        place = np.searchsorted(values, np.nan_to_num(cells))
    else:
        cuts = np.unique(np.quantile(known, (0.25, 0.5, 0.75), method="inverted_cdf"))
        cuts = cuts[cuts < values[-1]]
        words = [f"up to {c.word(cuts[0])}", *(f"above {c.word(a)} up to {c.word(b)}" for a, b in itertools.pairwise(cuts)), f"above {c.word(cuts[-1])}"]
        place = np.searchsorted(cuts, np.nan_to_num(cells))
    words = list(dict.fromkeys([*words, "missing"])) if len(known) < len(cells) else words
    return np.array(words)[np.where(np.isnan(cells), len(words) - 1, np.minimum(place, len(words) - 1))], words


def some(rows: Places, most: int, chance: np.random.Generator) -> Places:
    """At most so many of the rows, drawn at random, in their order."""
    return np.sort(chance.choice(rows, most, replace=False)) if len(rows) > most else rows


def drawn(cohorts: Sequence[Cohort], most: int, seed: int) -> tuple[Places, tuple[Cohort, ...], tuple[str, ...]]:
    """At most so many rows of every cohort: all of them together, each cohort by its places among those, and what was drawn."""
    chance = np.random.default_rng(seed)
    mine = [some(c.rows, most, chance) for c in cohorts]
    rows = np.unique(np.concatenate(mine))
    few = tuple(Cohort(c.name, np.searchsorted(rows, own)) for c, own in zip(cohorts, mine, strict=True))
    told = [f"{len(own):,} of {len(c.rows):,} rows{f' of {c.name}' if len(cohorts) > 1 else ''}, drawn at random" for c, own in zip(cohorts, mine, strict=True) if len(own) < len(c.rows)]
    return rows, few, tuple(told)


def part_of(q: Question, rows: Places) -> Question:
    """The question about some rows; the same question where they are all of them."""
    return q if len(rows) == q.size else q.take(torch.as_tensor(rows))


def with_cells(q: Question, places: Sequence[int], cells: Floats) -> Floats:
    """(n, B) answers with columns `places` holding `cells`: (n, k) for every row alike, or (n, B, k)."""
    x = leaves(q.point)[0]
    given = torch.as_tensor(np.ascontiguousarray(cells)).to(x)
    where = torch.as_tensor(list(places))

    def make(s: Tensor, rows: Tensor) -> Tensor:
        z = x[rows.to(x.device)].clone()
        z[:, where] = given[s] if given.ndim == 2 else given[s, rows]
        return z

    return asked(q, Points(len(given), make))


def asked(q: Question, points: Points) -> Floats:
    """(n, B) answers in double precision."""
    return q.value(points).detach().double().cpu().numpy()


def _example(q: Question) -> str:
    labels = q.model.labels
    return f"{labels[0]!r}, or {', '.join(repr(n) for n in labels[1:6])}{' ...' if len(labels) > 6 else ''}" if labels else "0, or another class's number"
