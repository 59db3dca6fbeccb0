"""A list of rules: sentences, how many rows each speaks for, and how often it is right."""

import textwrap
from typing import TYPE_CHECKING, Any

from .caption import cut
from .faithful import banner, headed, place, told
from .rendered import rendered
from .scene import INK, MUTED, RULE, SIZE, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted

LINE = 74
"""Letters of a sentence in one line of a figure."""


def title(found: "Fitted") -> str:
    """One line."""
    return f"Rules in the place of the model: {found.name}"  # type: ignore[attr-defined]


def limits(found: "Fitted") -> list[str]:
    """What it does not show."""
    return ["A rule speaks only for the rows that those above it leave: read from the top, not by itself.", *told(found)]


def fragment(found: Any) -> str:
    """As HTML."""
    rules = [{
        "lead": _lead(i, found), "text": r.text, "answer": r.answer, "coverage": f"{r.coverage:.0%}", "wide": f"{100 * r.coverage:.1f}", "support": f"{r.support:,}", "known": r.support > 0,
        "precision": f"{r.precision:.0%}" if r.support else "no rows", "right": f"{100 * r.precision:.1f}" if r.support else "0", "low": f"{100 * r.low:.1f}", "high": f"{100 * r.high:.1f}",
    } for i, r in enumerate(found.rules)]  # fmt: skip
    return rendered("rules", title=title(found), banner=banner(found), rules=rules, within=found.within)


def _lead(i: int, found: Any) -> str:
    return ("If" if i == 0 else "else if") if found.rules[i].text else ("else" if i else "Always")


def _sentence(i: int, found: Any) -> str:
    r = found.rules[i]
    return f"{_lead(i, found)} {r.text}".strip() + f"  →  {r.answer}"


def figure(found: Any) -> "Figure":
    """The list as a figure."""
    tall = sum(_height(i, found) for i in range(len(found.rules)))
    made = headed(found, title(found), 11.5, tall + 0.75)
    draw(found, place(made, 0.25, 0.95, 0.25, 0.5))
    return made


def _height(i: int, found: Any) -> float:
    """Inches of a rule's line."""
    return 0.2 + 0.19 * len(textwrap.wrap(_sentence(i, found), LINE)[:3])


def draw(found: Any, ax: "Axes") -> "Axes":
    """Into axes of yours: sentences on the left, two bars on the right."""
    y = 0.0
    bars = {"coverage": (5.9, 1.6), "precision": (8.3, 1.6)}
    for name, (x, _) in bars.items():
        words(ax, x, -0.12, {"coverage": "speaks for", "precision": "is right about"}[name], color=MUTED)
    for i, r in enumerate(found.rules):
        tall = _height(i, found)
        lines = textwrap.wrap(_sentence(i, found), LINE)
        lines = lines if len(lines) <= 3 else [*lines[:2], cut(" ".join(lines[2:]), LINE)]
        ax.text(0, y + tall / 2, "\n".join(lines), size=9, color=INK, va="center", linespacing=1.35, parse_math=False)
        for name, share, note in (("coverage", r.coverage, f"{r.coverage:.0%} ({r.support:,})"), ("precision", r.precision, f"{r.precision:.0%}" if r.support else "no rows")):
            x, wide = bars[name]
            ax.barh(y + tall / 2, wide, left=x, height=0.14, color=RULE, alpha=0.6)
            ax.barh(y + tall / 2, wide * (share if share == share else 0), left=x, height=0.14, color=SIZE)
            if name == "precision" and r.support:
                ax.plot([x + wide * r.low, x + wide * r.high], [y + tall / 2] * 2, color=INK, lw=1.2, solid_capstyle="butt")
                ax.plot([x + wide * r.low] * 2 + [None] + [x + wide * r.high] * 2, [y + tall / 2 - 0.05, y + tall / 2 + 0.05, None, y + tall / 2 - 0.05, y + tall / 2 + 0.05], color=INK, lw=1.2)
            words(ax, x + wide + 0.07, y + tall / 2, note)
        y += tall
        ax.axhline(y, color=RULE, lw=0.5)
    ax.set(xlim=(0, 11), ylim=(y, -0.25), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Shares of held-out rows; whiskers: 95% interval." + (f"  {found.within}." if found.within else ""), size=8, color=MUTED, parse_math=False)
    return ax
