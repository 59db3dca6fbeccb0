"""Attention rollout: attention, multiplied through the layers."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._attention import Attention, fused, placed, query_weights, read, square, with_residual


@dataclass(frozen=True, kw_only=True)
class AttentionRollout(Method):
    """Which tokens can attention have carried to where the answer is read?

    How: each layer's attention, averaged over heads and mixed half and half with the identity for the residual road, is multiplied
    through the layers; the rows of the tokens that the target reads are given. Attention below the place that is asked for is left out.
    Units: shares of attention, which sum to one over all tokens; where a picture's class token is left out, to less.
    One value a token; on a picture the tokens' grid is enlarged.
    Misleads when: it is taken for an explanation of the class: apart from the tokens that are read, it is the same for every target,
    and it says nothing of what values, MLPs and heads do with what attention carried.
    Source: Abnar, Zuidema 2020, arXiv:2005.00928, section 3.
    """

    card = Card(title="Attention rollout", paper="arXiv:2005.00928", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row", signed=False)
    heads: str = param("mean", "how heads are made one", choices=("mean", "max", "min"))
    residual: float = param(0.5, "weight of the residual road", ge=0, le=1, unit="fraction")
    query: str = param("auto", "tokens at which the answer is read; auto: those that the target depends on", choices=("auto", "first", "last", "mean"))

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        return placed(q, read(q, self.rolled, self.card.title), self.card.title)

    def rolled(self, layers: list[Attention]) -> Tensor:
        """(n, tokens) the rows of the product of all layers: a vector is carried down, no T x T product is ever made."""
        r = query_weights(layers[-1], self.query)[:, None]
        for f in reversed(list(square(layers, self.card.title))):
            r = r @ with_residual(fused(f.a, self.heads), self.residual)
        return r[:, 0]
