"""What `masker=` may be: one reader of strings, labels, groups and maskers for every method over a game."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.game import Board, Masker
from ..core.question import Question
from ..core.tree import leaves
from ._pieces import Described, board_of
from .features import FeatureMasker
from .series import SeriesMasker
from .superpixels import ImageMasker
from .text import UNITS, TextMasker

NAMED = {"auto": 0, "columns": 0, "positions": 0, "pixels": 0, "grid": 8, "slic": 50, "felzenszwalb": 100, "segments": 8, "token": 0, "word": 0, "sentence": 0}
"""Maskers by name, each with the number that may stand behind a colon where none does; 0 takes none."""
SMALLEST_SHOWN = 32
"""Pixels a side from which a picture is cut along what it shows; smaller ones are cut into a grid."""


def masker_of(value: Any, q: Question) -> Masker:
    """The masker meant by "auto", "grid:8", a tensor of labels, a mapping of groups, a tuple (one an input), or a masker itself.

    "auto" is superpixels ("slic:50") for a picture of at least 32 x 32 where scikit-image is installed, a grid for other pictures and maps,
    columns for tables, positions for sequences.
    """
    parts = leaves(q.point)
    if isinstance(value, tuple) or (isinstance(value, Mapping) and isinstance(q.point, Mapping) and set(value) == set(q.point)):
        own = tuple(value[k] for k in q.point) if isinstance(value, Mapping) else value
        _as_many(own, parts)
        return TupleMasker(tuple(_one(v, [p], q) for v, p in zip(own, parts, strict=True)))
    return _one(value, parts, q)


@dataclass(frozen=True, eq=False, repr=False)
class TupleMasker(Described):
    """One masker for each explained input, their players taken together. Backgrounds of several inputs are used side by side, row by row."""

    maskers: tuple[Any, ...]

    def board(self, q: Question) -> Board:
        _as_many(self.maskers, leaves(q.point))
        for masker in self.maskers:
            if not hasattr(masker, "piece"):
                raise UsageError(f"A tuple of maskers takes those of Pellucid; {type(masker).__name__} makes a whole board. Use it alone.")
        return board_of(q, [masker.piece(q, i) for i, masker in enumerate(self.maskers)])


def _as_many(maskers: Sequence[Any], parts: list[Tensor]) -> None:
    if len(maskers) != len(parts):
        raise UsageError(f"A tuple of maskers needs one for each of {len(parts)} explained inputs; got {len(maskers)}.")


def _one(value: Any, parts: list[Tensor], q: Question) -> Masker:
    """The masker for these tensors of the point."""
    if hasattr(value, "board"):
        return value
    if value is None or isinstance(value, str):
        return _named(value or "auto", parts, q)
    if hasattr(value, "__array__"):
        labels = torch.as_tensor(value)
        return ImageMasker(labels) if _picture(parts) and labels.ndim < 4 else FeatureMasker(labels)
    if isinstance(value, (Mapping, list)):
        return FeatureMasker(groups=value)
    raise UsageError(f"masker needs a name ({', '.join(NAMED)}), labels, groups or a Masker; got {type(value).__name__}.")


def _named(text: str, parts: list[Tensor], q: Question) -> Masker:
    name, colon, number = text.partition(":")
    if name not in NAMED:
        raise UnknownName("masker", text, NAMED, 'Say "auto", "columns", "positions", "pixels", "grid:8", "slic:50", "felzenszwalb:100", "segments:8", "word", or give a Masker.')
    if colon and (not NAMED[name] or not number.isdigit() or not int(number)):
        raise UsageError(f"masker {name!r} takes {'a whole number of at least 1 after its colon' if NAMED[name] else 'no number'}; got {text!r}.")
    if name == "auto":
        return _fitting(parts, q)
    if name in UNITS:
        return TextMasker(name)
    if name == "columns":
        return _columns(parts)
    if name == "positions":
        return FeatureMasker()
    if name == "segments":
        return SeriesMasker(int(number or NAMED[name]))
    return ImageMasker(f"{name}:{number or NAMED[name]}" if NAMED[name] else name)


def _fitting(parts: list[Tensor], q: Question) -> Masker:
    """Superpixels for pictures (a grid without scikit-image, for small ones, and inside a network), else columns or positions."""
    if not _picture(parts):
        return FeatureMasker()
    shape = parts[0].shape
    shown = not q.places and shape[1] in (1, 3) and min(shape[2:]) >= SMALLEST_SHOWN
    return ImageMasker("slic:50" if shown and importlib.util.find_spec("skimage") else "grid:8")


def _columns(parts: list[Tensor]) -> Masker:
    """A player for every number of the last axis, the same at every position."""
    if any(p.ndim > 3 for p in parts):
        raise UsageError(f'masker "columns" needs a table or a sequence; got {[tuple(p.shape) for p in parts]}. Use "grid:8", "slic:50" or "pixels".')
    if len(parts) == 1 and parts[0].ndim == 3:
        n = parts[0].shape[2]
        return FeatureMasker(groups=torch.arange(n)[None], names=[f"column {j}" for j in range(n)])
    return FeatureMasker()


def _picture(parts: list[Tensor]) -> bool:
    return len(parts) == 1 and parts[0].ndim == 4
