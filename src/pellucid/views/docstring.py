"""The parts of a procedure's docstring (How, Units, Misleads when, Source), read for reports and the command line."""

import re

HEADINGS = ("How", "Units", "Misleads when", "Source")
_STARTS = re.compile(rf"^({'|'.join(HEADINGS)}):\s*", re.MULTILINE)


def section(doc: str, heading: str) -> str:
    """One section as a single paragraph, "" where the docstring has none."""
    return sections(doc).get(heading, "")


def sections(doc: str) -> dict[str, str]:
    """Every section of a docstring by its heading, each as one paragraph."""
    text = doc.split(">>>")[0]
    pieces = _STARTS.split(text)
    return {head: " ".join(body.split()) for head, body in zip(pieces[1::2], pieces[2::2], strict=True)}
