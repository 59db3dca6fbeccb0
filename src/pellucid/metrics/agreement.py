"""Agreement: do two explanations of the same rows say the same?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import catalogue
from ..core.agreement import agreement
from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.explanation import Explanation
from ..core.procedure import Method, Metric, Scores
from ..core.tree import leaves
from ._told import told


@dataclass(frozen=True, kw_only=True)
class Agreement(Metric):
    """Do two explanations of the same rows say the same?

    How: "rank" is rank correlation (pictures on a 28 x 28 grid); "sign" the share of values that are not zero in both whose signs agree; "top" the overlap of the top places,
    as a share of them; "signed-top" counts those whose signs agree too.
    Units: -1 to 1 for rank, else a share.
    Chance: 0 for rank, one half for sign, the share `top` for top.
    Misleads when: read as truth: two methods of one kind agree in their errors. Against a model whose right map is known, give that map as `other`.
    Source: Krishna et al., 2022, section 3 (the disagreement problem).
    """

    card = Card(title="Agreement of two explanations", paper="arXiv:2202.01602", better="", cost="nothing, or one more explanation where `other` is a method")
    other: Any = param(None, "another explanation, its values, a method, or a method's name")
    kind: str = param("rank", "what is compared", choices=("rank", "sign", "top", "signed-top"))
    top: float = param(0.1, "places at the top of each map", ge=0, le=1, unit="share")

    def score(self, e: Explanation) -> Scores:
        """The agreement, a row."""
        a, b = e.values, self._other(e)
        shapes = [[tuple(t.shape) for t in leaves(v)] for v in (a, b)]
        if shapes[0] != shapes[1]:
            raise UsageError(f"agreement needs two maps of one shape; got {shapes[0]} and {shapes[1]}.")
        if self.kind == "rank":
            return told(agreement(a, b), "Rank correlation of the two maps", "")
        return told(shared(*(_flat(v) for v in (a, b)), self.kind, self.top), f"Agreement of the two maps ({self.kind})", "", "nothing is other than zero in both maps")

    def _other(self, e: Explanation) -> Any:
        if self.other is None:
            raise NotApplicable('agreement needs another explanation to compare with (other=...: an explanation, its values, or a method\'s name such as "saliency"); got none.')
        if isinstance(self.other, Explanation):
            return self.other.values
        if isinstance(self.other, (str, Method)):
            method = catalogue.make("methods", self.other) if isinstance(self.other, str) else self.other
            return method(e.question.with_target(e.question.resolved_target())).values
        return torch.as_tensor(self.other) if not isinstance(self.other, (tuple, dict)) else self.other


def _flat(v: Any) -> Tensor:
    return torch.cat([t.detach().double().cpu().flatten(1) for t in leaves(v)], 1)


def shared(a: Tensor, b: Tensor, kind: str, top: float) -> Tensor:
    """(B,) shares of places that agree."""
    if kind == "sign":
        live = (a != 0) & (b != 0)
        return ((a.sign() == b.sign()) & live).sum(1) / torch.where(live.any(1), live.sum(1).double(), torch.nan)
    k = max(1, round(top * a.shape[1]))
    tops = [torch.zeros_like(v, dtype=torch.bool).scatter_(1, v.abs().topk(k, 1).indices, True) for v in (a, b)]
    both = tops[0] & tops[1]
    return (both & (a.sign() == b.sign()) if kind == "signed-top" else both).sum(1).double() / k
