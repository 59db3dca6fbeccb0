"""Writes docs/reference/catalogue.md from the cards. `make catalogue` runs it; a test says when the page is old."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pellucid.core.card import placed
from pellucid.core.catalogue import KINDS, Entry, Field, entries

PAGE = Path(__file__).parent / "reference" / "catalogue.md"
INTRODUCTION = """# Catalogue

<!-- Made by docs/generate.py from the cards in the source. Do not edit: run `make catalogue`. -->

`pellucid list methods`, `pellucid list metrics` and `pellucid show NAME` print the same, for what is installed with you.
`pellucid list methods --by taxonomy` groups them by their place: passive (a network as it is) or active (built or trained otherwise); what is given
(examples, attribution, hidden semantics, rules); how far it holds (local, semi-local, global); and for which models (agnostic, or specific to what it needs).
The first three axes are those of Zhang, Tiňo, Leonardis and Tang 2021, [arXiv:2012.14261](https://arxiv.org/abs/2012.14261).
"""
ABOUT = {
    "methods": "Each answers one question about what made the model give its answer. "
    'Use the name in `pel.explain(..., method="name")` or `--method name`, and the parameters as keywords or `--set parameter=value`.',
    "effects": "Each says how the answers depend on columns over a whole table. `pel.effect(model, data, method=\"name\")` or `pellucid effects`.",
    "counterfactuals": "Each looks for the smallest change of a row that changes the answer. `pel.counterfactual(model, rows, ...)` or `pellucid counterfactual`.",
    "surrogates": "Each puts a simple model that can be read in the place of a large one, and says how faithful it is. `pel.learn(model, data, method=\"name\")`.",
    "examples": "Each chooses rows that stand for others. `pel.learn(model, data, method=\"name\")`.",
    "metrics": "Each tests an explanation against the model. The basic ones run beside every explanation; what they find is its evidence.",
}
LINKS = {"arxiv:": "https://arxiv.org/abs/", "doi:": "https://doi.org/"}


def render() -> str:
    """The page as it should be."""
    return "\n".join([INTRODUCTION, *(line for kind in KINDS for line in _kind(kind))]).rstrip() + "\n"


def _kind(kind: str) -> Iterator[str]:
    ours = [e for e in entries(kind).values() if e.module.startswith("pellucid.")]
    yield f"## {kind.capitalize()}\n\n{ABOUT[kind]}\n"
    if not ours:
        yield "None yet.\n"
        return
    yield "| name | question it answers | place | needs | promises | cost |\n|---|---|---|---|---|---|"
    for e in ours:
        yield _row(f"[`{e.name}`](#{e.name})", _prose(e.summary), placed(kind, e.card).words(), _words(e.card.needs), _words(e.card.promises), _prose(e.card.cost))
    for e in ours:
        yield from _entry(e)
    yield ""


def _entry(e: Entry) -> Iterator[str]:
    yield f"\n({e.name})=\n### {e.card.title}\n"
    yield f"`{e.name}` · `{e.module.removeprefix('pellucid.')}.{e.cls}`{' · ' + _source(e.card.paper) if e.card.paper else ''}\n"
    yield from _paragraphs(e.doc)
    if e.fields:
        yield "| parameter | default | meaning | range |\n|---|---|---|---|"
        for f in e.fields:
            yield _row(f"`{f.name}`", f"`{f.default!r}`", _prose(f.meaning), _range(f))


def _paragraphs(doc: str) -> Iterator[str]:
    """A docstring as Markdown: its labels in bold, each on its own line, its examples as code."""
    for block in re.split(r"\n\s*\n", doc.strip()):
        before, arrow, code = block.partition(">>>")
        for labelled in re.split(r"\n(?=[A-Z][a-z]+(?: [a-z]+)*: )", before.strip()):
            if labelled:
                yield re.sub(r"^(How|Units|Chance|Misleads when|Source): ", r"**\1:** ", _prose(" ".join(labelled.split()))) + "\n"
        if arrow:
            yield f"```pycon\n>>>{code.rstrip()}\n```\n"


def _prose(text: str) -> str:
    """Text with everything that Markdown would read as a mark escaped, except in `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<$\[\]])", r"\\\1", p) for p in parts)


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _words(flags: object) -> str:
    return ", ".join(f.name.lower().replace("_", " ") for f in flags) or "–"


def _source(paper: str) -> str:
    for prefix, address in LINKS.items():
        if paper.lower().startswith(prefix) and " " not in paper:
            return f"[{paper}]({address}{paper[len(prefix) :]})"
    return _prose(paper)


def _range(f: Field) -> str:
    if f.ge is not None and f.le is not None:
        limits = f"{f.ge} to {f.le}"
    else:
        limits = f"≥ {f.ge}" if f.ge is not None else f"≤ {f.le}" if f.le is not None else ""
    number = " ".join(filter(None, [limits, f.unit]))
    return " or ".join(filter(None, [", ".join(f"`{c}`" for c in f.choices or ()), number])) or "–"


def main() -> None:
    """Writes the page, and says whether it was old."""
    new, old = render(), PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(new, encoding="utf-8")
    sys.stderr.write(f"{PAGE.name}: {'up to date' if new == old else 'written'}\n")


if __name__ == "__main__":
    main()
