"""Points at which a model is asked, made when they are needed: memory is bounded by the chunk, not by their number."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .tree import Tree


@dataclass(frozen=True)
class Points:
    """`n` points for every row. `make(s, rows)` gives those of samples `s` and rows `rows`, two index tensors of one length."""

    n: int
    make: Callable[[Tensor, Tensor], Tree]
