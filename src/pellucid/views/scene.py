"""What every view of players has in common: made from one row, shown as an HTML fragment, drawn into matplotlib axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from ..core.errors import NotApplicable
from .parts import Parts, parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.explanation import Explanation

INK, MUTED, RULE = "#1b1f24", "#5b6570", "#c9cfd6"
RAISES, LOWERS, SIZE = "#b2182b", "#2166ac", "#14586b"
"""What raises the target, what lowers it, and what has no sign. The style sheet has the same three."""
LETTERS = 33
"""Of a name beside a figure's axes."""


class Scene(Protocol):
    """One view of one row. `indent` and `height` are the inches that its axes want: for names on the left, and from top to bottom."""

    kind: ClassVar[str]

    @classmethod
    def of(cls, e: "Explanation", row: int = 0) -> Self:
        """The view of a row; NotApplicable where there is nothing of the kind to see."""
        ...

    @property
    def indent(self) -> float: ...

    @property
    def height(self) -> float: ...

    def html(self, side: int = 512) -> str:
        """As an HTML fragment, whose style sheet the page brings."""
        ...

    def draw(self, ax: "Axes") -> "Axes":
        """Drawn into axes of yours, which come back."""
        ...


def only_parts(e: "Explanation", row: int, kind: str) -> Parts:
    """The parts of a row that has one list of them."""
    found = parts(e, row)
    if len(found) != 1:
        raise NotApplicable(f'kind="{kind}" needs players or columns, one list a row; this explanation by {e.method} has {len(found) or "none"}. Leave kind out to see what it has.')
    return found[0]


def tone(value: float, signed: bool = True) -> str:
    """The class of a value's colour: raises, lowers, size."""
    return "size" if not signed else "lowers" if value < 0 else "raises"


def colour(value: float, signed: bool = True) -> str:
    """The colour of a value on paper."""
    return {"raises": RAISES, "lowers": LOWERS, "size": SIZE}[tone(value, signed)]


def lines(ax: "Axes", names: Sequence[str]) -> None:
    """Axes with one line a name, the first on top, and no frame but the bottom."""
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names, parse_math=False)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    ax.tick_params(axis="x", color=RULE, labelcolor=MUTED, labelsize=8)


def words(ax: "Axes", x: float, y: float, text: str, **look: Any) -> None:
    """Small text at a place in the data; a dollar sign is a dollar sign."""
    ax.text(x, y, text, **{"size": 8, "color": INK, "va": "center", "parse_math": False, **look})


def whisker(ax: "Axes", x: float, y: float, error: float | None) -> None:
    """One standard error each way."""
    if error is not None and error > 0:
        ax.errorbar(x, y, xerr=error, color=INK, lw=1.1, capsize=2.5, capthick=1.1, zorder=4)
