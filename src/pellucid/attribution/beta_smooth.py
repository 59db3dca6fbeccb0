"""Beta-smoothed gradient: the gradient with rounded rectifiers."""

from dataclasses import dataclass

from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import each
from ._rectifiers import beta_smooth, through_rectifiers


@dataclass(frozen=True, kw_only=True)
class BetaSmooth(Method):
    """What is the gradient if the kinks of the rectifiers are rounded off?

    How: at every rectifier the derivative of a softplus of sharpness `beta` stands in for the activation's own: less
    noise, and harder to manipulate. Values of the network stay as they are.
    Units: target units over input, as those of a gradient; the values sum to nothing in particular.
    Misleads when: `beta` is so small that another network is explained.
    Source: Dombrowski, Alber, Anders, Ackermann, Mueller, Kessel 2019, arXiv:1906.07983, section 5.
    """

    card = Card(title="Beta-smoothed gradient", paper="arXiv:1906.07983", needs=Needs.GRADIENT | Needs.MODULES, promises=Promise.NONE, cost="1 forward and 1 backward row")
    times_input: bool = param(False, "multiply by the input")
    beta: float = param(10.0, "sharpness of the softplus", ge=1e-3, le=1e6, unit="1 / activation")

    def attribute(self, q: Question) -> Values:
        g, note = through_rectifiers(q, beta_smooth(self.beta), self.card.title)
        return Values(each(lambda z, s: z * s, q.point, g) if self.times_input else g, notes=(note,))
