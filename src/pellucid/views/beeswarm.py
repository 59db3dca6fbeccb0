"""Many rows at once: for every column one dot a row, placed by what it was worth and coloured by what it held."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, to_hex

from ..core.errors import NotApplicable
from .caption import cut, number, short_target
from .parts import Floats, columns, names
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, RULE, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

TOP, ROWS, LEVELS = 12, 1_000, 12
"""Columns and rows that are drawn, and how many colours tell what a column held."""
FEWEST = 8
"""From how many rows on a swarm shows more than the rows one by one."""


@dataclass(frozen=True)
class Beeswarm:
    """Which columns matter over many rows, which way, and for which of their values?"""

    names: tuple[str, ...]
    values: Floats
    held: Floats | None
    target: str
    left_out: str = ""
    kind: ClassVar[str] = "beeswarm"

    @classmethod
    def of(cls, e: "Explanation", row: int | None = None) -> Self:
        own, values = _table(e)
        cells = columns(e)
        most = len(own) if len(own) <= TOP + 2 else TOP
        order = np.argsort(-np.abs(values).mean(0), kind="stable")[:most]
        rows = np.unique(np.linspace(0, len(values) - 1, min(ROWS, len(values))).round().astype(int))
        told = [f"the {most} columns with the largest mean magnitude of {len(own)}"] if len(own) > most else []
        told += [f"{len(rows):,} of {len(values):,} rows, evenly spaced"] if len(rows) < len(values) else []
        shown = cells[np.ix_(rows, order)] if cells is not None else None
        targets = dict.fromkeys(map(short_target, e.target))
        target = next(iter(targets)) if len(targets) == 1 else "each row's own target"
        return cls(tuple(own[i] for i in order), values[np.ix_(rows, order)], shown, target, " and ".join(told))

    @property
    def indent(self) -> float:
        return 2.2

    @property
    def height(self) -> float:
        return 0.36 * len(self.names) + 0.15

    def reach(self) -> tuple[float, float]:
        """Least and most value, zero among them."""
        low, high = min(0.0, float(self.values.min())), max(0.0, float(self.values.max()))
        room = 0.03 * (high - low) or 0.5
        return low - room, high + room

    def levels(self) -> np.ndarray:
        """(B, P) what each column held, 0 to LEVELS - 1 from its 5th to its 95th percentile; -1 where it held no number, or nothing that varies."""
        if self.held is None:
            return np.full(self.values.shape, -1)
        finite = np.where(np.isfinite(self.held), self.held, np.nan)
        out = np.full(self.values.shape, -1)
        for j in range(finite.shape[1]):
            known = finite[:, j][np.isfinite(finite[:, j])]
            if known.size and np.ptp(known) > 0:
                low, high = np.percentile(known, [5, 95])
                low, high = (low, high) if high > low else (known.min(), known.max())
                unit = np.clip((finite[:, j] - low) / (high - low), 0, 1)
                out[:, j] = np.where(np.isfinite(unit), np.nan_to_num(unit) * (LEVELS - 1) + 0.5, -1).astype(int)
        return out

    def html(self, side: int = 512) -> str:
        low, high = self.reach()
        levels = self.levels()
        rows = []
        for j, name in enumerate(self.names):
            x = (self.values[:, j] - low) / (high - low) * 100
            y = 50 + 42 * swarm(self.values[:, j], low, high)
            dots = [(tint(k), "".join(f"M{a:.1f} {b:.0f}h0" for a, b in zip(x[levels[:, j] == k], y[levels[:, j] == k], strict=True))) for k in range(-1, LEVELS)]
            rows.append({"name": name, "dots": [(c, path) for c, path in dots if path], "mean": number(float(np.abs(self.values[:, j]).mean()))})
        scale = [tint(k) for k in range(LEVELS)] if self.held is not None else []
        told = {"target": self.target, "scale": scale, "left_out": self.left_out, "many": len(self.values)}
        return rendered("beeswarm", rows=rows, zero=f"{-low / (high - low) * 100:.2f}", low=number(low), high=number(high), **told)

    def draw(self, ax: "Axes") -> "Axes":
        low, high = self.reach()
        levels = self.levels()
        lines(ax, [cut(n, LETTERS) for n in self.names])
        for j in range(len(self.names)):
            y = j + 0.4 * swarm(self.values[:, j], low, high)
            ax.axhline(j, color=RULE, lw=0.4, zorder=0)
            ax.scatter(self.values[:, j], y, s=9, c=[tint(int(k)) for k in levels[:, j]], lw=0, zorder=3)
        ax.axvline(0, color=INK, lw=0.8, zorder=1)
        ax.set_xlim(low, high)
        told = f"lowers {self.target}  ←  0  →  raises {self.target}"
        if self.held is not None:
            _key(ax)
        ax.set_xlabel(told + (f"\n{self.left_out[:1].upper()}{self.left_out[1:]}" if self.left_out else ""), size=8, color=MUTED, parse_math=False)
        return ax


def _table(e: "Explanation") -> tuple[tuple[str, ...], Floats]:
    """(names, (B, P)) where every row has the same parts."""
    if e.players is not None and shared(e):
        return names(e, 0), np.asarray(e.players.values.detach().cpu().double().numpy())
    if e.players is None and hasattr(e.values, "ndim") and e.values.ndim == 2:
        named = e.names.get(e.axes[1], []) if len(e.axes) == 2 else []
        n = e.values.shape[1]
        return tuple(named[i] if i < len(named) else f"column {i}" for i in range(n)), np.asarray(e.values.detach().cpu().double().numpy())
    raise NotApplicable('kind="beeswarm" needs rows that share their players or columns; these do not. Take kind="bar" for one row.')


def shared(e: "Explanation") -> bool:
    """Whether every row has the same players."""
    return e.players is not None and len({names(e, row) for row in range(len(e))}) == 1


def swarm(values: Floats, low: float, high: float, bins: int = 90) -> Floats:
    """How far each dot steps aside, -1 to 1, so that dots of about the same value do not cover each other."""
    place = np.clip(((values - low) / (high - low) * bins).astype(int), 0, bins)
    order = np.argsort(place, kind="stable")
    turn = np.zeros(len(values))
    starts = np.flatnonzero(np.r_[True, np.diff(place[order]) != 0])
    counts = np.diff(np.r_[starts, len(values)])
    turn[order] = np.arange(len(values)) - np.repeat(starts, counts)
    aside = np.ceil(turn / 2) * np.where(turn % 2 == 0, -1, 1)
    return aside / max(6.0, float(np.abs(aside).max(initial=0.0)))


@functools.cache
def tint(level: int) -> str:
    """The colour of a level, dark for low and bright for high; grey where nothing is known. Neither end is lost on paper or on a dark page."""
    return "#8a929a" if level < 0 else to_hex(colormaps["inferno"](0.18 + 0.66 * level / (LEVELS - 1)))


def _key(ax: "Axes") -> None:
    """What the colours mean, above the axes on the right."""
    inside = ax.inset_axes((0.72, 1.02, 0.16, 0.025))
    inside.imshow(np.arange(LEVELS)[None], aspect="auto", cmap=ListedColormap([tint(k) for k in range(LEVELS)]))
    inside.set_axis_off()
    for x, side, text in ((0.71, "right", "the column held little"), (0.89, "left", "much")):
        ax.text(x, 1.032, text, transform=ax.transAxes, ha=side, va="center", size=8, color=MUTED)
