"""Which few rows to show a person, so that together they show what the model goes by."""

import torch
from torch import Tensor

from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation


def submodular_pick(e: Explanation, n: int = 5, features: int = 5) -> list[int]:
    """At most `n` rows of an explanation which together show the most of what matters, the best first.

    A column matters by the root of its summed absolute values over all rows; a row shows its `features` weightiest columns. Rows are
    taken greedily, each for what it adds; where none adds anything, fewer come back.
    Misleads when: values of different columns are not in one unit. Source: Ribeiro, Singh, Guestrin 2016, arXiv:1602.04938, algorithm 1.
    """
    for name, given in (("n", n), ("features", features)):
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UsageError(f"submodular_pick needs a whole number of at least 1 for {name}; got {given!r}.")
    weight = _weights(e)
    shown = torch.zeros_like(weight, dtype=torch.bool).scatter_(1, weight.topk(min(features, weight.shape[1]), 1).indices, True) & (weight > 0)
    matters, covered, picked = weight.sum(0).sqrt(), torch.zeros(weight.shape[1], dtype=torch.bool), list[int]()
    while len(picked) < n:
        adds = (shown & ~covered).double() @ matters
        best = int(adds.argmax())
        if not adds[best] > 0:
            break
        picked.append(best)
        covered |= shown[best]
    return picked


def _weights(e: Explanation) -> Tensor:
    """(B, P) absolute values of players that are the same in every row."""
    if e.players is not None:
        if len(set(e.players.names)) > 1:
            raise NotApplicable("submodular_pick needs the same players in every row; these differ, as superpixels and words do. Use a grid, or columns.")
        return e.players.values.double().cpu().abs()
    if not isinstance(e.values, Tensor) or e.values.ndim != 2:
        raise NotApplicable("submodular_pick needs values of a table's columns, or of players that are the same in every row. Use a method with a masker.")
    return e.values.double().cpu().abs()
