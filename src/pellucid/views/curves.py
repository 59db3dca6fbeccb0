"""How an answer moves along a column: a line for numbers and dates, points for words, the data below, rows' own curves behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from .caption import cut, measured, number
from .parts import Floats
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, RULE, lines, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..effects._curves import Curve

TONES = ("#14586b", "#b85400", "#7a3e9d", "#2e7d32", "#a3262a", "#7d6300", "#4b545d", "#1565c0")
"""The colours of groups; the style sheet has the same. Each has its own line besides."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 2, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (9, 3)), (0, (5, 5)))
STROKES = ("", "7 3", "2.5 2", "8 2.5 2 2.5", "5 1.5 1.5 1.5 1.5 1.5", "1.5 1.5", "10 4", "5 6")
"""The same as strokes of an SVG."""
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
SHOWN, BARS, FEW = 40, 24, 6
"""Rows' own curves that are drawn, bars of the data below, and points up to which each is marked."""
WIDE, HIGH, LEFT, TOP, FOOT = 360, 236, 46, 8, 172
"""The picture in HTML, its curve's left and upper edge, and where the curve ends below."""


@dataclass(frozen=True)
class Plot:
    """The curves of one column: one, or one for each group of rows."""

    curves: tuple["Curve", ...]
    relative: bool = False
    single: bool = True
    target: str = ""
    measure: str = ""

    @property
    def column(self) -> Any:
        return self.curves[0].column

    @property
    def words(self) -> bool:
        """Whether the column holds words: points on lines of their own, not a curve."""
        return not self.column.ordered

    @property
    def height(self) -> float:
        """Inches."""
        return max(1.2, 0.27 * len(self.levels())) if self.words else 2.6

    def levels(self) -> list[float]:
        """The words' codes in the order of the curve, "missing" last."""
        every = [float(a) for c in self.curves for a in c.at]
        return list(dict.fromkeys(a for a in every if a == a)) + ([float("nan")] if any(a != a for a in every) else [])

    def rows_at(self, level: float) -> int:
        """Rows of the data that hold a word; profiles of single rows all count the same table."""
        counts = [int(c.count[i]) for c in self.curves for i, a in enumerate(c.at) if _same(a, level)]
        return max(counts) if self.curves[0].own else sum(counts)

    def shown(self, c: "Curve") -> Floats:
        """(rows, points) the rows' own curves that are drawn: evenly over their last values. None where groups are compared."""
        if c.single is None or not self.single or (len(self.curves) > 1 and not c.own):
            return np.empty((0, len(c.at)))
        order = np.argsort(c.single[:, -1], kind="stable")
        return np.asarray(c.single[order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]])

    def reach(self) -> tuple[float, float]:
        """The least and the most that is drawn."""
        ends = [v for c in self.curves for v in (c.value - 1.96 * np.nan_to_num(c.error), c.value + 1.96 * np.nan_to_num(c.error), self.shown(c).reshape(-1), [y for _, y in c.own])]
        every = np.concatenate([np.asarray(v, float) for v in ends] + ([np.zeros(1)] if self.relative else []))
        every = every[np.isfinite(every)]
        return float(every.min()), float(every.max())

    # -- along the column ----------------------------------------------------------------------------------------------

    def span(self) -> tuple[float, float]:
        """The first and the last known cell."""
        known = np.concatenate([c.at[c.known] for c in self.curves])
        low, high = float(known.min()), float(known.max())
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @property
    def gap(self) -> float | None:
        """Where "missing" stands: to the right of all cells; None where nothing is missing."""
        low, high = self.span()
        return high + 0.1 * (high - low) if any(np.isnan(c.at).any() for c in self.curves) else None

    def limits(self) -> tuple[float, float]:
        """The ends of the axis along the column."""
        low, high = self.span()
        room = 0.03 * (high - low)
        return low - room, (self.gap if self.gap is not None else high) + room * (1 + (self.gap is not None))

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round places along the column and their words."""
        low, high = self.span()
        few = np.unique(np.concatenate([c.at[c.known] for c in self.curves]))
        if len(few) <= min(most, FEW) and self.column.kind != "date":
            return [(float(p), number(float(p), 4)) for p in few if self.gap is None or p < high - 0.12 * (high - low) or p == few[0]]
        end = high - 0.12 * (high - low) * (self.gap is not None)
        if self.column.kind == "date":
            return dates(low, end, most)
        places = MaxNLocator(most, integer=self.column.kind in ("whole", "flag")).tick_values(low, high)
        return [(p, number(p, 6)) for p in places if low <= p <= end]

    def bars(self) -> list[tuple[float, float, float]]:
        """(left, right, share of the fullest) of the data below the curve."""
        seen = np.concatenate([c.seen for c in self.curves])
        low, high = self.span()
        inside = seen[(seen >= low) & (seen <= high)]
        if not len(inside):
            return []
        n, ends = np.histogram(inside, BARS, (low, high))
        return [(float(a), float(b), k / n.max()) for a, b, k in zip(ends[:-1], ends[1:], n, strict=True)]

    # -- in axes ---------------------------------------------------------------------------------------------------------

    def draw(self, ax: "Axes") -> "Axes":
        """Drawn into axes of yours, which come back; the vertical limits are left to be shared."""
        (self._points if self.words else self._lines)(ax)
        return ax

    def _lines(self, ax: "Axes") -> None:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(RULE)
        ax.tick_params(color=RULE, labelcolor=MUTED, labelsize=8)
        if self.relative:
            ax.axhline(0, color=MUTED, lw=0.8, ls=(0, (3, 3)), zorder=1)
        for k, c in enumerate(self.curves):
            tone, known = TONES[k % len(TONES)], c.known
            for y in self.shown(c):
                ax.plot(c.at[known], y[known], color=tone if c.own else MUTED, lw=0.5, alpha=0.9 if c.own else 0.35, zorder=2)
            if not c.own:
                ax.fill_between(c.at[known], (c.value - 1.96 * c.error)[known], (c.value + 1.96 * c.error)[known], color=tone, alpha=0.2, lw=0, zorder=3)
            ax.plot(c.at[known], c.value[known], color=tone, lw=1.8, ls=DASHES[k % len(DASHES)], label=cut(c.cohort, LETTERS), marker="o" if len(known) <= FEW else "", ms=4, zorder=4)
            if self.gap is not None and np.isnan(c.at[-1]):
                ax.errorbar(self.gap, c.value[-1], yerr=1.96 * np.nan_to_num(c.error[-1]), fmt="s", ms=4.5, color=tone, lw=1.2, capsize=2.5, zorder=5)
            for x, y in c.own:
                ax.plot(x if x == x else self.gap or 0.0, y, "o", ms=6, color=tone, mec="white", zorder=6)
        ticks = self.ticks() + ([(self.gap, "missing")] if self.gap is not None else [])
        ax.set_xticks([x for x, _ in ticks], [t for _, t in ticks])
        if self.gap is not None:
            ax.axvline((self.gap + self.span()[1]) / 2, color=RULE, lw=0.8, ls=(0, (1, 2)))
        ax.set_xlim(*self.limits())
        strip = ax.inset_axes((0, -0.24, 1, 0.12))
        strip.set_axis_off()
        strip.bar([a for a, _, _ in self.bars()], [k for _, _, k in self.bars()], [b - a for a, b, _ in self.bars()], align="edge", color="#aab4bd")
        strip.set_xlim(*self.limits())
        ax.tick_params(axis="x", pad=1)
        ax.set_title(cut(self.column.name, 2 * LETTERS), size=10, loc="left", color=INK, weight="bold", parse_math=False)

    def _points(self, ax: "Axes") -> None:
        levels = self.levels()
        lines(ax, [cut(self.column.word(a), LETTERS) for a in levels])
        ax.axvline(0, color=MUTED, lw=0.8, ls=(0, (3, 3)), zorder=1) if self.relative else None
        for k, c in enumerate(self.curves):
            for x, y, error, i in self._dots(k, c, levels):
                for own in self.shown(c)[:, i]:
                    ax.plot([own], [y], "|", ms=7, color=MUTED, alpha=0.35, zorder=2)
                ax.errorbar(x, y, xerr=error, fmt=MARKS[k % len(MARKS)], ms=5, color=TONES[k % len(TONES)], lw=1.3, capsize=2.5, zorder=4)
        for y, n in enumerate(map(self.rows_at, levels)):
            words(ax, 1.01, y, f"{n:,}", transform=ax.get_yaxis_transform(), color=MUTED, size=7.5)
        words(ax, 1.01, -0.75, "rows", transform=ax.get_yaxis_transform(), color=MUTED, size=7.5)
        ax.set_title(cut(self.column.name, 2 * LETTERS), size=10, loc="left", color=INK, weight="bold", parse_math=False)

    def _dots(self, k: int, c: "Curve", levels: Sequence[float]) -> list[tuple[float, float, float, int]]:
        """(value, line, 1.96 standard errors, place on the curve) of one group, beside each other's."""
        aside = 0.0 if len(self.curves) == 1 else 0.6 * (k / (len(self.curves) - 1) - 0.5)
        return [(float(c.value[i]), y + aside, 1.96 * float(np.nan_to_num(c.error[i])), i) for i, a in enumerate(c.at) for y, level in enumerate(levels) if _same(a, level)]

    # -- in HTML -----------------------------------------------------------------------------------------------------------

    def html(self, reach: tuple[float, float]) -> str:
        """As a figure of a fragment, on a scale that other columns share."""
        return self._html_points(reach) if self.words else self._html_lines(reach)

    def _html_lines(self, reach: tuple[float, float]) -> str:
        (left, right), (low, high) = self.limits(), reach

        def x(v: float) -> float:
            return LEFT + (v - left) / (right - left) * (WIDE - LEFT - 6)

        def y(v: float) -> float:
            return FOOT - (v - low) / (high - low) * (FOOT - TOP)

        def path(a: Floats, b: Floats) -> str:
            return "M" + "L".join(f"{x(p):.1f} {y(q):.1f}" for p, q in zip(a, b, strict=True))

        made = []
        for k, c in enumerate(self.curves):
            at, wide = c.at[c.known], 1.96 * np.nan_to_num(c.error[c.known])
            band = path(np.append(at, at[::-1]), np.append(c.value[c.known] - wide, (c.value[c.known] + wide)[::-1])) + "Z" if not c.own else ""
            spare = self._spare(c)
            marks = [(f"{x(p if p == p else self.gap or 0):.1f}", f"{y(q):.1f}") for p, q in c.own]
            gap = {"x": f"{x(spare[0]):.1f}", "y": f"{y(spare[1]):.1f}", "ends": [f"{y(spare[1] + s * spare[2]):.1f}" for s in (-1, 1)]} if spare else None
            few = [(f"{x(float(p)):.1f}", f"{y(float(q)):.1f}") for p, q in zip(at, c.value[c.known], strict=True)] if len(at) <= FEW else []
            made.append({"few": few, "tone": f"t{k % len(TONES)}", "band": band, "line": path(at, c.value[c.known]), "stroke": STROKES[k % len(STROKES)],
                         "single": [path(at, v[c.known]) for v in self.shown(c)] if not c.own else [],
                         "own": marks, "gap": gap})  # fmt: skip
        ticks = [(f"{x(p):.1f}", t) for p, t in self.ticks(4)] + ([(f"{x(self.gap):.1f}", "missing")] if self.gap is not None else [])
        bars = [(f"{x(a):.1f}", f"{x(b) - x(a) - 0.6:.1f}", f"{22 * h:.1f}", f"{FOOT + 28 - 22 * h:.1f}") for a, b, h in self.bars()]
        sides = [(f"{y(p):.1f}", number(p, 4)) for p in MaxNLocator(4).tick_values(low, high) if low <= p <= high]
        return rendered("curves", head=self.column.name, made=made, ticks=ticks, sides=sides, bars=bars, zero=f"{y(0):.1f}" if self.relative else None, told=self.told())

    def _spare(self, c: "Curve") -> tuple[float, float, float] | None:
        """(place, value, 1.96 standard errors) of "missing"."""
        return (self.gap, float(c.value[-1]), 1.96 * float(np.nan_to_num(c.error[-1]))) if self.gap is not None and np.isnan(c.at[-1]) else None

    def _html_points(self, reach: tuple[float, float]) -> str:
        low, high = reach
        levels = self.levels()

        def x(v: float) -> str:
            return f"{(v - low) / (high - low) * 100:.2f}"

        rows: list[dict[str, Any]] = [{"name": self.column.word(a), "dots": [], "value": ""} for a in levels]
        for k, c in enumerate(self.curves):
            for value, height, error, i in self._dots(k, c, levels):
                row = round(height)
                own = [x(float(v)) for v in self.shown(c)[:, i]]
                rows[row]["dots"].append({"tone": f"t{k % len(TONES)}", "x": x(value), "y": f"{50 + 100 * (height - row):.0f}", "ends": [x(value - error), x(value + error)], "own": own})
                told = measured(value, error / 1.96 if error else None, self.relative)
                rows[row]["value"] = told if len(self.curves) == 1 else ""
        for line, level in zip(rows, levels, strict=True):
            n = self.rows_at(level)
            line["rows"] = f"{n:,} row{'s' * (n != 1)}"
        return rendered("levels", head=self.column.name, rows=rows, zero=x(0) if self.relative else None, low=number(low), high=number(high), told=self.told())

    def told(self) -> str:
        """One sentence for those who cannot see the picture."""
        c = self.curves[0]
        best, worst = int(np.nanargmax(c.value)), int(np.nanargmin(c.value))
        return f"{self.column.name}: {self.measure} highest at {c.words[best]} ({number(float(c.value[best]))}), lowest at {c.words[worst]} ({number(float(c.value[worst]))})"


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


STEPS: tuple[tuple[Any, int], ...] = (
    ("s", 1), ("s", 10), ("m", 1), ("m", 10), ("h", 1), ("h", 6), ("D", 1), ("D", 2), ("D", 7), ("D", 14), ("M", 1), ("M", 3), ("M", 6), ("Y", 1), ("Y", 2), ("Y", 5), ("Y", 10), ("Y", 50), ("Y", 200),
)  # fmt: skip
"""Steps between dates on an axis, from fine to coarse."""
LETTERS_OF = {"Y": 4, "M": 7, "D": 10, "h": 16, "m": 16, "s": 19}
"""How much of a date tells one step from the next."""


def dates(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """At most so many round dates between two, seconds since 1970, and their words."""
    ends = [np.datetime64(round(v), "s") for v in (low, high)]
    for unit, step in STEPS:
        first, last = (int(v.astype(f"datetime64[{unit}]").astype(np.int64)) for v in ends)
        if (last - first) // step > most:
            continue
        every = range(-(-(first) // step) * step, last + 1, step)
        places = [np.datetime64(k, unit).astype("datetime64[s]") for k in every]
        inside = [(float(p.astype(np.int64)), str(p)[: LETTERS_OF[unit]].replace("T", " ")) for p in places if ends[0] <= p <= ends[1]]
        if len(inside) <= most:
            return inside
    return []
