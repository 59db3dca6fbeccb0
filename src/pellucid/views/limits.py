"""What an explanation does not show: the limits of its method, of its question, and of what could be checked."""

from typing import TYPE_CHECKING

from ..core import catalogue
from ..core.card import Promise
from .caption import method_title
from .docstring import section

if TYPE_CHECKING:
    from ..core.explanation import Explanation

ALWAYS = (
    "It shows what this model used for this answer on this input. It does not show that the model is right, fair or safe, or that the world works this way.",
    "It speaks of these inputs only. Another picture of the same thing may be answered for other reasons.",
)


def limits(e: "Explanation") -> list[str]:
    """The sentences for one explanation, the most particular first."""
    return [*_method(e), *_question(e), *_unchecked(e), *ALWAYS]


def _method(e: "Explanation") -> list[str]:
    entry = catalogue.entries("methods").get(e.method)
    misleads = section(entry.doc, "Misleads when") if entry else ""
    told = [f"{method_title(e.method)} misleads when: {misleads}"] if misleads else []
    if not e.signed:
        told.append("The map is unsigned: it marks where, not which way. A marked part may raise or lower the answer.")
    if entry and Promise.COMPLETE not in entry.card.promises:
        told.append("The values do not sum to the answer: compare them with each other, not with the model's output.")
    return told


def _question(e: "Explanation") -> list[str]:
    told = []
    if e.baseline != "none":
        told.append(f"Absence means the baseline {e.baseline}. With another baseline the map can look quite different.")
    if any("rather than" not in t for t in e.target):
        told.append("Evidence that a class shares with a similar one is marked for both. To see what tells them apart, explain the contrast of the two.")
    return told


def _unchecked(e: "Explanation") -> list[str]:
    if e.evidence is None:
        return ["Nothing about this map was checked: no evidence was asked for."]
    return [f"Not checked: {r.title[:1].lower() + r.title[1:]}. {r.sentence}" for r in e.evidence.readings if r.verdict == "not applicable"]
