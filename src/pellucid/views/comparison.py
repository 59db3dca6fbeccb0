"""A comparison as a table with intervals, maps side by side on one scale, and where they disagree."""

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ..run.comparison import Compared, Comparison, Shown, better, row_name, title as metric_title
from . import paint
from .caption import cut, number
from .evidence import MARKS, VERDICTS, cost_text
from .panels import Panel, Scale
from .rendered import rendered
from .scene import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALE = Scale(-1.0, 1.0, True, 99.0)
UNSIGNED = Scale(0.0, 1.0, False, 99.0)
METRICS = 4
"""Metrics that a picture has room for; the table and the page's JSON have all."""
DOT, WEAK = "#14586b", "#8a929a"


def title(found: Comparison) -> str:
    """What a person reads first."""
    rows = len(found.ids)
    return f"{len(found.methods)} methods compared on {rows:,} row{'s' * (rows != 1)}"


def limits(found: Comparison) -> list[str]:
    """What it does not show."""
    few = ["On few rows an order of methods is an accident of these rows: see the intervals, and compare more rows."] if len(set(found.groups)) < 6 else []
    return [
        *few, "Each score tests one thing, and scores of one kind favour methods of that kind: methods that hide parts do well where parts are hidden. No score is the sum of the others.",
        "A method that beats the others here explains this model on these rows best as far as these scores can tell. It is not proven right, nor better elsewhere.",
        "Maps are drawn as shares of their own 99th percentile: their units differ between methods, and colours compare places, not amounts.",
    ]  # fmt: skip


# ---------------------------------------------------------------- HTML


def fragment(found: Comparison) -> str:
    """Findings, table, maps, agreement."""
    metrics = found.metrics
    heads = [{"name": metric_title(m), "way": {"higher": "higher is better", "lower": "lower is better"}.get(better(m), "a fact")} for m in metrics]
    lines = [{"name": c.name, "control": c.control, "why": c.why, "cost": "" if c.control else cost_text(_per_row(found, c)), **_verdict(c), "cells": [_cell(found, c, m) for m in metrics]}
             for c in found.lines]  # fmt: skip
    bar = paint.uri(paint.bar(SCALE))
    tests = [{"metric": metric_title(r.metric), "words": r.words(), "pairs": [_pair(p) for p in r.pairs[:40]]} for r in found.rankings]
    told = {"title": title(found), "findings": found.findings(), "heads": heads, "lines": lines}
    return rendered("comparison", **told, shown=[_shown_html(found, s) for s in found.shown], bar=bar, matrix=_matrix(found), tests=tests)


def _per_row(found: Comparison, c: Compared) -> Any:
    from ..core.evidence import Cost

    n = max(len(found.ids), 1)
    return Cost(round(c.cost.forward_rows / n), round(c.cost.backward_rows / n), c.cost.seconds / n)


def _verdict(c: Compared) -> dict[str, str]:
    if not c.verdict:
        return {"word": "", "tone": "", "mark": "", "reason": ""}
    word, tone = VERDICTS[c.verdict]
    reason = next((r for r in c.reasons if not r.startswith(("Rows:", "Mean z"))), "")
    return {"word": word, "tone": tone, "mark": MARKS[tone], "reason": reason}


def _cell(found: Comparison, c: Compared, metric: str) -> dict[str, str]:
    """A mean with its interval as an SVG on the metric's own scale, and its rank."""
    i = found.interval(c, metric)
    if i is None:
        return {"value": "–", "between": "", "svg": "", "rank": ""}
    low, high = reach(found, metric)
    at = lambda v: f"{min(max((v - low) / (high - low), 0), 1) * 100:.1f}"  # noqa: E731
    ranks = next((r.ranks for r in found.rankings if r.metric == metric), {})
    rank = f"rank {ranks[c.name]:.1f}" if c.name in ranks else ""
    whole = math.isfinite(i.low)
    return {"value": number(i.mean, 2), "between": f"{number(i.low, 2)} to {number(i.high, 2)}" if whole else "", "x": at(i.mean), "low": at(i.low if whole else i.mean),
            "high": at(i.high if whole else i.mean), "zero": at(0.0) if low < 0 < high else "", "svg": "1", "rank": rank}  # fmt: skip


def reach(found: Comparison, metric: str) -> tuple[float, float]:
    """The ends of a metric's own scale: all means and finite intervals, and zero."""
    ends = [0.0]
    for c in found.lines:
        i = found.interval(c, metric)
        if i is not None:
            ends += [i.mean, *(v for v in (i.low, i.high) if math.isfinite(v))]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _shown_html(found: Comparison, s: Shown) -> dict[str, Any]:
    own = [m.name for m in found.methods]
    order = [n for n in [*own, *(n for n in s.maps if n not in own)] if n in s.maps]
    picture = paint.uri(s.picture.numpy(), 224) if s.picture is not None else ""
    return {"name": row_name(int(s.name) if s.name.isdigit() else s.name), "target": s.target, "agreement": number(s.agreement, 2), "picture": picture,
            "maps": [{"name": n, "control": n not in own, "src": paint.uri(painted(s, n), 224), "flat": s.maps[n].ndim == 1} for n in order], "parts": list(s.parts[:12])}  # fmt: skip


def painted(s: Shown, name: str) -> Any:
    """One map in colours, over its picture where there is one."""
    heat = np.asarray(s.maps[name].double().numpy())
    signed = bool((heat < 0).any())
    if heat.ndim == 1:
        return np.repeat(paint.overlay(Panel(heat[None], SCALE)), 8, 0)
    picture = None if s.picture is None else s.picture.numpy()
    return paint.overlay(Panel(heat, SCALE if signed else UNSIGNED, picture))


def _matrix(found: Comparison) -> dict[str, Any]:
    a = found.agreement
    if a is None:
        return {"names": [], "rows": []}
    controls = {c.name for c in found.lines if c.control}
    shade = lambda v: "" if not math.isfinite(v) else str(min(5, round(abs(v) * 5))) if abs(v) >= 0.1 else ""  # noqa: E731
    rows = [{"name": n, "control": n in controls, "cells": [{"text": number(float(a[i, j]), 2), "shade": shade(float(a[i, j]))} for j in range(len(found.names))]} for i, n in enumerate(found.names)]
    return {"names": list(found.names), "rows": rows}


def _pair(p: Any) -> dict[str, str]:
    between = f"{number(p.difference, 2)} [{number(p.low, 2)}, {number(p.high, 2)}]" if math.isfinite(p.low) else number(p.difference, 2)
    return {"first": p.first, "second": p.second, "difference": between, "effect": number(p.effect, 2), "p": number(p.adjusted, 2), "told": "yes" if p.told else "no"}


# ---------------------------------------------------------------- figure


def figure(found: Comparison, **settings: Any) -> "Figure":
    """The table as dots with intervals, the maps below it on one scale."""
    from matplotlib.figure import Figure

    shown = found.shown[:3]
    names = [n for n in found.names if any(n in s.maps for s in shown)]
    side = 1.55
    wide = max(12.6, 0.7 + side * (len(names) + 1) * 1.06)
    told = [line for f in found.findings()[:4] for line in textwrap.wrap(f, int(wide * 11.5))]
    top, table = 1.0 + 0.2 * len(told), 0.3 * len(found.lines) + 0.75
    tall = top + table + (0.75 + len(shown) * (side + 0.5) if names else 0.3)
    fig = Figure(figsize=(wide, tall), dpi=144, facecolor="white")
    words(fig, 0.35, 0.25, title(found), size=15, weight="bold")
    words(fig, 0.35, 0.65, "\n".join(told), size=9, color=MUTED)
    metrics = found.metrics[:METRICS]
    left, room = 3.5, (wide - 3.5 - 1.6) / max(len(metrics), 1)
    for k, m in enumerate(metrics):
        ax = fig.add_axes(((left + k * room) / wide, 1 - (top + table - 0.35) / tall, (room - 0.3) / wide, (table - 0.75) / tall))
        draw(found, ax, m)
        ax.set_title("\n".join(textwrap.wrap(metric_title(m), int(room * 8.5))[:2]), size=8, color=INK, loc="left")
    for k, c in enumerate(found.lines):
        y = top + 0.4 + (k + 0.5) * (table - 0.75) / len(found.lines) - 0.075
        v = _verdict(c)
        words(fig, 0.35, y, cut(c.name, 27), size=8.5, color=MUTED if c.control else INK, style="italic" if c.control else "normal")
        words(fig, 2.35, y, f"{v['mark']} {v['word']}" if v["word"] else "", size=8.5, color={"good": "#1d6b42", "doubtful": "#8a5a00", "bad": "#a3262a"}.get(v["tone"], MUTED))
        cost = "control" if c.control else "" if c.why else cost_text(_per_row(found, c)).replace(" forward", "f").replace(" backward", "b")
        words(fig, wide - 1.7, y, cost, size=7.5, color=MUTED)
    for r, s in enumerate(shown if names else ()):
        _strip(fig, found, s, names, top + table + 0.5 + r * (side + 0.5), side)
    if names:
        told_below = "Maps as shares of their own 99th percentile: red raises the answer, blue lowers it; dark to bright where a map has no signs. Grey dots are controls."
        words(fig, 0.35, tall - 0.28, told_below, size=7.5, color=MUTED)
    return fig


def draw(found: Comparison, ax: "Axes", metric: str = "") -> "Axes":
    """One metric: a dot a line at its mean, with its 95 % interval; controls grey."""
    metric = metric or found.metrics[0]
    for k, c in enumerate(found.lines):
        i = found.interval(c, metric)
        ax.axhline(k, color=RULE, lw=0.5, zorder=0)
        if i is not None:
            if math.isfinite(i.low):
                ax.plot([i.low, i.high], [k, k], color=WEAK if c.control else DOT, lw=1.6, solid_capstyle="round", alpha=0.7)
            ax.plot([i.mean], [k], "o", ms=4.5, color=WEAK if c.control else DOT)
    low, high = reach(found, metric)
    ax.axvline(0, color=INK, lw=0.6, zorder=0)
    ax.set(xlim=(low, high), ylim=(len(found.lines) - 0.5, -0.5), yticks=[])
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.tick_params(axis="x", color=RULE, labelcolor=MUTED, labelsize=7)
    return ax


def words(fig: "Figure", x: float, y: float, text: str, **look: Any) -> None:
    """Text whose top left corner lies at a place in inches."""
    w, h = fig.get_size_inches()
    fig.text(x / w, 1 - y / h, text, **{"va": "top", "color": INK, "linespacing": 1.4, "parse_math": False, **look})


def _strip(fig: "Figure", found: Comparison, s: Shown, names: list[str], y: float, side: float) -> None:
    """One row's picture and maps."""
    w, h = fig.get_size_inches()
    agree = f" · the methods' maps agree {number(s.agreement, 2)}" if math.isfinite(s.agreement) else ""
    words(fig, 0.35, y - 0.27, cut(f"{row_name(int(s.name) if s.name.isdigit() else s.name)}: {s.target}{agree}", 120), size=8.5, weight="bold")
    tiles: list[tuple[str, Any]] = [("the input", s.picture.numpy())] if s.picture is not None else []
    tiles += [(n, painted(s, n)) for n in names if n in s.maps]
    for k, (name, pixels) in enumerate(tiles):
        ax = fig.add_axes(((0.35 + k * side * 1.06) / w, 1 - (y + side) / h, side / w, (side - 0.18) / h))
        ax.imshow(pixels, aspect="auto" if pixels.shape[0] < pixels.shape[1] / 2 else "equal", interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(cut(name, 24), size=7.5, color=MUTED, pad=2, loc="left", parse_math=False)
