"""Stability: does a little noise on the input change the map, though not the answer?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import Cancelled, CannotComplete, NotApplicable
from ..core.evidence import Cost, Reading
from ..core.explanation import Explanation
from ..core.procedure import Method, Metric, Scores
from ..core.tree import Tree, each, leaves
from ._mask_pool import generator
from ._subject import Subject, known, live, mean_of, scores

TITLE = "Steady under noise"
MEANING = "Largest relative change of the map (Euclidean) under small uniform noise that keeps the prediction."


@dataclass(frozen=True, kw_only=True)
class Stability(Metric):
    """Does a little noise on the input change the map, though not the answer?

    Misleads when: read as quality. An edge map is the steadiest of all, and integrated gradients at full resolution moves by most of its size.
    Source: Yeh et al., 2019 (max-sensitivity).
    """

    card = Card(title="Steady under noise", paper="arXiv:1901.09392", better="lower", cost="ten more explanations", random=True)
    radius: float = param(0.01, "largest noise", ge=0, unit="fraction of the input's range")
    draws: int = param(10, "noisy copies", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The largest relative change, a row; NaN where no copy kept the prediction."""
        found = self.read(live(e))
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject) -> Reading:
        """A fact; it never votes."""
        if s.method is None:
            return _missing("The map was made elsewhere: its method cannot be run again.")
        if s.q.places:
            return _missing("Only maps at the input are shaken.")
        try:
            rows, cost = self._shaken(s, s.method)
        except Cancelled:
            raise
        except (NotApplicable, CannotComplete) as why:
            return _missing(str(why))
        value = mean_of(rows) if known(rows) else None
        words = f"Noise of {self.radius:.0%} of the range changes the map by up to {value:.0%}." if value is not None else "Every noisy copy changed the prediction."
        return Reading("stability", TITLE, value, rows, "relative change", "fact", words, MEANING, cost)

    def _shaken(self, s: Subject, method: Method) -> tuple[tuple[float | None, ...], Cost]:
        q, cost = s.q.with_target(s.q.resolved_target()), Cost()
        worst: list[float | None] = [None] * s.size
        for k in range(self.draws):
            other = method(q.with_point(noisy(q.point, self.radius, q.seed, q.ids, k)))
            cost = cost + other.cost
            kept = [not s.e.predictions or a[0][0] == b[0][0] for a, b in zip(s.e.predictions or [()] * s.size, other.predictions or [()] * s.size, strict=True)]
            for i, change in enumerate(changes(s.e.values, other.values)):
                if kept[i] and change is not None:
                    worst[i] = max(change, worst[i] or 0.0)
        return tuple(worst), cost


def noisy(x: Tree, radius: float, seed: int, ids: tuple[object, ...], draw: int) -> Tree:
    """`x` with uniform noise of at most `radius` times each row's range."""
    gens = [generator(seed, row, f"shake {draw}") for row in ids]

    def shake(t: Tensor) -> Tensor:
        u = torch.stack([2 * torch.rand(t.shape[1:], generator=g) - 1 for g in gens]).to(t)
        spread = (t.flatten(1).amax(1) - t.flatten(1).amin(1)).reshape(-1, *[1] * (t.ndim - 1))
        return t + radius * spread * u

    return each(shake, x)


def changes(a: Tree, b: Tree) -> list[float | None]:
    """|a - b| / |a| of each row's values; None where `a` is zero."""
    one, two = (torch.cat([t.detach().double().cpu().flatten(1) for t in leaves(v)], 1) for v in (a, b))
    return [float(d / n) if n > 0 else None for d, n in zip((one - two).norm(dim=1), one.norm(dim=1), strict=True)]


def _missing(why: str) -> Reading:
    return Reading("stability", TITLE, None, (), "relative change", "not applicable", why, MEANING)
