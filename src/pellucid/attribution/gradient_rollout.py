"""Gradient-weighted attention rollout: attention that mattered to the target, carried through the layers."""

from dataclasses import dataclass

from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._attention import Attention, placed, query_weights, read, square


@dataclass(frozen=True, kw_only=True)
class GradientRollout(Method):
    """Which tokens did attention carry to this answer, for this class?

    How: in each layer, attention times its gradient, negative parts dropped, averaged over heads: A'. Relevance grows from the
    identity by R <- R + A' R, layer by layer; the rows of the tokens that the target reads are given, less the identity.
    Attention below the place that is asked for is left out.
    Units: products of target units, one factor a layer on the way: compare tokens, not models. Never negative, one value a token;
    on a picture the tokens' grid is enlarged.
    Misleads when: the answer rests on what speaks against it, which is dropped, or on what MLPs and values do.
    Source: Chefer, Gur, Wolf 2021, arXiv:2103.15679, equations 5 and 6.
    """

    card = Card(title="Gradient-weighted rollout", paper="arXiv:2103.15679", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row", signed=False)
    query: str = param("auto", "tokens at which the answer is read; auto: those that the target depends on", choices=("auto", "first", "last", "mean"))

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        return placed(q, read(q, self.rolled, self.card.title), self.card.title)

    def rolled(self, layers: list[Attention]) -> Tensor:
        """(n, tokens) w (I + A'_L) ... (I + A'_1) - w, carried down as a vector."""
        w = query_weights(layers[-1], self.query)[:, None]
        r = w
        for f in reversed(list(square(layers, self.card.title))):
            r = r + r @ (f.a * f.g).clamp(min=0).mean(1)
        return (r - w)[:, 0]
