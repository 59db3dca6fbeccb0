"""Players of a picture: pixels, cells of a grid, superpixels, or segments of your own, and what is seen where one is absent."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import UnknownName, UsageError
from ..core.game import Board
from ..core.question import Question
from ..core.start import Samples
from ..core.tree import is_float, leaves
from ._pieces import Described, Fill, Names, Piece, behind, board_of, compact, held

SEGMENTS = {"grid": 8, "pixels": 0, "slic": 50, "felzenszwalb": 100}
"""Ways to cut, each with the number that stands behind its colon where none is given; 0 takes none."""
ABSENT = ("baseline", "blur", "mean", "segment-mean", "inpaint", "noise")


@dataclass(frozen=True, eq=False, repr=False)
class ImageMasker(Described):
    """Players are regions of a picture, all channels together.

    `segments`: "grid:8" (8 x 8 cells), "pixels", "slic:50" (about 50 superpixels), "felzenszwalb:100" (the scale), or labels of your own,
    (H, W) or one map a row (B, H, W), with -1 for what is always there. Superpixels are cut by scikit-image along what people see (the picture
    before preprocessing), each row by itself: rows may differ in their number of players. At a layer, its cells take the superpixel at their centre.
    `absent` is what a region holds that takes no part:
    - "baseline": the question's own, zero unless said; with `pel.Samples`, every one of many. At 0 a network that centres its inputs sees grey.
    - "blur": a Gaussian blur of the picture. Misleads when the answer lies in coarse shapes: what is blurred is still there.
    - "mean": the picture's mean colour. "segment-mean": each region's own, as LIME does. Misleads alike: a flat region has nothing to lose, whatever it says.
    - "inpaint": smoothly filled from the regions present (averages over ever larger surroundings, no generative model; with nobody present, the mean colour).
      Misleads when present neighbours hold what the absent one held; a coalition's fill costs a few milliseconds at 224 x 224 (others: under one).
    - "noise": uniform over the picture's own range, drawn by seed and row. Its edges and texture are evidence of their own.
    - a colour ("black", (255, 0, 0) where the model has preprocessing, or numbers in the model's own units): hard edges appear that no photo has.
    - another picture (a tensor like the input or one row of it, a PIL image, a path, `pel.Samples`): what it shows counts against what is absent.
    """

    segments: Any = "grid:8"
    absent: Any = "baseline"

    def __post_init__(self) -> None:
        if isinstance(self.segments, str):
            _parsed(self.segments)
        elif not hasattr(self.segments, "__array__"):
            raise UsageError(f"ImageMasker needs segments by name or as labels; got {type(self.segments).__name__}. Say one of {', '.join(SEGMENTS)}, or give a tensor (H, W).")

    def board(self, q: Question) -> Board:
        n = len(leaves(q.point))
        if n != 1:
            raise UsageError(f"ImageMasker needs one explained picture; the point holds {n} tensors. Give a tuple of maskers, one an input.")
        return board_of(q, [self.piece(q, 0)])

    def piece(self, q: Question, i: int) -> Piece:
        """The players of tensor i of the point."""
        p = leaves(q.point)[i]
        if p.ndim != 4:
            raise UsageError(f"ImageMasker needs pictures or maps, (rows, channels, height, width); got {tuple(p.shape)}. Use \"positions\" or \"columns\".")
        labels, names = self._regions(q, p)
        fill, words, copies = self._behind(q, i, p, labels)
        return Piece(labels[:, None].expand(p.shape), names, fill, words, copies)

    def _regions(self, q: Question, p: Tensor) -> tuple[Tensor, Names]:
        """(B, H, W) labels and the players' names."""
        if not isinstance(self.segments, str):
            return drawn(torch.as_tensor(self.segments), p)
        name, number = _parsed(self.segments)
        if name in ("grid", "pixels"):
            labels, names = cells(p, number or max(p.shape[2:]))
            return labels, (names,) * len(p)
        return superpixels(q, p, name, number)

    def _behind(self, q: Question, i: int, p: Tensor, labels: Tensor) -> tuple[Fill, str, int]:
        """What absent regions hold, in words too, and how many copies of it there are."""
        if isinstance(self.absent, str) and self.absent in ("inpaint", "segment-mean"):
            fill, words = (inpainted(p), "what surrounds them, smoothly filled in") if self.absent == "inpaint" else (held(own_means(p, labels)[None]), "each region's own mean colour")
            return fill, words, 1
        baseline, words = _colour(self.absent, q, i)
        background, said = behind(q, i, baseline)
        return held(background), f"what the layer gives for {words}" if words and q.places else words or said, len(background)


def _parsed(segments: str) -> tuple[str, int]:
    name, colon, number = segments.partition(":")
    if name not in SEGMENTS:
        raise UnknownName("way to cut a picture", segments, SEGMENTS, 'Say "grid:8", "pixels", "slic:50" or "felzenszwalb:100", or give labels (H, W).')
    if colon and (not SEGMENTS[name] or not number.isdigit() or not int(number)):
        raise UsageError(f"ImageMasker's {name!r} takes {'a whole number of at least 1 after its colon' if SEGMENTS[name] else 'no number'}; got {segments!r}.")
    return name, int(number or SEGMENTS[name])


# -- regions --------------------------------------------------------------------------------------------------------------


def cells(p: Tensor, side: int) -> tuple[Tensor, tuple[str, ...]]:
    """((B, H, W) labels, names): `side` x `side` cells, fewer where there are not so many pixels."""
    high, wide = (min(side, n) for n in p.shape[2:])
    down, across = (torch.arange(n) * k // n for n, k in zip(p.shape[2:], (high, wide), strict=True))
    return (down[:, None] * wide + across).expand(len(p), *p.shape[2:]), tuple(f"row {i} column {j}" for i in range(high) for j in range(wide))


def drawn(labels: Tensor, p: Tensor) -> tuple[Tensor, Names]:
    """Your own segments, (H, W) or (B, H, W), with any numbers from 0; -1 is always there."""
    lab = labels.detach().cpu().long()
    if lab.shape == p.shape[2:]:
        own, names = compact(lab[None], "segment")
        return own.expand(len(p), *lab.shape), names * len(p)
    if lab.shape != (len(p), *p.shape[2:]):
        raise UsageError(f"Segments need the shape of the picture, {tuple(p.shape[2:])}, or one map a row, {(len(p), *p.shape[2:])}; got {tuple(labels.shape)}.")
    return compact(lab, "segment")


def superpixels(q: Question, p: Tensor, name: str, number: int) -> tuple[Tensor, Names]:
    """Regions along what each row's picture shows; inside a network, laid over the cells of the layer."""
    seen = shown(q, _picture(q) if q.places else p)
    known: dict[bytes, Tensor] = {}
    rows = []
    for picture in seen:
        key = picture.tobytes()
        if key not in known:
            known[key] = torch.from_numpy(_cut(picture, name, number).astype(np.int64))
        rows.append(known[key])
    labels = torch.stack(rows)
    if labels.shape[1:] != p.shape[2:]:
        down, across = (((torch.arange(n) + 0.5) * k / n).long() for n, k in zip(p.shape[2:], labels.shape[1:], strict=True))
        labels = labels[:, down][:, :, across]
    own, names = compact(labels, "superpixel")
    return own, names


def _picture(q: Question) -> Tensor:
    pictures = [t for t in leaves(q.x) if is_float(t) and t.ndim == 4]
    if len(pictures) != 1:
        raise UsageError(f"Superpixels at a layer need one picture among the inputs; got {len(pictures)}. Use a grid, \"grid:8\", or labels of your own.")
    return pictures[0]


def shown(q: Question, p: Tensor) -> np.ndarray:
    """(B, H, W, C) bytes: the picture as people see it where the model's preprocessing can be undone, else each row's numbers stretched over a byte."""
    if q.model.preprocess is not None and p.shape[1] in (1, 3):
        return q.model.preprocess.inverse(p).numpy()
    x = p.detach().double().cpu()
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-12) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def _cut(picture: np.ndarray, name: str, number: int) -> np.ndarray:
    try:
        from skimage import segmentation
    except ModuleNotFoundError as missing:
        raise UsageError(f"Superpixels ({name}) need the package {missing.name!r}. Install the extra, pip install 'pellucid[demo]', or use segments=\"grid:8\".") from None
    image = picture.astype(np.float64) / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pictures of other than three channels are meant
        if name == "slic":
            return segmentation.slic(image, n_segments=number, compactness=10, sigma=1, start_label=0, channel_axis=-1, convert2lab=image.shape[2] == 3)
        return segmentation.felzenszwalb(image, scale=number, sigma=0.8, min_size=max(20, picture.shape[0] * picture.shape[1] // 1000), channel_axis=-1)


# -- what is seen where a region is absent ----------------------------------------------------------------------------------


def _colour(absent: Any, q: Question, i: int) -> tuple[Any, str]:
    """(a baseline, None for the question's own; what it is in words, "" where the baseline says it)."""
    if isinstance(absent, Samples) or isinstance(absent, (int, float)) and not isinstance(absent, bool):
        return absent, ""
    if isinstance(absent, str) and absent in ABSENT:
        words = {"blur": "a blur of the picture", "mean": "the picture's mean colour", "noise": "noise over the picture's range"}
        return (None, "") if absent == "baseline" else (absent, words[absent])
    if isinstance(absent, str) and not absent.startswith("sample:"):
        return _named(absent, q, i), f"{absent}"
    if isinstance(absent, (tuple, list)):
        return _mixed(absent, q, i), f"the colour {tuple(absent)}"
    if isinstance(absent, (str, Path, Image.Image)):
        return q.model.prepare(absent), "another picture"
    if hasattr(absent, "__array__"):
        return torch.as_tensor(absent), "another picture"
    raise UsageError(f"ImageMasker needs absent to be one of {', '.join(ABSENT)}, a colour or a picture; got {absent!r}.")


def _named(name: str, q: Question, i: int) -> Tensor:
    try:
        rgb = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UnknownName("way to be absent", name, [*ABSENT, "black", "white", "gray", "red", "green", "blue"], "It may also be a colour, a number, or a picture (pathlib.Path).") from None
    if q.model.preprocess is None:
        raise UsageError(f"A colour by name needs a model with preprocessing; {q.model.name} has none. Give numbers in the model's own units, one or one a channel.")
    return _mixed(rgb, q, i)


def _mixed(colour: Any, q: Question, i: int) -> Tensor:
    """(C, H, W) one colour: bytes of RGB through the preprocessing where there is one, else numbers in the model's own units."""
    p = _picture(q) if q.places else leaves(q.point)[i]
    if q.model.preprocess is not None and len(colour) == 3:
        if any(isinstance(c, bool) or not 0 <= c <= 255 for c in colour):
            raise UsageError(f"A colour needs three numbers from 0 to 255; got {tuple(colour)}.")
        plain = np.broadcast_to(np.asarray(colour).astype(np.uint8), (*p.shape[2:], 3))
        made = q.model.prepare(np.ascontiguousarray(plain))[0]
        return made.mean((1, 2), keepdim=True).to(p).expand(p.shape[1:])
    if len(colour) != p.shape[1]:
        raise UsageError(f"A colour needs one number a channel, {p.shape[1]}; got {len(colour)}.")
    return torch.tensor([float(c) for c in colour], dtype=torch.float64).to(p)[:, None, None].expand(p.shape[1:])


def own_means(p: Tensor, labels: Tensor) -> Tensor:
    """(B, C, H, W): every element holds the mean of its own region and channel."""
    flat = (labels.flatten(1) + 1).to(p.device)[:, None].expand(-1, p.shape[1], -1)
    values = p.flatten(2).double()
    sums = values.new_zeros(*p.shape[:2], int(flat.max()) + 1)
    counts = sums.clone().scatter_add_(2, flat, torch.ones_like(values)).clamp(min=1)
    return (sums.scatter_add_(2, flat, values) / counts).gather(2, flat).reshape(p.shape).to(p)


def inpainted(p: Tensor) -> Fill:
    """Absent elements hold an average of what is present around them, of the smallest surroundings that hold anything (push and pull over a pyramid)."""

    def fill(seen: Tensor, rows: Tensor, copies: Tensor) -> Tensor:
        x = p[rows] if p.dtype in (torch.float32, torch.float64) else p[rows].float()
        return _pulled(x, seen.to(x.dtype), x.mean((2, 3), keepdim=True)).to(p)

    return fill


def _pulled(x: Tensor, weight: Tensor, otherwise: Tensor) -> Tensor:
    """Colours everywhere, from those where `weight` is above zero; `otherwise` where it is zero all over."""
    if min(x.shape[2:]) == 1 and max(x.shape[2:]) == 1:
        return torch.where(weight > 0, x, otherwise)
    mass = F.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    half = F.avg_pool2d(x * weight, 2, ceil_mode=True, count_include_pad=False) / mass.clamp(min=1e-12)
    coarse = _pulled(half, (mass > 0).to(x.dtype), otherwise)
    up = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(weight > 0, x, up)
