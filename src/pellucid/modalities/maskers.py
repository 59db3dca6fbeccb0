"""What `masker=` may be: one reader of strings, labels, groups and maskers for every method over a game."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.game import Masker
from ..core.question import Question
from ..core.tree import leaves
from .features import FeatureMasker
from .superpixels import ImageMasker

NAMED = {"auto": 0, "columns": 0, "positions": 0, "pixels": 0, "grid": 8, "slic": 50, "felzenszwalb": 100, "segments": 8}
"""Maskers by name, each with the number that may stand behind a colon where none does; 0 takes none."""


def masker_of(value: Any, q: Question) -> Masker:
    """The masker meant by "auto", "grid:8", a tensor of labels, a mapping of groups, or a masker itself."""
    if hasattr(value, "board"):
        return value
    if value is None or isinstance(value, str):
        return _named(value or "auto", q)
    if isinstance(value, Tensor) or hasattr(value, "__array__"):
        labels = torch.as_tensor(value)
        return ImageMasker(labels) if _is_picture(q) else FeatureMasker(labels)
    if isinstance(value, (Mapping, list)):
        return FeatureMasker(groups=value)
    raise UsageError(f"masker needs a name ({', '.join(NAMED)}), labels, groups or a Masker; got {type(value).__name__}.")


def _named(text: str, q: Question) -> Masker:
    name, colon, number = text.partition(":")
    if name not in NAMED:
        raise UnknownName("masker", text, NAMED, 'Say "auto", "columns", "positions", "pixels", "grid:8", "slic:50", "felzenszwalb:100", "segments:8", or give a Masker.')
    if colon and (not NAMED[name] or not number.isdigit() or not int(number)):
        raise UsageError(f"masker {name!r} takes {'a whole number of at least 1 after its colon' if NAMED[name] else 'no number'}; got {text!r}.")
    if name == "auto":
        return _fitting(q)
    if name == "columns":
        return _columns(q)
    if name == "positions":
        return FeatureMasker()
    return ImageMasker(f"{name}:{number or NAMED[name]}" if NAMED[name] else name)


def _fitting(q: Question) -> Masker:
    """A grid for pictures, else columns or positions."""
    if not _is_picture(q):
        return FeatureMasker()
    return ImageMasker("grid:8")


def _columns(q: Question) -> Masker:
    """A player for every number of the last axis, the same at every position."""
    parts = leaves(q.point)
    if any(p.ndim > 3 for p in parts):
        raise UsageError(f'masker "columns" needs a table or a sequence; got {[tuple(p.shape) for p in parts]}. Use "grid:8", "slic:50" or "pixels".')
    if len(parts) == 1 and parts[0].ndim == 3:
        n = parts[0].shape[2]
        return FeatureMasker(groups=torch.arange(n)[None], names=[f"column {j}" for j in range(n)])
    return FeatureMasker()


def _is_picture(q: Question) -> bool:
    parts = leaves(q.point)
    return len(parts) == 1 and parts[0].ndim == 4
