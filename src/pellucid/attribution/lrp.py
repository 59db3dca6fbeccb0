"""LRP: layer-wise relevance propagation."""

from dataclasses import dataclass
from typing import Any

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._composites import Options, composite
from ._conserved import relevance


@dataclass(frozen=True, kw_only=True)
class LRP(Method):
    """Where does the answer come from, if every operation hands what it gets back to what it was made of?

    How: the answer flows back through every operation, functional ones too, and is shared among its inputs by a rule: by z (LRP-0), by z
    damped (epsilon), with the positive favoured (gamma) or alone (z-plus), alpha positive less beta negative (alpha-beta). A composite says
    which rule acts where. Activations hand on what they get, products give each factor its part, scales of normalizations take nothing.
    A BatchNorm after a linear operation is seen as one with it.
    Units: the target's. They sum to the target less what biases and shifts kept; a note says who kept how much.
    Misleads when: biases hold most of the answer, as in networks with BatchNorm; z-plus and gamma show what is there more than what decides.
    LRP is the subject of patents in some countries.
    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140; composites: Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10.
    """

    card = Card(title="Layer-wise relevance propagation", paper="doi:10.1371/journal.pone.0130140",
                needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LINEAR | Promise.SYMMETRIC, cost="1 forward and 1 backward row")
    composite: str = param("epsilon-plus", "which rule acts where",
                           choices=("lrp-0", "epsilon", "gamma", "z-plus", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box", "alpha2-beta1", "alpha2-beta1-flat"))
    epsilon: float = param(1e-6, "damping of the epsilon rule", ge=0, unit="outputs of an operation")
    gamma: float = param(0.25, "how much more the gamma rule favours what agrees with the output", ge=0)
    alpha: float = param(2.0, "weight of the positive in the alpha-beta rule; beta is one less", ge=1)
    bias: bool = param(True, "biases take their part of the relevance; without, all of it goes on to the inputs")
    over: Any = param(None, 'exceptions, where -> rule: {"first": "flat", "blocks.3": "gamma", "last": "epsilon"}; rules of your own are functions')
    rules: Any = param(None, "a composite of your own, a Rules value, in the place of the named one")

    def attribute(self, q: Question) -> Values:
        options = Options(epsilon=self.epsilon, gamma=self.gamma, alpha=self.alpha, bias=self.bias)
        return relevance(q, composite(q, self.composite if self.rules is None else self.rules, options, self.over))
