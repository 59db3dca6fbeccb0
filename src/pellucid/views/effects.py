"""Effects of columns, as a figure and as HTML: a picture for every column, on one scale, and one for every pair."""

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core import catalogue
from .caption import cut, short_target
from .curves import DASHES, STROKES, TONES, Plot
from .docstring import section
from .heat import Heat, heats
from .rendered import rendered
from .scene import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.estimator import Fitted
    from ..effects._curves import Effects

WIDTH, ACROSS, HEAD = 12.6, 3, 1.05
"""Inches of the figure, pictures in a line, and inches of its head."""


def plots(found: "Effects", centred: bool = False, single: bool = True) -> list[Plot]:
    """A plot for every column. `centred`: every curve starts at zero (c-ICE); `single`: the rows' own curves too, where they were kept."""
    by: dict[str, list[Any]] = {}
    for c in found.curves:
        by.setdefault(c.column.name, []).append(c.centred() if centred else c)
    measure = f"{found.measure}, less that at the first point" if centred else found.measure
    return [Plot(tuple(own), found.relative or centred, single, target_of(found), measure) for own in by.values()]


def draw(found: "Effects", ax: "Axes", column: str | None = None, centred: bool = False, single: bool = True) -> "Axes":
    """One column's curves, or the only pair, in axes of yours, which come back."""
    if column is not None:
        found.curve(column)
    for plot in plots(found, centred, single):
        if column in (None, plot.column.name):
            plot.draw(ax)
            (ax.set_xlabel if plot.words else ax.set_ylabel)(cut(_axis(found, centred), 60), size=8, color=MUTED, parse_math=False)
            return ax
    return Heat(found.surfaces[0], found.relative, found.measure).draw(ax)


def figure(found: "Effects", centred: bool = False, single: bool = True) -> Figure:
    """Every column on one scale, then every pair."""
    made, maps = plots(found, centred, single), heats(found.surfaces, found.relative, found.measure)
    lines, points = [p for p in made if not p.words], [p for p in made if p.words]
    grid = [lines[i : i + ACROSS] for i in range(0, len(lines), ACROSS)] + [points[i : i + 2] for i in range(0, len(points), 2)] + [maps[i : i + 2] for i in range(0, len(maps), 2)]
    tall = [max(p.height if isinstance(p, Plot) else 3.05 for p in row) + (1.25 if isinstance(row[0], Plot) and not row[0].words else 0.95) for row in grid]
    cohorts = list(dict.fromkeys(c.cohort for c in found.curves))
    notes = [line for note in found.notes[:6] for line in textwrap.wrap(f"{note}.", 165)]
    high = HEAD + 0.25 * (len(cohorts) > 1) + sum(tall) + 0.17 * len(notes) + 0.3
    fig = Figure(figsize=(WIDTH, high), dpi=144, facecolor="white")
    fig.text(0.35 / WIDTH, 1 - 0.3 / high, cut(title(found), 95), size=15, weight="bold", color=INK, va="top", parse_math=False)
    fig.text(0.35 / WIDTH, 1 - 0.68 / high, cut(_key(found, centred, single), 190), size=9, color=MUTED, va="top", parse_math=False)
    y = HEAD
    if len(cohorts) > 1:
        _legend(fig, cohorts, y - 0.1, high)
        y += 0.25
    reach = _reach(made)
    for row, inches in zip(grid, tall, strict=True):
        _row(fig, row, y, inches, high, reach, found, _axis(found, centred))
        y += inches
    fig.text(0.35 / WIDTH, 1 - (y + 0.08) / high, "\n".join(notes), size=8, color=MUTED, va="top", linespacing=1.5, parse_math=False)
    return fig


def _row(fig: Figure, row: list[Any], y: float, inches: float, high: float, reach: tuple[float, float], found: "Effects", axis: str) -> None:
    wordy = isinstance(row[0], Plot) and row[0].words
    across = ACROSS if isinstance(row[0], Plot) and not wordy else 2
    room = (WIDTH - 0.35) / across
    for k, p in enumerate(row):
        left = 0.35 + k * room + (1.75 if wordy else 0.6)
        wide = room - (2.5 if wordy else 0.95)
        tall = p.height if isinstance(p, Plot) else 3.0
        ax = fig.add_axes((left / WIDTH, 1 - (y + 0.35 + tall) / high, wide / WIDTH, tall / high))
        if isinstance(p, Plot):
            p.draw(ax)
            (ax.set_xlim if p.words else ax.set_ylim)(*reach)
            if p.words or k == 0:
                (ax.set_xlabel if p.words else ax.set_ylabel)(cut(axis, 52), size=8, color=MUTED, parse_math=False)
        else:
            p.draw(ax)


def _legend(fig: Figure, cohorts: list[str], y: float, high: float) -> None:
    handles = [Line2D([], [], color=TONES[k % len(TONES)], ls=DASHES[k % len(DASHES)], lw=1.8) for k in range(len(cohorts))]
    made = fig.legend(handles, [cut(c, 30) for c in cohorts], ncols=min(len(cohorts), 4), loc="upper left", bbox_to_anchor=(0.3 / WIDTH, 1 - y / high), frameon=False, fontsize=8.5)
    for text in made.get_texts():
        text.set_parse_math(False)


def fragment(found: "Effects", centred: bool = False, single: bool = True) -> str:
    """The same as HTML: inline SVG, no script."""
    made = plots(found, centred, single)
    reach = _reach(made)
    cohorts = list(dict.fromkeys(c.cohort for c in found.curves))
    legend = [{"name": n, "tone": f"t{k % len(TONES)}", "stroke": STROKES[k % len(STROKES)]} for k, n in enumerate(cohorts)] if len(cohorts) > 1 else []
    maps = [h.html() for h in heats(found.surfaces, found.relative, found.measure)]
    return rendered("effects", axis=_axis(found, centred), key=_key(found, centred, single), legend=legend, notes=found.notes,
                    lines=[p.html(reach) for p in made if not p.words], points=[p.html(reach) for p in made if p.words], heats=maps)  # fmt: skip


def title(found: "Effects") -> str:
    """Which effects, on which target, of which model's columns."""
    return f"{title_of(found)} on {target_of(found)}"


def title_of(found: "Fitted") -> str:
    """The procedure's title in words; its name where the catalogue does not know it."""
    entry = catalogue.entries("effects").get(found.estimator)
    return entry.card.title if entry else (found.estimator or type(found).__name__).replace("-", " ").capitalize()


def target_of(found: "Fitted") -> str:
    """The target in few words."""
    return ", ".join(map(short_target, found.target[:2])) or "the answer"


def limits(found: "Fitted") -> list[str]:
    """When it misleads, and what no effect shows."""
    entry = catalogue.entries("effects").get(found.estimator)
    misleads = section(entry.doc, "Misleads when") if entry else ""
    own = [f"{title_of(found)} misleads when: {misleads}"] if misleads else []
    return [*own, "It shows how this model's answers depend on its columns. It does not show that changing a column in the world would change what happens."]


def _reach(made: list[Plot]) -> tuple[float, float]:
    """One scale for all columns, with a little room."""
    ends = [p.reach() for p in made] or [(0.0, 1.0)]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _axis(found: "Effects", centred: bool) -> str:
    return f"{found.measure} of {target_of(found)}{', less that at the first point' if centred else ''}"


def _key(found: "Effects", centred: bool, single: bool) -> str:
    kept = any(c.single is not None for c in found.curves) and single and len({c.cohort for c in found.curves}) == 1
    said = ["the band is 95 %", "bars below: the data"] if any(p.column.ordered for p in found.curves) else ["whiskers: 95 %"]
    said = ["one line a row, the dot is the row itself"] if any(c.own for c in found.curves) else said if found.curves else []
    said += ["thin lines: single rows"] if kept and not any(c.own for c in found.curves) else []
    said += ["0: the mean over rows"] if found.relative and not centred else ["every row starts at 0"] if centred else []
    per = {c.cohort: c.rows for c in found.curves} | {s.cohort: s.rows for s in found.surfaces}
    rows = max(per.values(), default=0) if any(c.own for c in found.curves) else sum(per.values())
    return " · ".join([f"{rows:,} rows", *said, f"seed {found.provenance.get('seed', 0)}"])
