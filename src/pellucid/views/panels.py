"""What there is to see of one row: a map over a picture, a matrix, or a list of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.tree import paths

if TYPE_CHECKING:
    from ..core.explanation import Explanation

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
CLIP = 99.0
"""The percentile of the magnitudes at which colours saturate; it is printed beside every map."""


@dataclass(frozen=True)
class Scale:
    """From values to colours: the limits, and how they came about."""

    low: float
    high: float
    signed: bool
    percentile: float
    flat: bool = False

    def unit(self, heat: Floats) -> Floats:
        """Values as positions on the colour bar, 0 to 1."""
        return np.clip((heat - self.low) / (self.high - self.low), 0, 1)

    def words(self) -> str:
        """The scale in words."""
        if self.flat:
            return "every value is the same"
        zero = "symmetric about zero, " if self.signed else ""
        return f"{zero}colours saturate at the {self.percentile:g}th percentile of the magnitudes"


@dataclass(frozen=True)
class Panel:
    """One thing to draw: `picture` with `heat` over it, `heat` alone, or `bars`."""

    heat: Floats
    scale: Scale
    picture: Bytes | None = None
    labels: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    note: str = ""

    @property
    def kind(self) -> str:
        """ "overlay", "matrix" or "bars"."""
        return "overlay" if self.picture is not None else "matrix" if self.heat.ndim == 2 else "bars"


def scale_of(heat: Floats, signed: bool, percentile: float = CLIP) -> Scale:
    """Limits at a percentile of the magnitudes; the largest magnitude where that is zero."""
    magnitudes = np.abs(heat[np.isfinite(heat)])
    high = float(np.percentile(magnitudes, percentile)) if magnitudes.size else 0.0
    if high == 0.0 and magnitudes.size:
        high, percentile = float(magnitudes.max()), 100.0
    flat = not magnitudes.size or float(np.ptp(heat[np.isfinite(heat)])) == 0.0
    high = high or 1.0
    return Scale(-high if signed else 0.0, high, signed, percentile, flat)


def panels(e: "Explanation", row: int = 0) -> list[Panel]:
    """Everything to draw for one row, an image first; a tree of inputs gives one panel a leaf."""
    leaves = [(".".join(map(str, at)), leaf) for at, leaf in paths(e.values) if hasattr(leaf, "detach")]
    if e.picture is not None and e.has_map:
        return [_overlay(e, row, _array(e.picture, row))]
    return [_plain(e, row, name, _array(leaf, row)) for name, leaf in leaves]


def _array(tensor: Any, row: int) -> Floats:
    return np.asarray(tensor[row].detach().to("cpu").double().numpy(), dtype=np.float64)


def _overlay(e: "Explanation", row: int, seen: Floats) -> Panel:
    heat = _array(e.heat(), row)
    picture = seen.astype(np.uint8)
    note = f"{heat.shape[0]} × {heat.shape[1]} cells, interpolated" if heat.shape != picture.shape[:2] else ""
    channels = e.values.shape[1]
    summed = f"summed over {channels} channels" if channels > 1 else ""
    return Panel(heat, scale_of(heat, e.signed), picture, axes=("height", "width"), note=", ".join(filter(None, (summed, note))))


def _plain(e: "Explanation", row: int, name: str, values: Floats) -> Panel:
    axes = tuple(e.axes[1 : 1 + values.ndim]) if len(e.axes) == values.ndim + 1 else tuple(f"axis {i}" for i in range(values.ndim))
    lead = [f"input {name}"] if name else []
    if values.ndim == 3:
        lead, values, axes = [*lead, f"summed over {axes[0]}"], values.sum(0), axes[1:]
    if values.ndim == 2 and min(values.shape) > 1:
        return Panel(values, scale_of(values, e.signed), axes=axes, note=", ".join(lead))
    return _bars(e, values, axes, ", ".join(lead))


def _position(i: int, shape: tuple[int, ...], axes: Sequence[str]) -> str:
    return ", ".join(f"{axis} {n}" for axis, n in zip(axes, np.unravel_index(i, shape), strict=True)) if shape else "the value"


def _bars(e: "Explanation", values: Floats, axes: Sequence[str], note: str, top: int = 15) -> Panel:
    flat = values.reshape(-1)
    order = np.argsort(-np.abs(flat), kind="stable")[:top]
    named = e.names.get(axes[0], []) if len(axes) == 1 else []
    labels = tuple(named[i] if i < len(named) else _position(int(i), values.shape, axes) for i in order)
    if flat.size > top:
        rest = f"the {top} largest of {flat.size:,}; the rest sum to {flat.sum() - flat[order].sum():.3g}"
        note = ", ".join(filter(None, (note, rest)))
    shown = flat[order]
    return Panel(shown, scale_of(shown, e.signed, 100.0), labels=labels, axes=tuple(axes), note=note)
