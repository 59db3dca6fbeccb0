"""`method="auto"`: which method fits this question, and why."""

from dataclasses import dataclass

from ..core import catalogue
from ..core.card import Needs
from ..core.question import Question
from ..core.tree import leaves

GAMES = ("shapley", "permutation-shapley")
"""The methods for a model of which nothing but its answers is known, the first that there is."""


@dataclass(frozen=True)
class Advice:
    """A method and the reason for it."""

    method: str
    reason: str


def advise(q: Question, game: bool = False) -> Advice:
    """The advice for this question; `game` where players, a budget or a tolerance were named."""
    if Needs.TREES in q.model.can and not game:
        return Advice("tree-shap", "auto: tree-shap, since the model is a sum over trees, whose Shapley values are exact and cheap")
    if Needs.GRADIENT not in q.model.can or game:
        name = next(n for n in GAMES if n in catalogue.entries("methods"))
        why = "the parameters are those of a game" if Needs.GRADIENT in q.model.can else "the model gives values only"
        return Advice(name, f"auto: {name}, since {why}; its values sum to the change of the answer, and each carries its error")
    if not q.places and any(getattr(t, "ndim", 0) == 4 for t in leaves(q.x)):
        return Advice("integrated-gradients", "auto: integrated gradients, complete, fine-grained and best supported by evidence among the fast methods on photos")
    return Advice("integrated-gradients", "auto: integrated gradients, complete against the baseline and checked for convergence")
