"""Excitation backprop: the chance that a walk down excitatory connections ends at an input."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise
from ..core.procedure import Method, Values
from ..core.question import Question
from ._composites import Options, composite
from ._conserved import relevance


@dataclass(frozen=True, kw_only=True)
class ExcitationBackprop(Method):
    """Which inputs would win if each unit, from the target down, chose one of the units that excite it, by how much it does?

    How: p_j = x_j sum_i w+_ij p_i / sum_k w+_ik x_k at every operation with weights; biases take no part, and a negative input excites
    through a negative weight.
    Units: probabilities; they sum to 1 but for units that nothing excites, and a note says.
    Misleads when: the class matters: units that excite one class excite most others too. Contrastive excitation backprop takes that out.
    Source: Zhang, Lin, Brandt, Shen, Sclaroff 2016, arXiv:1608.00507, equations 1 to 3.
    """

    card = Card(title="Excitation backprop", paper="arXiv:1608.00507", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LOCAL | Promise.SYMMETRIC, cost="1 forward and 1 backward row")

    def attribute(self, q: Question) -> Values:
        return relevance(q, composite(q, "excitation-backprop", Options()), unit=True)
