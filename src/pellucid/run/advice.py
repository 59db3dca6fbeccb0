"""`method="auto"`: which method fits this question, and why."""

from dataclasses import dataclass

from ..core.card import Needs
from ..core.question import Question
from ..core.tree import leaves


@dataclass(frozen=True)
class Advice:
    """A method and the reason for it."""

    method: str
    reason: str


def advise(q: Question) -> Advice:
    """The advice for this question."""
    if Needs.GRADIENT not in q.model.can:
        return Advice("occlusion", "auto: occlusion, since the model gives values only")
    if not q.places and any(getattr(t, "ndim", 0) == 4 for t in leaves(q.x)):
        return Advice("integrated-gradients", "auto: integrated gradients, complete, fine-grained and best supported by evidence among the fast methods on photos")
    return Advice("integrated-gradients", "auto: integrated gradients, complete against the baseline and checked for convergence")
