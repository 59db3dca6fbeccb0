"""A linear model: what one standard deviation of each column adds to the answer, with intervals."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .caption import cut, number, signed_number
from .faithful import banner, headed, place, told
from .rendered import rendered
from .scene import INK, LETTERS, MUTED, colour, lines, tone, whisker, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted

TOP = 20
"""Terms that are shown of each output; the others are in the table."""


def title(found: "Fitted") -> str:
    """One line."""
    kind = "A linear model in the place of the model" if found.fidelity is not None else "The linear model itself"  # type: ignore[attr-defined]
    return f"{kind}: {found.name}"  # type: ignore[attr-defined]


def limits(found: "Fitted") -> list[str]:
    """What it does not show."""
    return ["Columns that go together share their effect as chance has it: each is what it adds while the others stay the same.", *told(found)]


def outputs(found: Any) -> list[tuple[str, list[Any], int]]:
    """(output, its strongest terms, how many others there are)."""
    out = []
    for name in dict.fromkeys(t.output for t in found.terms):
        own = sorted((t for t in found.terms if t.output == name), key=lambda t: -abs(t.effect))
        shown = [t for t in own[:TOP] if t.effect]
        out.append((name, shown, len(own) - len(shown)))
    return out


def _wide(t: Any) -> float | None:
    """Half of a term's interval."""
    wide = (t.high - t.low) / 2
    return wide if np.isfinite(wide) and wide > 1e-9 * abs(t.effect) else None


def _told(t: Any) -> str:
    """A term's effect; what is known without its error to more digits than it is worth is cut."""
    wide = _wide(t)
    return f"{signed_number(t.effect)}" + (f" ± {number(wide, 2)}" if wide is not None else "")


def _reach(shown: list[Any]) -> tuple[float, float]:
    ends = [0.0, *(t.effect + k * (_wide(t) or 0.0) for t in shown for k in (-1, 1))]
    return (min(ends), max(ends)) if max(ends) > min(ends) else (0.0, 1.0)


def note(found: Any) -> str:
    """How to read the bars."""
    told = f"Bars: what one {found.step} adds to {found.unit}"
    told += "; whiskers and ±: 95% interval." if any(_wide(t) for t in found.terms) else "."
    reference = ", ".join(f"{c}: {r}" for c, r in found.references[:6])
    return told + (f" Words are compared with the most frequent one ({reference})." if reference else "")


def fragment(found: Any) -> str:
    """As HTML."""
    blocks = []
    for name, shown, others in outputs(found):
        low, high = _reach(shown)

        def x(v: float, low: float = low, high: float = high) -> float:
            return (v - low) / (high - low) * 100

        rows = [{
            "name": t.name, "value": _told(t), "tone": tone(t.effect), "x": f"{min(x(0), x(t.effect)):.2f}", "width": f"{abs(x(t.effect) - x(0)):.2f}",
            "whisker": [f"{x(t.effect + k * (_wide(t) or 0)):.2f}" for k in (-1, 1)] if _wide(t) else None,
        } for t in shown]  # fmt: skip
        blocks.append({"name": name, "rows": rows, "others": others, "zero": f"{x(0):.2f}", "intercept": number(dict(found.intercept)[name], 4)})
    return rendered("coefficients", title=title(found), banner=banner(found), blocks=blocks, note=note(found), unit=found.unit)


def figure(found: Any) -> "Figure":
    """One panel of bars an output, one below the other."""
    shown = outputs(found)
    tall = [0.27 * max(len(rows), 1) + 0.75 for _, rows, _ in shown]
    made = headed(found, title(found), 9.5, sum(tall) + 0.35)
    top = 1.1
    whole = made.get_size_inches()[1]
    for (name, _, _), h in zip(shown, tall, strict=True):
        draw(found, place(made, 3.0, top + 0.15, 0.35, whole - top - h + 0.45), name)
        top += h
    made.text(0.25 / 9.5, 0.12 / whole, cut(note(found), 150), size=8, color=MUTED, parse_math=False)
    return made


def draw(found: Any, ax: "Axes", output: str | None = None) -> "Axes":
    """One output's bars into axes of yours; the first output's unless named."""
    known = {name: (rows, others) for name, rows, others in outputs(found)}
    name = next(iter(known)) if output is None else output
    shown, others = known[name]
    low, high = _reach(shown)
    lines(ax, [cut(t.name, LETTERS) for t in shown])
    for y, t in enumerate(shown):
        ax.barh(y, t.effect, color=colour(t.effect), height=0.66)
        whisker(ax, t.effect, y, _wide(t))
        end = t.effect + (-1 if t.effect < 0 else 1) * ((_wide(t) or 0.0) + 0.012 * (high - low))
        words(ax, end, y, _told(t), ha="right" if t.effect < 0 else "left")
    ax.axvline(0, color=INK, lw=0.8)
    room = 0.28 * (high - low)
    ax.set_xlim(low - room * (low < 0), high + room * (high > 0))
    rest = f"; {others} more terms are in the table" if others else ""
    ax.set_xlabel(f"lowers {cut(name, 24)}  ←  0  →  raises {cut(name, 24)}{rest}", size=8, color=MUTED, parse_math=False)
    return ax
