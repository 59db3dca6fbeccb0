"""Which parts work together: a circle of parts, tied where two are worth more, or less, together than each by itself."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..core.errors import NotApplicable
from .caption import cut, signed_number
from .parts import Parts
from .rendered import rendered
from .scene import INK, MUTED, colour, only_parts, tone, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

NODES, TIES, LISTED = 14, 40, 8
"""The most parts and ties that are drawn, and how many ties are listed in words."""


@dataclass(frozen=True)
class Tie:
    """Two parts and what they are worth together beyond what each is worth."""

    a: int
    b: int
    value: float


@dataclass(frozen=True)
class Network:
    """Which parts add to each other, and which make each other needless?"""

    parts: Parts
    kind: ClassVar[str] = "network"

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        found = only_parts(e, row, cls.kind)
        if found.pairs is None or len(found) < 2:
            raise NotApplicable(f'kind="network" needs interactions between two players or more; {e.method} gave none. Ask a method that measures interactions.')
        return cls(found)

    @property
    def indent(self) -> float:
        return 0.2

    @property
    def height(self) -> float:
        return 4.1

    def nodes(self) -> list[int]:
        """The parts that are drawn, in the order of the row: those with the most of their own and with others."""
        pairs = np.abs(self._pairs())
        np.fill_diagonal(pairs, 0)
        weight = np.abs(self.parts.values) + pairs.sum(0)
        return sorted(int(i) for i in np.argsort(-weight, kind="stable")[:NODES])

    def ties(self) -> list[Tie]:
        """The ties between those parts, the strongest first."""
        own, pairs = self.nodes(), self._pairs()
        found = [Tie(a, b, float(pairs[a, b])) for i, a in enumerate(own) for b in own[i + 1 :] if pairs[a, b]]
        return sorted(found, key=lambda t: -abs(t.value))[:TIES]

    def _pairs(self) -> np.ndarray:
        return np.nan_to_num(np.array(self.parts.pairs))

    def html(self, side: int = 512) -> str:
        drawn = [{"size": size, **self._laid_out(width, height, radius, letters)} for size, width, height, radius, letters in (("wide", 640, 380, 140, 22), ("narrow", 350, 310, 92, 10))]
        listed = [{"a": self.parts.names[t.a], "b": self.parts.names[t.b], "value": signed_number(t.value), "tone": tone(t.value)} for t in self.ties()[:LISTED]]
        return rendered("network", drawings=drawn, listed=listed, target=self.parts.target, left_out=self.left_out())

    def left_out(self) -> str:
        """What is not drawn, in words."""
        every = len(self.parts)
        return f"{len(self.nodes())} of {every} parts are drawn" if every > len(self.nodes()) else ""

    def _laid_out(self, width: int, height: int, radius: float, letters: int) -> dict[str, Any]:
        own, most = self.nodes(), self._most()
        at = {i: (width / 2 + radius * x, height / 2 + radius * y) for i, (x, y) in zip(own, circle(len(own)), strict=True)}
        ties = []
        for t in reversed(self.ties()):
            bend = _bent(at[t.a], at[t.b], (width / 2, height / 2))
            ties.append({"path": f"M{_two(at[t.a])}Q{_two(bend)} {_two(at[t.b])}", "tone": tone(t.value), "width": f"{0.8 + width / 90 * abs(t.value) / most[1]:.1f}"})
        nodes = []
        for i, (x, y) in zip(own, circle(len(own)), strict=True):
            v = float(self.parts.values[i])
            size = 5 + 9 * math.sqrt(abs(v) / most[0])
            nodes.append({
                "x": f"{at[i][0]:.1f}", "y": f"{at[i][1]:.1f}", "r": f"{size:.1f}", "tone": tone(v), "sign": ("−" if v < 0 else "+") if size > 7 else "", "name": cut(self.parts.names[i], letters),
                "tx": f"{width / 2 + (radius + 20) * x:.1f}", "ty": f"{height / 2 + (radius + 20) * y + 4.5 + 6 * y:.1f}", "anchor": "middle" if abs(x) < 0.2 else "start" if x > 0 else "end",
            })  # fmt: skip
        return {"width": width, "height": height, "ties": ties, "nodes": nodes}

    def _most(self) -> tuple[float, float]:
        ties = self.ties()
        return float(np.abs(self.parts.values).max()) or 1.0, abs(ties[0].value) if ties else 1.0

    def draw(self, ax: "Axes") -> "Axes":
        own, most = self.nodes(), self._most()
        at = dict(zip(own, circle(len(own)), strict=True))
        for t in reversed(self.ties()):
            curve = _curve(at[t.a], _bent(at[t.a], at[t.b], (0.0, 0.0)), at[t.b])
            ax.plot(*curve.T, color=colour(t.value), lw=0.6 + 5 * abs(t.value) / most[1], ls="-" if t.value > 0 else (0, (2, 1.2)), alpha=0.75, solid_capstyle="round")
        for i, (x, y) in at.items():
            v = float(self.parts.values[i])
            ax.scatter(x, y, s=60 + 420 * abs(v) / most[0], color=colour(v), edgecolor="white", zorder=3)
            words(ax, x, y, "−" if v < 0 else "+", color="white", ha="center", weight="bold", zorder=4)
            side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
            words(ax, 1.17 * x, 1.17 * y, cut(self.parts.names[i], 24), ha=side)
        ax.set_aspect("equal")
        ax.set(xlim=(-2.1, 2.1), ylim=(1.35, -1.35), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        told = "solid: worth more together than apart;  dashed: less;  width: how much;  discs: each by itself"
        ax.set_xlabel(told + (f"\n{self.left_out()}" if self.left_out() else ""), size=8, color=MUTED)
        ax.xaxis.label.set_color(INK)
        return ax


def circle(n: int) -> list[tuple[float, float]]:
    """Places on the unit circle, clockwise from the top."""
    return [(math.sin(2 * math.pi * k / n), -math.cos(2 * math.pi * k / n)) for k in range(n)]


def _bent(a: tuple[float, float], b: tuple[float, float], middle: tuple[float, float]) -> tuple[float, float]:
    """The control point of a tie: its midpoint drawn a third of the way to the middle, so that neighbours' ties stay inside the circle."""
    return ((a[0] + b[0]) / 2 * 0.67 + middle[0] * 0.33, (a[1] + b[1]) / 2 * 0.67 + middle[1] * 0.33)


def _curve(a: tuple[float, float], c: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    t = np.linspace(0, 1, 40)[:, None]
    return np.asarray((1 - t) ** 2 * np.array(a) + 2 * t * (1 - t) * np.array(c) + t**2 * np.array(b))


def _two(p: tuple[float, float]) -> str:
    return f"{p[0]:.1f} {p[1]:.1f}"
