"""How far a simple model can be trusted, above everything that is shown of it."""

from typing import TYPE_CHECKING, Any

from .rendered import rendered
from .scene import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TONES = {"faithful": "good", "rough": "doubtful", "not faithful": "bad", "exact": "good"}
COLOURS = {"good": "#1d6b42", "doubtful": "#8a5a00", "bad": "#a3262a"}
EXACT = "This is the model itself: nothing is approximated."


def verdict(found: Any) -> tuple[str, str]:
    """(tone, sentence) of a surrogate's fidelity, or that the model itself is shown."""
    if found.fidelity is None:
        return TONES["exact"], EXACT
    return TONES[found.fidelity.verdict], found.fidelity.sentence


def banner(found: Any) -> str:
    """The same as an HTML fragment."""
    tone, sentence = verdict(found)
    word, _, rest = sentence.partition(". ") if found.fidelity is not None else (sentence, "", "")
    return rendered("faithful", tone=tone, word=f"{word}." if rest else word, rest=rest)


def headed(found: Any, head: str, width: float, height: float) -> "Figure":
    """A figure with a headline and the fidelity under it; `height` inches are left below, from 0.95 inches on."""
    import textwrap

    from matplotlib.figure import Figure

    made, (tone, sentence) = Figure(figsize=(width, height + 0.95), dpi=144, facecolor="white"), verdict(found)
    tall = height + 0.95
    made.text(0.25 / width, 1 - 0.2 / tall, "\n".join(textwrap.wrap(head, int(width * 8.2))[:1]), size=13, weight="bold", color=INK, va="top", parse_math=False)
    made.text(0.25 / width, 1 - 0.52 / tall, "\n".join(textwrap.wrap(sentence, int(width * 14))[:2]), size=8.5, color=COLOURS[tone], va="top", parse_math=False, linespacing=1.4)
    return made


def place(figure: "Figure", left: float, top: float, right: float, bottom: float) -> Any:
    """Axes by their distances from the figure's edges, in inches."""
    w, h = figure.get_size_inches()
    ax = figure.add_axes((left / w, bottom / h, 1 - (left + right) / w, 1 - (top + bottom) / h))
    ax.tick_params(labelsize=8, labelcolor=MUTED)
    return ax


def told(found: Any) -> list[str]:
    """Limits that every surrogate has."""
    limit = "A surrogate says what the model does on rows like these, not why, and not what happens elsewhere. Its intervals treat the rows as independent draws."
    own = [] if found.fidelity is None else [found.fidelity.sentence, limit]
    return [*own, "It does not show that the model is right, fair or safe, or that the world works this way."]
