"""Attention flow: how much attention could carry from each token, if every layer were a pipe."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ._attention import Attention, fused, placed, query_weights, read, square, with_residual

if TYPE_CHECKING:
    from scipy.sparse import csr_array

UNIT = 10**8
"""Capacities are whole numbers of hundred-millionths, so that the maximum is exact."""


@dataclass(frozen=True, kw_only=True)
class AttentionFlow(Method):
    """How much could attention at most have carried from each token to where the answer is read?

    How: tokens of all layers are the nodes of a graph whose edges hold as much as the layer's attention, averaged over heads and mixed
    half and half with the identity. For each token of the input, the maximum flow from the tokens that the target reads; where it
    reads several, each one's flow is computed and their mean given. Attention below the place that is asked for is left out.
    Units: capacity; one token's full attention is 1, and the values do not sum to it. One value a token; on a picture the grid is enlarged.
    It costs a maximum flow for each token (and each that is read) over layers x tokens^2 edges, on the CPU: about tokens^3, a text of
    60 tokens takes seconds, a picture of 200 minutes.
    Misleads when: it is taken for an explanation of the class: apart from the tokens that are read, it is the same for every target;
    and it tells what can flow, not what does.
    Source: Abnar, Zuidema 2020, arXiv:2005.00928, section 3.
    """

    card = Card(title="Attention flow", paper="arXiv:2005.00928", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row", signed=False)
    heads: str = param("mean", "how heads are made one", choices=("mean", "max", "min"))
    residual: float = param(0.5, "weight of the residual road", ge=0, le=1, unit="fraction")
    query: str = param("auto", "tokens at which the answer is read; auto: those that the target depends on", choices=("auto", "first", "last", "mean"))
    tokens: int = param(128, "longest sequence that is tried", ge=1, le=100_000)

    def shaped(self, q: Question) -> None:
        return None

    def attribute(self, q: Question) -> Values:
        return placed(q, read(q, self.flows, self.card.title), self.card.title)

    def flows(self, layers: list[Attention]) -> Tensor:
        """(n, tokens) flows to each token, row by row."""
        t = layers[0].a.shape[-1]
        if t > self.tokens:
            raise NotApplicable(f"{self.card.title} needs sequences of at most {self.tokens} tokens, as its cost grows with their third power; got {t}. Use attention-rollout, or wait: tokens={t}.")
        caps = torch.stack([with_residual(fused(f.a, self.heads), self.residual) for f in square(layers, self.card.title)], 1)
        weights = query_weights(layers[-1], self.query)
        rows = [_mean_flow(c, w) for c, w in zip(caps.double().cpu().numpy(), weights.double().cpu().numpy(), strict=True)]
        return torch.from_numpy(np.stack(rows)).to(caps)


def _mean_flow(caps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(tokens,) flows of one row, from (layers, queries, keys) capacities, averaged over the tokens that are read."""
    from scipy.sparse.csgraph import maximum_flow

    graph, t = _graph(caps), caps.shape[1]
    top = len(caps) * t
    flows = [[weights[i] * maximum_flow(graph, top + i, j).flow_value for j in range(t)] for i in np.flatnonzero(weights)]
    return np.sum(flows, 0) / UNIT


def _graph(caps: np.ndarray) -> "csr_array":
    """Node l * T + i is token i after l layers; its edges go down to the tokens it attends to."""
    from scipy.sparse import csr_array

    depth, t, _ = caps.shape
    whole = np.rint(caps * UNIT).astype(np.int32)
    layer, query, key = whole.nonzero()
    return csr_array((whole[layer, query, key], ((layer + 1) * t + query, layer * t + key)), shape=((depth + 1) * t,) * 2)
