"""Deconvnet: rectifiers applied to what flows back."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each
from ._rectifiers import deconvnet, through_rectifiers


@dataclass(frozen=True, kw_only=True)
class Deconvnet(Method):
    """Which input pattern would the network draw from its top down?

    How: at every rectifier the negative part of what flows back is dropped, and whether the activation was on is ignored.
    Units: target units over input, as those of a gradient; the values sum to nothing in particular.
    Misleads when: it is taken for an explanation of the class: like guided backprop it fails the sanity checks
    (Adebayo et al. 2018, arXiv:1810.03292; Nie, Zhang, Patel 2018, arXiv:1805.07039).
    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 2.1.
    """

    card = Card(title="Deconvnet", paper="arXiv:1311.2901", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    times_input: bool = param(False, "multiply by the input")

    def attribute(self, q: Question) -> Values:
        g, note = through_rectifiers(q, deconvnet, self.card.title)
        return Values(each(lambda z, s: z * s, q.point, g) if self.times_input else g, notes=(note,))
