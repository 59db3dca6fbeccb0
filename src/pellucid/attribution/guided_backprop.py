"""Guided backprop: the gradient, less what is negative at every rectifier."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each
from ._rectifiers import guided, through_rectifiers


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(Method):
    """Which input patterns does the network see, drawn with clean edges?

    How: at every rectifier, ReLU6, GELU and functional ones too, the gradient is multiplied by the activation's own
    derivative after its negative part is dropped.
    Units: target units over input, as those of a gradient; the values sum to nothing in particular.
    Misleads when: it is taken for an explanation of the class: it recovers edges of the input and hardly depends on the upper
    layers or the class (Adebayo et al. 2018, arXiv:1810.03292). It fails the sanity checks; Pellucid's evidence shows it.
    Source: Springenberg, Dosovitskiy, Brox, Riedmiller 2014, arXiv:1412.6806, section 3.4.
    """

    card = Card(title="Guided backprop", paper="arXiv:1412.6806", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    times_input: bool = param(False, "multiply by the input")

    def attribute(self, q: Question) -> Values:
        g, note = through_rectifiers(q, guided, self.card.title)
        return Values(each(lambda z, s: z * s, q.point, g) if self.times_input else g, notes=(note,))
