"""What may be changed in a row of a table, how far, and what a change costs."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.question import Question
from ..core.tree import Tree, leaves
from .columns import Column

Cells = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Actions:
    """Which cells of a row may change, and where to: columns that stay, ranges, directions, columns of which one is 1.

    A cell may always stay as it is. One that changes stays of its kind (whole numbers, words that were seen), lies inside its column's range,
    which is that of the data unless given, and never becomes missing. Distances are in units of each column's median absolute deviation;
    another word, another of a group, or a cell that was missing, is one unit.
    """

    columns: tuple[Column, ...]
    data: Cells
    """(N, P) rows that show what is usual: codes."""
    low: Cells
    high: Cells
    scale: Cells
    cost: Cells
    """(P,) what a unit of change in a column costs."""
    fixed: frozenset[int] = frozenset()
    sign: tuple[int, ...] = ()
    """1: may only increase; -1: may only decrease; 0: both."""
    allowed: Mapping[int, tuple[float, ...]] | None = None
    """The codes that a column of words or flags may take."""
    groups: tuple[tuple[int, ...], ...] = ()
    """Columns of which exactly one is 1."""
    ranged: frozenset[int] = frozenset()
    """Columns whose range somebody gave."""
    parts: Cells | None = None
    """(P,) into how many parts one is divided in a column: 10 where all data have one digit behind the point, 0 where there is no such number."""

    # -- what a search asks ------------------------------------------------------------------------------------------

    @functools.cached_property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """What changes together: single columns, and groups."""
        grouped = {j for g in self.groups for j in g}
        return (*((j,) for j in range(len(self.columns)) if j not in grouped), *self.groups)

    @functools.cached_property
    def _ordered(self) -> NDArray[np.int64]:
        return np.array([j for j, c in enumerate(self.columns) if c.ordered and j not in self.fixed], np.int64)

    @functools.cached_property
    def _alone(self) -> NDArray[np.int64]:
        return np.array([u[0] for u in self.units if len(u) == 1], np.int64)

    def name(self, unit: tuple[int, ...]) -> str:
        """A unit in words."""
        return " / ".join(self.columns[j].name for j in unit)

    def numeric(self, unit: tuple[int, ...]) -> bool:
        """Whether a unit can be moved by halves."""
        return len(unit) == 1 and self.columns[unit[0]].ordered

    def nearest(self, z: Cells, own: Cells) -> Cells:
        """The nearest rows that are allowed, (..., P), for a row `own` (P,) or rows that broadcast."""
        z, own = np.broadcast_arrays(z, own)
        out = own.copy()
        for unit in self.units:
            if len(unit) > 1:
                self._one_of(unit, z, own, out)
            elif unit[0] not in self.fixed and not self.columns[unit[0]].ordered:
                code = np.round(z[..., unit[0]])
                out[..., unit[0]] = np.where(self._permitted(unit[0], code, own[..., unit[0]]), code, own[..., unit[0]])
        where = self._ordered
        out[..., where] = self._cells(where, z[..., where], own[..., where])
        return out

    def breach(self, z: Cells, own: Cells) -> Cells:
        """(...) by how much rows break what is allowed."""
        z, own = np.broadcast_arrays(z, own)
        out: Any = np.zeros(z.shape[:-1])
        for j, c in enumerate(self.columns):
            a, b = z[..., j], own[..., j]
            low, high = self._ends(j, b)
            moved = ~same(a, b)
            if j in self.fixed:
                wrong = np.ones(out.shape)
            elif not c.ordered:
                wrong = 1.0 - self._permitted(j, a, b)
            else:
                with np.errstate(invalid="ignore"):
                    wrong = (np.maximum(low - a, 0) + np.maximum(a - high, 0)) / self.scale[j] + (np.abs(a - np.round(a)) if c.kind == "whole" else 0)
                wrong = np.where(np.isnan(wrong), 1.0, wrong)
            out += np.where(moved, wrong, 0)
        for g in map(list, self.groups):
            out += np.where(same(z[..., g], own[..., g]).all(-1), 0, np.abs(np.nan_to_num(z[..., g], nan=9).sum(-1) - 1))
        return out

    def moves(self, z: Cells, own: Cells) -> Cells:
        """(..., units) how far each unit moved: median absolute deviations, or 1 for another word."""
        z, own = np.broadcast_arrays(z, own)
        out, alone = np.zeros((*z.shape[:-1], len(self.units))), self._alone
        number = np.array([self.columns[j].ordered for j in alone], bool)
        off = ~same(z[..., alone], own[..., alone])
        way = np.abs(z[..., alone] - own[..., alone]) / self.scale[alone]
        out[..., : len(alone)] = self.cost[alone] * np.where(number & ~np.isnan(way), way, off)
        for u, unit in enumerate(self.groups, len(alone)):
            where = list(unit)
            out[..., u] = self.cost[where].max() * ~same(z[..., where], own[..., where]).all(-1)
        return out

    def options(self, unit: tuple[int, ...], own: Cells, most: int) -> Cells:
        """(K, cells of the unit) other cells it may take in a row: all words, or up to `most` numbers spread like the data and the ends of the range."""
        if len(unit) > 1:
            made = np.eye(len(unit))
            kept = [k for k in range(len(unit)) if all(self._may(j, made[k, i], own[j]) for i, j in enumerate(unit))]
            return made[[k for k in kept if not same(made[k], own[list(unit)]).all()]]
        j = unit[0]
        if j in self.fixed:
            return np.empty((0, 1))
        if not self.columns[j].ordered:
            codes = [v for v in self._codes(j) if v != own[j] and self._may(j, v, own[j])]
            return np.array(codes).reshape(-1, 1)
        low, high = (float(v) for v in self._ends(j, own[j]))
        if not low <= high:
            return np.empty((0, 1))
        seen = self.data[:, j]
        seen = seen[(seen >= low) & (seen <= high)]
        spread = np.quantile(seen, np.linspace(0, 1, most)) if len(seen) else np.linspace(low, high, max(most, 2))
        made = self._cells(np.array([j]), np.concatenate([spread, [low, high]])[:, None], np.full((len(spread) + 2, 1), own[j]))[:, 0]
        return np.unique(made[~same(made, own[j])])[:, None]

    def without(self, rule: tuple[str, int]) -> "Actions":
        """The same with one rule left out: ("fixed", column), ("sign", column) or ("range", column)."""
        kind, j = rule
        if kind == "fixed":
            return replace(self, fixed=self.fixed - {j})
        if kind == "sign":
            return replace(self, sign=tuple(0 if k == j else s for k, s in enumerate(self.sign)))
        low, high, seen = self.low.copy(), self.high.copy(), self.data[:, j]
        room = np.nanmax(seen) - np.nanmin(seen) if np.isfinite(seen).any() else 1.0
        low[j], high[j] = min(low[j], np.nanmin(seen)) - room, max(high[j], np.nanmax(seen)) + room
        return replace(self, low=low, high=high, allowed={k: v for k, v in (self.allowed or {}).items() if k != j}, ranged=self.ranged - {j})

    def rules(self) -> dict[tuple[str, int], str]:
        """What was asked for, rule by rule, in words."""
        c = self.columns
        told = {("fixed", j): f"{c[j].name} stays" for j in sorted(self.fixed)}
        told |= {("sign", j): f"{c[j].name} may only {'increase' if s > 0 else 'decrease'}" for j, s in enumerate(self.sign) if s}
        return told | {("range", j): self._range_told(j) for j in range(len(c)) if j not in self.fixed and (c[j].ordered or j in self.ranged)}

    def _range_told(self, j: int) -> str:
        c = self.columns[j]
        if not c.ordered:
            return f"{c.name} is one of {', '.join(c.word(v) for v in self._codes(j))}"
        return f"{c.name} lies in {c.word(float(self.low[j]))} to {c.word(float(self.high[j]))}{'' if j in self.ranged else ', as in the data'}"

    # -- a budget ----------------------------------------------------------------------------------------------------

    def project(self, z: Tree, q: Question) -> Tree:
        """The nearest points that are allowed, (n, B, P)."""
        t = leaves(z)[0]
        return torch.from_numpy(self.nearest(as_cells(t), as_cells(q.x))).to(t)

    def excess(self, z: Tree, q: Question) -> Tensor:
        """(n, B) by how much points break what is allowed."""
        return torch.from_numpy(self.breach(as_cells(leaves(z)[0]), as_cells(q.x)))

    # -- one cell ----------------------------------------------------------------------------------------------------

    def _codes(self, j: int) -> tuple[float, ...]:
        given = (self.allowed or {}).get(j)
        c = self.columns[j]
        return (
            given
            if given is not None
            else tuple(map(float, range(len(c.values))))
            if c.values
            else (0.0, 1.0)
            if c.kind == "flag"
            else tuple(np.unique(self.data[~np.isnan(self.data[:, j]), j]))
        )

    def _ends(self, j: Any, own: Cells) -> tuple[Cells, Cells]:
        """The least and the most that cells of one column, or of several, may become."""
        s = np.asarray(self.sign or np.zeros(len(self.columns)))[j]
        low = np.where(s > 0, np.maximum(self.low[j], own), self.low[j])
        high = np.where(s < 0, np.minimum(self.high[j], own), self.high[j])
        return low, high

    def _cells(self, where: NDArray[np.int64], z: Cells, own: Cells) -> Cells:
        """The nearest cells that are allowed, of columns that hold numbers."""
        low, high = self._ends(where, own)
        whole = np.array([self.columns[j].kind == "whole" for j in where], bool)
        low, high, z = np.where(whole, np.ceil(low), low), np.where(whole, np.floor(high), high), np.where(whole, np.round(z), z)
        if self.parts is not None:
            per = self.parts[where]
            z = np.where(per > 0, np.round(z * per) / np.maximum(per, 1), z)
        with np.errstate(invalid="ignore"):
            inside = np.minimum(np.maximum(z, low), high)
            stays = np.isnan(inside) | ~(low <= high) | (np.abs(z - own) < np.abs(z - inside))
        return np.where(stays, own, inside)

    def _permitted(self, j: int, z: Cells, own: Cells) -> NDArray[np.bool_]:
        s = self.sign[j] if self.sign else 0
        with np.errstate(invalid="ignore"):
            ordered = (z > own) if s > 0 else (z < own) if s < 0 else np.ones(np.shape(z), bool)
        return np.asarray(np.isin(z, self._codes(j)) & ordered)

    def _may(self, j: int, cell: float, own: float) -> bool:
        return bool(self._kept(j, cell, np.array(own)))

    def _kept(self, j: int, cell: float, own: Cells) -> NDArray[np.bool_]:
        """Where a column may hold a cell: it is the row's own, or it may become so."""
        stays = np.asarray(own == cell)
        return stays if j in self.fixed else stays | self._permitted(j, np.full(np.shape(own), cell), own)

    def _one_of(self, unit: tuple[int, ...], z: Cells, own: Cells, out: Cells) -> None:
        """Writes into `out` the allowed member that is strongest in `z`."""
        where, made = list(unit), np.eye(len(unit))
        may = np.stack([np.all([self._kept(j, made[k, i], own[..., j]) for i, j in enumerate(unit)], axis=0) for k in range(len(unit))], -1)
        score: Any = np.where(may, np.nan_to_num(z[..., where], nan=-np.inf), -np.inf)
        best = np.where(np.asarray(np.isfinite(score.max(-1)))[..., None], made[score.argmax(-1)], own[..., where])
        out[..., where] = np.where(same(z[..., where], own[..., where]).all(-1, keepdims=True), own[..., where], best)


def same(a: Any, b: Any) -> NDArray[np.bool_]:
    """Where cells are equal; missing equals missing."""
    a, b = np.asarray(a), np.asarray(b)
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def as_cells(t: Any) -> Cells:
    """A question's rows as codes in double precision."""
    return np.asarray(leaves(t)[0].detach().cpu().numpy(), np.float64)


# -- made from what people say -----------------------------------------------------------------------------------------


def actions(
    columns: Sequence[Column],
    data: Cells,
    *,
    fixed: Iterable[str] = (),
    vary: Iterable[str] | None = None,
    ranges: Mapping[str, Any] | None = None,
    increase: Iterable[str] = (),
    decrease: Iterable[str] = (),
    one_hot: Iterable[Sequence[str]] = (),
    costs: Mapping[str, float] | None = None,
    dtype: Any = np.float64,
) -> Actions:
    """Actions in the words of a table: names of columns, ranges as (low, high) or the words that may be taken.

    `fixed` columns stay; or only those of `vary` change. `costs` says how dear a change of a column is, where 1 is usual. `one_hot` are lists of columns
    of which exactly one is 1. Ranges are rounded inwards to `dtype`, in which the model is asked.
    """
    names = [c.name for c in columns]
    at = _finder(names)
    if not len(data):
        raise UsageError("Counterfactuals need rows of data, which show what is usual; got none. Give data=train.")
    stay = {at(n) for n in _list(fixed, "fixed")} | (set() if vary is None else set(range(len(names))) - {at(n) for n in _list(vary, "vary")})
    if len(stay) == len(names):
        raise UsageError("Counterfactuals need at least one column that may change; all are fixed. Leave one out of fixed, or name it in vary.")
    sign = [0] * len(names)
    for told, s in ((increase, 1), (decrease, -1)):
        for n in _list(told, "increase" if s > 0 else "decrease"):
            j = at(n)
            if columns[j].kind == "category" and not getattr(columns[j].dtype, "ordered", False):
                raise UsageError(f"Only columns with an order can increase or decrease; {n!r} holds words. Give the words that may be taken: ranges={{{n!r}: [...]}}.")
            if sign[j] == -s:
                raise UsageError(f"Column {n!r} may only increase and only decrease; then it stays. Put it into fixed, or leave one out.")
            sign[j] = s
    low, high = (np.array([getattr(c, end) for c in columns], float) for end in ("low", "high"))
    found = _seen(data, low, high)
    allowed: dict[int, tuple[float, ...]] = {}
    for n, given in (ranges or {}).items():
        j = at(n)
        if columns[j].ordered:
            found[0][j], found[1][j] = _range(columns[j], given)
        else:
            allowed[j] = _choices(columns[j], given)
    ends = [_inward(v, s, dtype) for v, s in zip(found, (1, -1), strict=True)]
    for n in ranges or {}:
        j = at(n)
        empty = columns[j].ordered and (np.ceil(ends[0][j]) > np.floor(ends[1][j]) if columns[j].kind == "whole" else ends[0][j] > ends[1][j])
        if empty:
            raise UsageError(f"The range of {n!r} holds no {'whole ' if columns[j].kind == 'whole' else ''}number: {found[0][j]:g} to {found[1][j]:g}.")
    return Actions(tuple(columns), np.asarray(data, float), ends[0], ends[1], scales(columns, data), _costs(costs or {}, names, at), frozenset(stay), tuple(sign), allowed,
                   _groups(one_hot, columns, data, at), frozenset(at(n) for n in ranges or {}), _parts(columns, data))  # fmt: skip


def _parts(columns: Sequence[Column], data: Cells) -> Cells:
    """Into how many parts one is divided in each column of numbers: up to a thousand."""
    out = np.zeros(len(columns))
    for j, c in enumerate(columns):
        real = data[~np.isnan(data[:, j]), j]
        if c.kind == "number" and len(real):
            out[j] = next((p for p in (1.0, 10.0, 100.0, 1000.0) if bool((np.abs(real * p - np.round(real * p)) < 1e-5).all())), 0.0)
    return out


def scales(columns: Sequence[Column], data: Cells) -> Cells:
    """(P,) each column's median absolute deviation; where half the cells are equal, its mean absolute deviation; where all are, 1."""
    out = np.ones(len(columns))
    for j, c in enumerate(columns):
        real = data[~np.isnan(data[:, j]), j]
        if c.ordered and len(real):
            off = np.abs(real - np.median(real))
            out[j] = np.median(off) or off.mean() or 1.0
    return out


def _finder(names: list[str]) -> Any:
    def at(name: Any) -> int:
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(names):
            return name
        if str(name) not in names:
            raise UnknownName("column", str(name), names, f"The table has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}.")
        return names.index(str(name))

    return at


def _list(given: Iterable[str], what: str) -> list[Any]:
    if isinstance(given, str):
        raise UsageError(f"{what} needs a list of columns; got the text {given!r}. Write {what}=[{given!r}].")
    return list(given)


def _seen(data: Cells, low: Cells, high: Cells) -> tuple[Cells, Cells]:
    """The ranges that the data show; of a column without cells, what its description says."""
    bare = np.asarray(np.isnan(data).all(0))
    filled = np.where(bare[None], 0.0, data)
    return np.where(bare, low, np.nanmin(filled, 0)), np.where(bare, high, np.nanmax(filled, 0))


def _range(c: Column, given: Any) -> tuple[float, float]:
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != 2:
        raise UsageError(f"The range of {c.name!r} needs two ends, (low, high); got {given!r}.")
    low, high = (-np.inf if k == 0 and v is None else np.inf if v is None else c.code(_stamp(v) if c.kind == "date" else v) for k, v in enumerate(given))
    if not low <= high:
        raise UsageError(f"The range of {c.name!r} needs its lower end first; got {given[0]!r} to {given[1]!r}, which holds nothing.")
    return (low if np.isfinite(low) else min(c.low, high)), (high if np.isfinite(high) else max(c.high, low))


def _stamp(v: Any) -> Any:
    return np.datetime64(v, "us").astype(object) if isinstance(v, str) else v


def _choices(c: Column, given: Any) -> tuple[float, ...]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise UsageError(f"The range of {c.name!r}, which holds {'words' if c.values else 'flags'}, needs a list of what may be taken; got {given!r}.")
    codes = tuple(c.code(v) for v in given)
    if not codes:
        raise UsageError(f"The range of {c.name!r} holds nothing; put the column into fixed.")
    return codes


def _inward(v: Cells, side: int, dtype: Any) -> Cells:
    """Bounds in the precision of the model, never outside those given."""
    near = v.astype(dtype)
    out = np.where((near.astype(float) - v) * side < 0, np.nextafter(near, np.asarray(side * np.inf, dtype)), near)
    return np.asarray(out, np.float64)


def _costs(given: Mapping[str, float], names: list[str], at: Any) -> Cells:
    out = np.ones(len(names))
    for n, v in given.items():
        if not isinstance(v, (int, float)) or not v > 0 or not np.isfinite(v):
            raise UsageError(f"The cost of column {n!r} needs to be a number above 0, where 1 is usual; got {v!r}. A column that must not change goes into fixed.")
        out[at(n)] = v
    return out


def _groups(given: Iterable[Sequence[str]], columns: Sequence[Column], data: Cells, at: Any) -> tuple[tuple[int, ...], ...]:
    groups = [tuple(at(n) for n in _list(g, "one_hot")) for g in given]
    flat = [j for g in groups for j in g]
    twice = next((j for j in flat if flat.count(j) > 1), None)
    if twice is not None:
        raise UsageError(f"A column can be in one one-hot group only; {columns[twice].name!r} is there twice.")
    for g in groups:
        if len(g) < 2:
            raise UsageError(f"A one-hot group needs two columns or more; got {', '.join(columns[j].name for j in g) or 'none'}.")
        odd = next((j for j in g if columns[j].kind != "flag"), None)
        if odd is not None:
            raise UsageError(f"A one-hot group holds columns of 0 and 1; {columns[odd].name!r} holds {columns[odd].kind}s.")
        sums = data[:, list(g)].sum(1)
        if not (sums == 1).all():
            raise UsageError(
                f"Of a one-hot group exactly one column is 1; {int((sums != 1).sum()):,} of {len(data):,} rows break this for {', '.join(columns[j].name for j in g[:4])}."
            )
    return tuple(groups)
