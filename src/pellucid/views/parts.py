"""What the parts of one row were worth: players of a game, columns of a table. What bars, waterfalls, tints and networks are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.tree import paths
from .caption import cut, number, short_target

if TYPE_CHECKING:
    from ..core.explanation import Explanation
    from ..core.players import Players

Floats = NDArray[np.float64]
TOP = 12
"""How many parts are shown one by one; the others are summed, counted and named as such."""
TEXT = ("word", "token", "sentence", "span", "character")
"""Names of axes that say that the parts are pieces of a text."""


@dataclass(frozen=True)
class Part:
    """One line of a list: a name, what it was worth, and what it held. `number` is its place in the row; -1 for the others together."""

    name: str
    value: float
    error: float | None = None
    number: int = -1
    held: str = ""

    @property
    def told(self) -> str:
        """Its name with what it held: "proline = 1065"."""
        return f"{self.name} = {self.held}" if self.held else self.name

    def short(self, letters: int) -> str:
        """The same in at most so many letters: the name gives way, what it held does not."""
        tail = f" = {self.held}" if self.held else ""
        return cut(self.name, max(4, letters - len(tail))) + tail


@dataclass(frozen=True)
class Parts:
    """The parts of one row. `base` and `total` are the target without any and with all of them."""

    names: tuple[str, ...]
    values: Floats
    error: Floats | None = None
    held: tuple[str, ...] = ()
    base: float | None = None
    total: float | None = None
    start: str = "Base"
    signed: bool = True
    target: str = ""
    note: str = ""
    pairs: Floats | None = None
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def part(self, i: int) -> Part:
        """One part."""
        known = self.error is not None and bool(np.isfinite(self.error[i]))
        return Part(self.names[i], float(self.values[i]), float(self.error[i]) if known and self.error is not None else None, i, self.held[i] if self.held else "")

    def order(self) -> list[int]:
        """The parts' places, the weightiest first."""
        return [int(i) for i in np.argsort(-np.abs(self.values), kind="stable")]

    def strongest(self, top: int = TOP) -> list[Part]:
        """The weightiest parts, and the others in one line."""
        order = self.order()
        if len(order) <= top + 1:
            return [self.part(i) for i in order]
        rest = order[top:]
        return [*map(self.part, order[:top]), Part(f"{len(rest):,} others together", float(self.values[rest].sum()))]

    @property
    def gap(self) -> float | None:
        """What the values leave of the way from base to total."""
        return None if self.base is None or self.total is None else self.total - self.base - float(self.values.sum())

    @property
    def adds_up(self) -> bool:
        """Whether the values lead from base to total, but for a twentieth of all that moves."""
        moved = float(np.abs(self.values).sum()) + abs((self.total or 0.0) - (self.base or 0.0))
        return self.gap is not None and abs(self.gap) <= 0.05 * moved


def parts(e: "Explanation", row: int = 0) -> list[Parts]:
    """The parts of one row: its players, or one list for each tensor of values that is no map."""
    if e.players is not None:
        return [_players(e, e.players, row)]
    found = [(".".join(map(str, at)), leaf) for at, leaf in paths(e.values) if hasattr(leaf, "detach")]
    errors = {".".join(map(str, at)): leaf for at, leaf in paths(e.error) if hasattr(leaf, "detach")} if e.error is not None else {}
    return [_leaf(e, row, name, leaf, errors.get(name), len(found) == 1) for name, leaf in found if is_list(leaf[row].shape)]


def is_list(shape: Sequence[int]) -> bool:
    """Whether values of this shape are a list of parts rather than a map."""
    return sum(n > 1 for n in shape) <= 1


def _players(e: "Explanation", own: "Players", row: int) -> Parts:
    n = len(own.names[row])
    base, total = _ends(e, row)
    return Parts(
        names(e, row), array(own.values, row)[:n], array(own.error, row)[:n] if own.error is not None else None, held(e, row), base, total, "Base: all absent", e.signed,
        short_target(e.target[row]), f"Absent parts are replaced by {own.absent}" if own.absent else "",
        array(own.interactions, row)[:n, :n] if own.interactions is not None else None,
        np.asarray(own.labels[row].cpu().numpy(), dtype=np.int64) if own.labels is not None else None,
    )  # fmt: skip


def _leaf(e: "Explanation", row: int, name: str, leaf: Any, error: Any, alone: bool) -> Parts:
    values = array(leaf, row)
    axes = tuple(e.axes[1 : 1 + values.ndim]) if len(e.axes) == values.ndim + 1 else tuple(f"axis {i}" for i in range(values.ndim))
    named = e.names.get(axes[0], []) if len(axes) == 1 else []
    told = tuple(named[i] if i < len(named) else _position(i, values.shape, axes) for i in range(values.size))
    base, total = _ends(e, row) if alone else (None, None)
    start = f"Base: the baseline {e.baseline}" if len(str(e.baseline)) < 24 else "Base: the baseline"
    return Parts(
        told, values.reshape(-1), array(error, row).reshape(-1) if error is not None else None, held(e, row) if alone else (), base, total, start, e.signed,
        short_target(e.target[row]), note=f"Input {name}" if name else "",
    )  # fmt: skip


def _ends(e: "Explanation", row: int) -> tuple[float | None, float]:
    """The target without any part and with all."""
    return float(e.base[row]) if e.base is not None else None, float(e.total[row])


def names(e: "Explanation", row: int) -> tuple[str, ...]:
    """The names of a row's players; of columns without what they held."""
    if (mixed := _mixed(e)) is not None:
        return tuple(name for name, _ in mixed[row])
    return e.players.names[row] if e.players is not None else ()


def held(e: "Explanation", row: int) -> tuple[str, ...]:
    """What each part held, where parts are columns of a table: their cells in this row."""
    if (mixed := _mixed(e)) is not None:
        return tuple(what for _, what in mixed[row])
    cells = columns(e)
    return tuple(cell(float(v)) if v == v else "" for v in cells[row]) if cells is not None else ()


def columns(e: "Explanation") -> Floats | None:
    """(B, P) the table that was explained, where each column is one part; a cell that is no number is NaN."""
    if (mixed := _mixed(e)) is not None:
        return np.array([[_number(what) for _, what in row] for row in mixed])
    table = e.point
    if not hasattr(table, "ndim") or table.ndim != 2 or "column" not in e.axes:
        return None
    width = table.shape[1]
    if e.players is not None:
        each = e.players.labels
        if any(len(n) != width for n in e.players.names) or (each is not None and not bool((each.cpu() == each.new_tensor(range(width)).cpu()).all())):
            return None
    return np.asarray(table.detach().cpu().double().numpy(), dtype=np.float64)


def _mixed(e: "Explanation") -> tuple[tuple[tuple[str, str], ...], ...] | None:
    """(name, what it held), row by row, of a table of any kind, whose cells were only there or not; None elsewhere."""
    return e.players.cells() if e.players is not None and "column" in e.axes else None


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return float("nan")


def is_text(e: "Explanation") -> bool:
    """Whether the parts are pieces of a text: their axis says so."""
    return any(a in TEXT for a in e.axes)


def _position(i: int, shape: tuple[int, ...], axes: Sequence[str]) -> str:
    return ", ".join(f"{axis} {n}" for axis, n in zip(axes, np.unravel_index(i, shape), strict=True)) if shape else "the value"


def array(tensor: Any, row: int) -> Floats:
    """One row of a tensor in double precision."""
    return np.asarray(tensor[row].detach().to("cpu").double().numpy(), dtype=np.float64)


def cell(value: float) -> str:
    """A number out of a table: five figures, large ones in full."""
    return f"{value:,.0f}".replace("-", "−") if 1e5 <= abs(value) < 1e12 else number(value, 5)
