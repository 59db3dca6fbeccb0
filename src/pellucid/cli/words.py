"""What stands on a command line, as Python has it."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from ..core.errors import UsageError


def number_or_name(text: str) -> int | str:
    """A class by its number or its name."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def value(text: str) -> Any:
    """A Python literal where it is one (50, 0.1, true, (1, 2)), else the text itself."""
    if text.casefold() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.casefold()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def plan(text: str) -> int | str:
    """Rows at a time, or a plan as an earlier run told it."""
    return int(text) if text.isdigit() else text


def parameters(pairs: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`steps=50 nodes=midpoint` as a dictionary."""
    out = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"{option} needs name=value; got {pair!r}. Inputs go before the options.")
        out[name] = value(text)
    return out
