"""Heat as colour: red raises, blue lowers, zero is the greyed picture; dark to bright where there is no sign."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from .panels import Bytes, Panel, Scale
from .parts import Floats

SIGNED, UNSIGNED = "RdBu_r", "inferno"
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Outline:
    """A closed line round what raises (or lowers) the target most, so that sign is readable without colour."""

    raises: bool
    lines: tuple[Floats, ...]
    peak: tuple[float, float]
    mark: str


def colour_map(scale: Scale) -> str:
    """The colour map's name."""
    return SIGNED if scale.signed else UNSIGNED


def colours(heat: Floats, scale: Scale) -> Floats:
    """Values as RGB in 0 to 1; what is not a number comes out mid-grey."""
    rgb = np.asarray(colormaps[colour_map(scale)](scale.unit(np.nan_to_num(heat))))[..., :3]
    rgb[~np.isfinite(heat)] = 0.5
    return rgb


def overlay(panel: Panel) -> Bytes:
    """The heat over the greyed picture, as bytes.

    How: signed colours multiply a pale picture, unsigned ones brighten a dark one, so that zero leaves the picture as it is.
    """
    if panel.picture is None:
        return _bytes(colours(panel.heat, panel.scale))
    if panel.regions is not None:
        return _bordered(panel, panel.picture, panel.regions)
    grey = (panel.picture / 255.0 @ _GREY)[..., None]
    rgb = colours(fit(panel.heat, panel.picture.shape[:2]), panel.scale)
    if panel.scale.signed:
        return _bytes(rgb * (0.62 + 0.38 * grey))
    return _bytes(1 - (1 - rgb) * (1 - 0.5 * grey))


def _bordered(panel: Panel, picture: Bytes, regions: NDArray[np.int64]) -> Bytes:
    """The overlay large enough for thin lines, with the regions' borders in them."""
    k = max(1, -(-448 // max(panel.heat.shape)))
    heat, picture, regions = (np.repeat(np.repeat(a, k, 0), k, 1) for a in (panel.heat, picture, regions))
    edge = np.zeros(regions.shape, dtype=bool)
    edge[1:] |= regions[1:] != regions[:-1]
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    plain = overlay(replace(panel, heat=heat, picture=picture, regions=None))
    return np.where(edge[..., None], (0.45 * plain + 0.55 * 255).astype(np.uint8), plain)


def fit(heat: Floats, size: tuple[int, ...]) -> Floats:
    """A coarse map stretched bilinearly over the picture."""
    if heat.shape == tuple(size):
        return heat
    image = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float64)


def outlines(panel: Panel) -> list[Outline]:
    """Where a signed map pushes most, each way: lines at half of the smoothed map's largest magnitude. Of regions, those that are marked."""
    if panel.regions is not None:
        return [_region(panel.regions == i, mark) for i, mark in panel.marked]
    if not panel.scale.signed or panel.picture is None or panel.scale.flat:
        return []
    height, width = panel.picture.shape[:2]
    smooth = gaussian_filter(fit(np.nan_to_num(panel.heat), (height, width)), max(height, width) / 32)
    most = float(np.abs(smooth).max())
    return [o for sign in (1, -1) for o in _outline(sign * smooth, most, sign > 0)] if most > 0 else []


def _outline(smooth: Floats, most: float, raises: bool) -> Iterator[Outline]:
    if smooth.max() <= most / 2:
        return
    padded = np.pad(smooth, 1, constant_values=0.0)
    lines = _contour(padded, most / 2)
    sizes = [_area(line) for line in lines]
    least = min(max(sizes), max(max(sizes) / 10, (max(smooth.shape) / 28) ** 2))
    lines = [line for line, size in zip(lines, sizes, strict=True) if size >= least]
    y, x = np.unravel_index(int(smooth.argmax()), smooth.shape)
    yield Outline(raises, tuple(np.asarray(line) - 1 for line in lines), (float(x), float(y)), "+" if raises else "−")


def _region(inside: NDArray[np.bool_], mark: str) -> Outline:
    """A region's own outline; its mark stands where it is widest."""
    deep = distance_transform_edt(np.pad(inside, 1))
    y, x = np.unravel_index(int(deep.argmax()), deep.shape)
    lines = _contour(np.pad(inside.astype(float), 1), 0.5)
    return Outline(not mark.startswith("▼"), tuple(np.asarray(line) - 1 for line in lines), (float(x) - 1, float(y) - 1), mark)


def _contour(heat: Floats, level: float) -> list[Floats]:
    return list(Figure().add_subplot().contour(heat, [level]).allsegs[0])


def _area(line: Floats) -> float:
    x, y = line[:, 0], line[:, 1]
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def scaled(outline: Outline, side: int) -> dict[str, Any]:
    """An outline as the parts of an SVG in the picture's pixels: one path, one disc with its sign."""
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) for line in outline.lines)
    x, y = outline.peak
    radius = side / (34 if len(outline.mark) == 1 else 26)
    size = 1.9 * radius if len(outline.mark) == 1 else 1.25 * radius
    mark = {"x": f"{x:.1f}", "y": f"{y:.1f}", "r": f"{radius:.1f}", "base": f"{y + 0.36 * size:.1f}", "size": f"{size:.1f}"}
    return {"kind": "raises" if outline.raises else "lowers", "path": path, "sign": outline.mark, "mark": mark}


def bar(scale: Scale, cells: int = 128) -> Bytes:
    """The colour bar, low to high, one pixel high."""
    return _bytes(colours(np.linspace(scale.low, scale.high, cells)[None], scale))


def uri(pixels: Bytes, side: int = 512) -> str:
    """An image as a PNG data URI, at most `side` pixels a side."""
    image = Image.fromarray(pixels)
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _bytes(rgb: Floats) -> Bytes:
    return np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, dtype=np.uint8)
