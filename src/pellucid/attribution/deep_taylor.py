"""Deep Taylor decomposition: relevance by first-order expansions around points where nothing is relevant."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._composites import Options, composite, looks_at_pictures
from ._conserved import relevance


@dataclass(frozen=True, kw_only=True)
class DeepTaylor(Method):
    """Which inputs does the evidence for the answer rest on, if each layer is expanded where its evidence vanishes?

    How: z+ without biases at every operation with weights; at the first, z-box for pixels, whose range is known or read off the picture,
    and w-square for inputs without a range.
    Units: the target's; of one sign where the network rectifies. They sum to the target but for units that nothing positive feeds; a note says.
    Misleads when: the target is not positive: what is decomposed is evidence for it. What speaks against it is not shown.
    Source: Montavon, Lapuschkin, Binder, Samek, Mueller 2017, arXiv:1512.02479, sections 4 and 5.
    """

    card = Card(title="Deep Taylor decomposition", paper="arXiv:1512.02479", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LINEAR | Promise.SYMMETRIC, cost="1 forward and 1 backward row")
    first: str = param("auto", "rule of the first weights; auto: z-box for pictures, w-square else", choices=("auto", "z-box", "w-square"))

    def attribute(self, q: Question) -> Values:
        box = looks_at_pictures(q) if self.first == "auto" else self.first == "z-box"
        return relevance(q, composite(q, "deep-taylor-box" if box else "deep-taylor-square", Options()))
