"""AttnLRP: layer-wise relevance propagation through transformers."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._attention import ATTN_LRP, CP_LRP
from ._conserved import relevance


@dataclass(frozen=True, kw_only=True)
class AttnLRP(Method):
    """Which tokens, and which numbers of their embeddings, does a transformer build its answer on?

    How: point times a gradient that flows by rules on operations. Linear operations share by z; an activation hands on what it gets,
    f(x) / x; a product gives half to each factor (attention times values, queries times keys, gates times values); a softmax gives
    x (R - s sum R); the scale of a normalization is a constant. With `attention="constant"` attention probabilities are constants
    too, as in CP-LRP, and what would have gone to queries and keys goes to the values.
    Units: the target's. They sum to the target less what biases, shifts and the softmax's higher orders absorbed; a note says what.
    Misleads when: biases or the softmax absorb much of the answer; on vision transformers it is noisy.
    LRP is the subject of patents in some countries.
    Source: Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek 2024, arXiv:2402.05602, section 3; CP-LRP: Ali, Schnake,
    Eberle, Montavon, Mueller, Wolf 2022, arXiv:2202.07304.
    """

    card = Card(title="AttnLRP", paper="arXiv:2402.05602", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LOCAL | Promise.LINEAR | Promise.SYMMETRIC, cost="1 forward and 1 backward row")
    attention: str = param("shared", "attention shares relevance with the values, or is constant (CP-LRP)", choices=("shared", "constant"))

    def attribute(self, q: Question) -> Values:
        return relevance(q, ATTN_LRP if self.attention == "shared" else CP_LRP)
