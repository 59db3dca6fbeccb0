"""Where in a model a value is read or replaced: a layer, its side, which of its calls, which tensor."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .errors import UnknownName, UsageError

SIDES = ("output", "input")
_SPELLING = re.compile(r"(?P<layer>.*?)(?:#(?P<call>\d+))?(?: \((?P<side>input|output)?(?:, )?(?:part (?P<part>\d+))?\))?")


@dataclass(frozen=True)
class Place:
    """Which value of the model is meant?

    `layer` is the name in `named_modules()`, `call` the how-manieth call of a layer that is used several times
    (None: it is called once), `part` the how-manieth floating-point tensor of a tuple (None: the first).
    """

    layer: str
    side: str = "output"
    call: int | None = None
    part: int | None = None

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise UsageError(f"A place is on a layer's 'output' or 'input' side; got {self.side!r} for {self.layer!r}.")
        if min(self.call or 0, self.part or 0) < 0:
            raise UsageError(f"A place counts calls and parts from 0; got call={self.call}, part={self.part} for {self.layer!r}.")

    @classmethod
    def parse(cls, spec: Any, names: Mapping[str, Any]) -> "Place":
        """The place meant by "layer", "layer#1", ("layer", "input"), a module of the model, or a place; it must exist."""
        side = None
        if isinstance(spec, tuple) and len(spec) == 2:
            spec, side = spec
        place = _one(spec, names)
        if side is not None:
            place = Place(place.layer, side, place.call, place.part)
        return _known(place, names)

    def __str__(self) -> str:
        layer = self.layer or "the model"
        call = "" if self.call is None else f"#{self.call}"
        details = [self.side] * (self.side == "input") + [f"part {self.part}"] * (self.part is not None)
        return f"{layer}{call}{' (' + ', '.join(details) + ')' if details else ''}"


def _one(spec: Any, names: Mapping[str, Any]) -> Place:
    if isinstance(spec, Place):
        return spec
    if isinstance(spec, nn.Module):
        return Place(_name_of(spec, names))
    if isinstance(spec, str):
        return Place(spec) if spec in names else _spelled(spec)
    raise UsageError(f"A layer is given by its name, as the module itself or as (layer, 'input'); got {spec!r}.")


def _name_of(module: nn.Module, names: Mapping[str, Any]) -> str:
    for name, candidate in names.items():
        if candidate is module:
            return name
    raise UsageError(f"The layer must belong to the model that is explained; this {type(module).__name__} does not. Give its name instead.")


def _spelled(text: str) -> Place:
    found = _SPELLING.fullmatch(text)
    if found is None:
        return Place(text)
    call, side, part = found["call"], found["side"], found["part"]
    layer = "" if found["layer"] == "the model" else found["layer"]
    return Place(layer, side or "output", None if call is None else int(call), None if part is None else int(part))


def _known(place: Place, names: Mapping[str, Any]) -> Place:
    """The place if its layer exists; `torch.compile` puts `_orig_mod` into names, which nobody means."""
    if place.layer in names:
        return place
    plain = ".".join(n for n in place.layer.split(".") if n != "_orig_mod")
    if plain in names:
        return Place(plain, place.side, place.call, place.part)
    raise UnknownName("layer", place.layer, [n for n in names if n], "`model.layers()` lists them all.")
