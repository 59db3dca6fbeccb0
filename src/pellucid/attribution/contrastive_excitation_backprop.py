"""Contrastive excitation backprop: what excites the target, less what excites its opposite."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..core._kept import safe
from ..core.card import Card, Needs, Promise, param
from ..core.places import Place
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.target import Target
from ..core.tree import each
from ._composites import Options, composite, overridden
from ._conserved import relevance
from ._relevance import turned


@dataclass(frozen=True, kw_only=True)
class ContrastiveExcitationBackprop(Method):
    """Which inputs excite the target more than they excite everything but the target?

    How: excitation backprop of the target, less that of a unit with the same last weights turned round; the positive part of the difference
    is shown. With a contrast layer the positive part is taken there, and goes on down by excitation backprop.
    Units: differences of probabilities, none below 0. They sum to 1 at the most where relevance only splits and adds up;
    on networks with products of values (gates) or several roads of both signs the sum may be more.
    Misleads when: the last weights are not those of the classes, as with a softmax inside the model.
    Source: Zhang, Lin, Brandt, Shen, Sclaroff 2016, arXiv:1608.00507, section 3.3.
    """

    card = Card(title="Contrastive excitation backprop", paper="arXiv:1608.00507",
                needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.LOCAL | Promise.SYMMETRIC, signed=False,
                cost="1 forward and 1 backward row; three where contrasted at a layer that is named")
    contrast: str = param("", "layer where the positive part of the difference is taken; none: where the values are")

    def attribute(self, q: Question) -> Values:
        if not self.contrast:
            rules = composite(q, "contrastive-excitation-backprop", Options())
            found = relevance(q, replace(rules, counted=False), unit=True)
            return replace(found, values=each(lambda v: v.clamp(min=0), found.values))
        excited = replace(composite(q, "excitation-backprop", Options()), counted=False)
        there = q.at_layer(self.contrast)
        one, other = (relevance(there, r, unit=True).values for r in (excited, overridden(excited, {"last": turned}, Options())))
        rest = each(lambda a, b, h: (a - b).clamp(min=0) / safe(h), one, other, there.point)
        return relevance(q.about(Along(there.places[0], rest)), excited)


@dataclass(frozen=True, eq=False)
class Along(Target):
    """A layer's value, each row's along a direction of its own."""

    layer: Place
    directions: Tensor

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return (out * self.directions[rows.to(self.directions.device)]).flatten(1).sum(1)
