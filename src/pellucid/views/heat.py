"""What two columns do together: a heat map whose cells say how many rows lie there, and which of them nobody has seen."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from .caption import cut, number
from .parts import Floats
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..effects._curves import Surface

SIDE, LEFT, TOP = 260, 86, 8
"""The map in HTML, and its left and upper edge."""
NOTHING = 1e-9
"""Below this, effects are what rounding leaves of zero."""
UNSEEN = "No row of the data lies in hatched cells: what they say is extrapolation."


@dataclass(frozen=True)
class Heat:
    """One surface: colour is the effect, a dot the number of rows, hatching that there are none."""

    surface: "Surface"
    relative: bool = False
    measure: str = ""
    ends: tuple[float, float] | None = None
    """The scale that groups of rows share; None: its own."""

    @property
    def name(self) -> str:
        a, b = self.surface.columns
        whose = "" if self.surface.cohort == "all rows" else f", {self.surface.cohort}"
        return f"{a.name} and {b.name}{whose}"

    def scale(self) -> tuple[float, float]:
        """The ends of the colours: symmetric about zero where values are differences."""
        if self.ends is not None:
            return self.ends
        v = self.surface.value
        most = float(np.abs(v).max())
        most = most if most > NOTHING else 1.0
        return (-most, most) if self.relative else (float(v.min()), float(v.max()) if v.max() > v.min() else float(v.min()) + 1)

    def colour(self, value: float) -> str:
        low, high = self.scale()
        return to_hex(colormaps["RdBu_r" if self.relative else "inferno"]((value - low) / (high - low)))

    def dots(self) -> Floats:
        """(K, M) the radius of each cell's dot, as a share of the largest: its area is the number of rows."""
        n = self.surface.count
        return np.sqrt(n / max(int(n.max()), 1))

    def labels(self, axis: int, most: int) -> list[tuple[int, str]]:
        """Words along a side, thinned to what fits."""
        c, at = self.surface.columns[axis], self.surface.at[axis]
        places = np.unique(np.linspace(0, len(at) - 1, min(most, len(at))).round().astype(int))
        return [(int(i), cut(_short(c, float(at[i])), 14)) for i in places]

    def draw(self, ax: "Axes") -> "Axes":
        """Drawn into axes of yours, which come back."""
        s, (low, high) = self.surface, self.scale()
        shown = ax.imshow(s.value.T, origin="lower", aspect="auto", cmap="RdBu_r" if self.relative else "inferno", vmin=low, vmax=high, interpolation="nearest")
        radius = self.dots()
        for i, j in np.ndindex(s.value.shape):
            if s.count[i, j] == 0:
                ax.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, facecolor=(0.94, 0.94, 0.94, 0.72), edgecolor="#8a929a", hatch="////", lw=0))
        seen = np.argwhere(s.count > 0)
        ax.scatter(seen[:, 0], seen[:, 1], s=1 + 34 * radius[s.count > 0] ** 2, facecolor="white", edgecolor=INK, lw=0.5, zorder=3)
        for side, axis in ((ax.xaxis, 0), (ax.yaxis, 1)):
            told = self.labels(axis, 6)
            side.set_ticks([i for i, _ in told], [t for _, t in told], parse_math=False)
        ax.spines[:].set_color(RULE)
        ax.tick_params(color=RULE, labelcolor=MUTED, labelsize=8)
        ax.set_xlabel(cut(s.columns[0].name, LETTERS), size=9, color=INK, parse_math=False)
        ax.set_ylabel(cut(s.columns[1].name, LETTERS), size=9, color=INK, parse_math=False)
        ax.set_title(cut(self.name, 2 * LETTERS), size=10, loc="left", color=INK, weight="bold", parse_math=False)
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.05, pad=0.03)
        bar.outline.set_edgecolor(RULE)
        bar.ax.tick_params(labelsize=8, labelcolor=MUTED, color=RULE)
        return ax

    def html(self) -> str:
        """As a figure of a fragment."""
        s, (low, high), radius = self.surface, self.scale(), self.dots()
        n, m = s.value.shape
        wide, tall = SIDE / n, SIDE / m
        cells = [
            {"x": f"{LEFT + i * wide:.1f}", "y": f"{TOP + (m - 1 - j) * tall:.1f}", "fill": self.colour(float(s.value[i, j])), "seen": bool(s.count[i, j]),
             "cx": f"{LEFT + (i + 0.5) * wide:.1f}", "cy": f"{TOP + (m - 0.5 - j) * tall:.1f}", "r": f"{0.6 + 0.36 * min(wide, tall, 26) * radius[i, j]:.1f}"}
            for i in range(n) for j in range(m)
        ]  # fmt: skip
        bottom = [(f"{LEFT + (i + 0.5) * wide:.1f}", t) for i, t in self.labels(0, 4)]
        side = [(f"{TOP + (m - 0.5 - j) * tall:.1f}", t) for j, t in self.labels(1, 8)]
        ramp = [self.colour(low + (high - low) * k / 23) for k in range(24)]
        told = {"first": s.columns[0].name, "second": s.columns[1].name, "low": number(low), "high": number(high), "measure": self.measure, "unseen": int((s.count == 0).sum())}
        size = {"wide": f"{wide + 0.3:.2f}", "tall": f"{tall + 0.3:.2f}", "mark": f"hatch{zlib.crc32(self.name.encode())}"}
        return rendered("heat", head=self.name, cells=cells, bottom=bottom, side=side, ramp=ramp, note=UNSEEN, **size, **told)


def heats(surfaces: Sequence["Surface"], relative: bool, measure: str) -> list[Heat]:
    """A heat map for every surface; those of one pair share a scale, so that groups of rows can be compared."""
    own = [Heat(s, relative, measure) for s in surfaces]
    scales: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for h in own:
        scales.setdefault(tuple(c.name for c in h.surface.columns), []).append(h.scale())
    shared = {pair: (min(a for a, _ in s), max(b for _, b in s)) for pair, s in scales.items()}
    return [replace(h, ends=shared[tuple(c.name for c in h.surface.columns)]) for h in own]


def _short(c: "object", code: float) -> str:
    """A cell in few letters."""
    told: str = c.word(code)  # type: ignore[attr-defined]
    return number(code) if c.kind == "number" and code == code else told  # type: ignore[attr-defined]
