"""What was learnt or found, as a figure, an HTML fragment and a page: each kind of result names the view that shows it."""

import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import NotApplicable, UnknownName
from .evidence import cost_text
from .rendered import digest, rendered, sheets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..core.estimator import Fitted

SHOWN_BY: dict[str, str] = {
    "Comparison": "comparison",
    "AnchorRules": "anchor",
    "Counterfactuals": "differences",
    "BrokenDown": "broken_down",
    "Effects": "effects",
    "Interactions": "together",
    "TreeSummary": "tree_diagram",
    "RuleList": "rules",
    "LinearSummary": "coefficients",
    "Examples": "prototypes",
    "NeighboursSummary": "neighbours",
}
"""The view, a module of this package, for each kind of result. A view offers `figure(found, **settings)`, `fragment(found)` (HTML without a style sheet),
`title(found)` (one line that a person reads first) and `limits(found)` (sentences: what it does not show)."""
SHEETS = ("explanation.css", "players.css", "fitted.css", "comparison.css")


def figure(found: "Fitted", **settings: Any) -> "Figure":
    """The figure of what was found."""
    made: Figure = _view(found).figure(found, **settings)
    return made


def html(found: "Fitted") -> str:
    """The same as a self-contained HTML fragment, for notebooks and other pages."""
    return rendered("fitted", style=sheets(*SHEETS), body=_view(found).fragment(found))


def title(found: "Fitted") -> str:
    """The line that a person reads first."""
    return str(_view(found).title(found))


def save(found: "Fitted", path: str | Path) -> None:
    """Writes the figure (.png, .svg) or the whole offline page (.html)."""
    from ..run.files import put

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".png", ".svg", ".html"):
        raise UnknownName("kind of picture file", kind or path.name, (".png", ".svg", ".html"))
    put(path, page(found).encode() if kind == ".html" else image_bytes(found, kind[1:]))


def image_bytes(found: "Fitted", kind: str = "png", **settings: Any) -> bytes:
    """The figure as the bytes of a PNG or an SVG; its title travels in the file."""
    out = io.BytesIO()
    figure(found, **settings).savefig(out, format=kind, metadata={"Title" if kind == "svg" else "Description": title(found)})
    return out.getvalue()


def page(found: "Fitted") -> str:
    """One offline page: what was found, what it does not show, how to repeat it."""
    view, sheet = _view(found), sheets(*SHEETS, "page.css")
    p = found.provenance
    section = {
        "articles": [view.fragment(found)], "left_out": 0, "summary": "", "limits": view.limits(found), "asked": "", "units": "", "command": p.get("command"), "python": p.get("code"),
        "facts": facts(found), "notes": list(dict.fromkeys([*p.get("notes", []), *found.notes])),
    }  # fmt: skip
    return rendered("page", style=sheet, digest=digest(sheet), title=title(found), sections=[section], created=p.get("created", ""))


def facts(found: "Fitted") -> list[tuple[str, str]]:
    """Where it comes from, as names and values."""
    p = found.provenance
    settings = ", ".join(f"{k} {v}" for k, v in found.parameters.items())
    known = {
        "Model": p.get("spec") or p.get("model"), "Rows": f"{p['rows']:,}" if "rows" in p else None, "Inputs' hash": p.get("input_hash"),
        "Made by": f"{found.estimator} ({settings})" if settings else found.estimator, "Target": ", ".join(found.target), "Seed": p.get("seed"), "Cost": cost_text(found.cost),
        "Versions": ", ".join(f"{k} {p[k]}" for k in ("pellucid", "torch", "python") if k in p), "Made": p.get("created"),
    }  # fmt: skip
    return [(k, str(v)) for k, v in known.items() if v not in (None, "")]


def _view(found: "Fitted") -> Any:
    for kind in type(found).__mro__:
        if kind.__name__ in SHOWN_BY:
            return importlib.import_module(f"{__package__}.{SHOWN_BY[kind.__name__]}")
    raise NotApplicable(f"There is no picture of {type(found).__name__} yet; .table() has its numbers and save('x.json') keeps them.")
