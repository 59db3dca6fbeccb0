"""Templates and style sheets: every value is escaped on its way into HTML."""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2

ROOM = Path(__file__).parent / "templates"


@functools.cache
def templates() -> jinja2.Environment:
    """The templates; every value in them is escaped."""
    return jinja2.Environment(loader=jinja2.FileSystemLoader(ROOM), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)


def rendered(name: str, **values: Any) -> str:
    """One template with its values."""
    return templates().get_template(f"{name}.html.j2").render(values)


@functools.cache
def style() -> str:
    """Our own style sheet for everything that can stand in a fragment."""
    return sheets("explanation.css", "players.css")


@functools.cache
def sheets(*names: str) -> str:
    """Style sheets as they stand, one after the other."""
    return "\n".join((ROOM / n).read_text(encoding="utf-8") for n in names)


def digest(sheet: str) -> str:
    """By what a page's own policy knows its style sheet."""
    return base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
