"""What there is to see of one row: a map over a picture, regions of a picture, or a matrix."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.tree import paths
from .parts import Floats, Parts, array, is_list

if TYPE_CHECKING:
    from ..core.explanation import Explanation

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
        if self.percentile == 100:
            return f"{zero}colours saturate at the largest magnitude"
        return f"{zero}colours saturate at the {self.percentile:g}th percentile of the magnitudes"


@dataclass(frozen=True)
class Panel:
    """One thing to draw: `picture` with `heat` over it, or `heat` alone. `regions` are the players that pixels belong to; `marked` those that are outlined."""

    heat: Floats
    scale: Scale
    picture: Bytes | None = None
    axes: tuple[str, ...] = ()
    note: str = ""
    regions: NDArray[np.int64] | None = None
    marked: tuple[tuple[int, str], ...] = ()

    @property
    def kind(self) -> str:
        """ "overlay" or "matrix"."""
        return "overlay" if self.picture is not None else "matrix"


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
    """The maps of one row, over the picture where there is one; a tree of inputs gives one panel a leaf."""
    if e.picture is not None and e.has_map:
        return [_overlay(e, row, array(e.picture, row))]
    leaves = [(".".join(map(str, at)), leaf) for at, leaf in paths(e.values) if hasattr(leaf, "detach")]
    return [_matrix(e, name, array(leaf, row)) for name, leaf in leaves if not is_list(leaf[row].shape)]


def regions(e: "Explanation", row: int, own: Parts, marked: tuple[tuple[int, str], ...]) -> Panel | None:
    """The players of a picture, each region in the colour of what it was worth; None where they are no regions of it."""
    if e.picture is None or own.labels is None or own.labels.ndim != 3:
        return None
    picture = array(e.picture, row).astype(np.uint8)
    labels = own.labels[0]
    down, across = ((np.arange(n) * k // n) for n, k in zip(picture.shape[:2], labels.shape, strict=True))
    labels = labels[np.ix_(down, across)]
    heat = np.where(labels >= 0, own.values[labels.clip(0)], 0.0)
    return Panel(heat, scale_of(own.values, own.signed, 100.0), picture, axes=("height", "width"), regions=labels, marked=marked)


def _overlay(e: "Explanation", row: int, seen: Floats) -> Panel:
    heat = array(e.heat(), row)
    picture = seen.astype(np.uint8)
    note = f"{heat.shape[0]} × {heat.shape[1]} cells, interpolated" if heat.shape != picture.shape[:2] else ""
    channels = e.values.shape[1]
    summed = f"summed over {channels} channels" if channels > 1 else ""
    return Panel(heat, scale_of(heat, e.signed), picture, axes=("height", "width"), note=", ".join(filter(None, (summed, note))))


def _matrix(e: "Explanation", name: str, values: Floats) -> Panel:
    axes = tuple(e.axes[1 : 1 + values.ndim]) if len(e.axes) == values.ndim + 1 else tuple(f"axis {i}" for i in range(values.ndim))
    lead = [f"input {name}"] if name else []
    if values.ndim > 2:
        over = tuple(range(values.ndim - 2))
        lead, values, axes = [*lead, f"summed over {' and '.join(axes[:-2])}"], values.sum(over), axes[-2:]
    return Panel(values, scale_of(values, e.signed), axes=axes, note=", ".join(lead))
