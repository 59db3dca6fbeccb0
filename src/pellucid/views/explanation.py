"""One row of an explanation as a figure, and every artefact as a file: the picture, and what stands beside it."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UnknownName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..core.explanation import Explanation


def figure(e: "Explanation", row: int | None = None, kind: str = "auto") -> "Figure":
    """What does the explanation look like? The views that fit it, or the one of that kind, and the evidence beside them."""
    from .figure import draw

    return draw(e, row, kind)


def axes(e: "Explanation", ax: "Axes", kind: str = "auto", row: int | None = None) -> "Axes":
    """One view drawn into axes of yours, with its title; "auto" is the first of those that fit."""
    from .figure import titled

    return titled(e, ax, row, kind)


def html(e: "Explanation") -> str:
    """The same view as a self-contained HTML fragment, for notebooks and other pages."""
    from .fragment import fragment

    return fragment(e)


def save(e: "Explanation", path: str | Path) -> None:
    """Writes the first row's figure (.png, .svg) or the whole offline page (.html)."""
    from ..run.files import put

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".png", ".svg", ".html"):
        raise UnknownName("kind of picture file", kind or path.name, (".png", ".svg", ".html"), "Explanation.save writes .json and .safetensors, too.")
    put(path, page_bytes(e) if kind == ".html" else image_bytes(e, kind[1:]))


def image_bytes(e: "Explanation", kind: str = "png", row: int | None = None) -> bytes:
    """The figure of a row (None: of all rows where one view shows them) as the bytes of a PNG or an SVG; its caption travels in the file."""
    from .caption import caption

    out = io.BytesIO()
    told = {"Title" if kind == "svg" else "Description": " · ".join(caption(e, row or 0).lines())}
    figure(e, row).savefig(out, format=kind, metadata=told)
    return out.getvalue()


def page_bytes(e: "Explanation") -> bytes:
    """The offline page of one explanation."""
    from .page import page

    return page([e]).encode()
