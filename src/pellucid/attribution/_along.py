"""What happens at a layer while the input goes straight from the baseline to the point."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import NotApplicable
from ..core.question import Question
from ..core.target import Neuron
from ..core.tree import Tree, leaves

HELD = 2**25
"""Bytes of inputs, values and gradients that are in memory at once."""


@dataclass(frozen=True)
class Block:
    """Some nodes of the path: (n, B, ...) values and gradients at the layer."""

    values: list[Tensor]
    slopes: list[Tensor]


def is_start(q: Question) -> bool:
    """Whether the path of the input is the path of the place: at the input, and at the embedding of integer inputs."""
    return q.places == q.source().places


def along(q: Question, t: Tensor, who: str) -> Iterator[Block]:
    """The layer's values and gradients with the input at fractions `t`, (n, B), of its path, one forward and backward row a node."""
    if q.moved is not None:
        raise NotApplicable(f"{who} at a layer follows what the input brings there, which a value put there from outside is not. Use it at the input, or integrated-gradients inside.")
    source = q.source()
    path = source.path(t)
    row = sum(v.numel() * v.element_size() for v in (*leaves(source.point), *leaves(q.point), *leaves(q.point)))
    for s in torch.arange(len(t)).split(max(1, HELD // row)):
        samples, rows = s.repeat_interleave(q.size), torch.arange(q.size).repeat(len(s))
        z = source.pack(leaves(path.make(samples, rows)))
        values, slopes = _brought(q, source, z, rows) if source.places else _tapped(q, source, z, rows)
        yield Block(*([v.unflatten(0, (len(s), q.size)) for v in part] for part in (values, slopes)))


def _tapped(q: Question, source: Question, z: Tree, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Values and gradients from one pass with `z` as the input."""
    here = source.take(rows).with_point(z).at_layer(list(q.places))
    slopes = leaves(here.grad())
    return leaves(here.point), slopes


def _brought(q: Question, source: Question, z: Tree, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The same with `z` at the embedding: what it brings to the layer is read first, so that both places can hold their values."""
    here = source.take(rows)
    first = [(0,) * (v.ndim - 1) for v in leaves(q.point)]
    values = [here.about(Neuron(place, index)).outputs(z) for place, index in zip(q.places, first, strict=True)]
    both = here.at_layer([*source.places, *q.places])
    return values, leaves(both.grad(both.pack([*leaves(z), *values])))[len(source.places) :]
