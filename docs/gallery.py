"""Writes docs/reference/gallery.md: every method on the same photograph, with its evidence. `make gallery` runs it; it takes some minutes."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

import pellucid as pel
from pellucid.core import catalogue
from pellucid.core.errors import NotApplicable
from pellucid.views.paint import overlay
from pellucid.views.panels import panels

HERE = Path(__file__).parent
PAGE, PICTURES = HERE / "reference" / "gallery.md", HERE / "images" / "gallery"
PHOTO, TARGET, COLUMNS = "sample:chelsea", 285, 3
QUICK = {"samples": 16, "evidence": "basic"}
INTRODUCTION = f"""# Gallery

<!-- Made by docs/gallery.py. Do not edit: run `make gallery`. -->

Every method of the catalogue on one photograph, `{PHOTO}`, a network with real weights, `efficientnet-lite0`, and one target, class {TARGET} (Egyptian cat).
Below each map stands what its evidence says: *supported*, *doubtful* or *contradicted*, with the reason that weighed most. A beautiful map may be
contradicted: guided backprop and deconvnet draw the edges of the picture whatever the class, and fail the sanity checks.
Red raises the target, blue lowers it; where a map has no sign, brighter is more.
"""


def main() -> None:
    """Explains, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", help="only these; the page then holds only these")
    chosen = parser.parse_args().methods or [n for n, e in catalogue.entries("methods").items() if e.module.startswith("pellucid.")]
    model = pel.load("efficientnet-lite0")
    PICTURES.mkdir(parents=True, exist_ok=True)
    cells, refused = [], []
    for name in chosen:
        try:
            cells.append(_cell(model, name))
        except NotApplicable as sentence:
            refused.append(f"- [`{name}`](#{name}): {sentence}")
        sys.stderr.write(f"{name}\n")
    lines = [INTRODUCTION, *_table(cells)]
    if refused:
        lines += ["\n## Not on this network\n", *refused]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _sheet(sorted(PICTURES.glob("*.jpg"))).save(HERE / "images" / "gallery.jpg", quality=82, optimize=True)


def _sheet(pictures: list[Path], across: int = 8, side: int = 132) -> Image.Image:
    """All maps on one sheet, their names below."""
    sheet = Image.new("RGB", (across * (side + 4), -(-len(pictures) // across) * (side + 20)), "white")
    ink = ImageDraw.Draw(sheet)
    for i, path in enumerate(pictures):
        x, y = i % across * (side + 4), i // across * (side + 20)
        sheet.paste(Image.open(path).resize((side, side)), (x, y))
        ink.text((x + 1, y + side + 3), path.stem if len(path.stem) < 23 else path.stem[:20] + "...", fill="#1b1f24")
    return sheet


def _cell(model: pel.Model, name: str) -> str:
    fields = {f.name for f in catalogue.entries("methods")[name].fields}
    e = pel.explain(model, PHOTO, method=name, target=TARGET, **{k: v for k, v in QUICK.items() if k in fields | {"evidence"}})
    path = PICTURES / f"{name}.jpg"
    Image.fromarray(overlay(panels(e)[0])).resize((224, 224), Image.Resampling.LANCZOS).save(path, quality=82, optimize=True)
    title = catalogue.entries("methods")[name].card.title
    reasons = e.evidence.reasons if e.evidence is not None else ()
    told = f"*{e.evidence.verdict}*" if e.evidence is not None else "no evidence"
    why = reasons[0] if reasons else ""
    cost = f"{e.cost.forward_rows} + {e.cost.backward_rows} rows"
    return f"![{title}](../images/gallery/{name}.jpg)<br>[**{title}**](#{name})<br>{told}: {_escaped(why)}<br>{cost}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _table(cells: list[str]) -> Iterator[str]:
    yield "| " + " | ".join([""] * COLUMNS) + " |\n" + "|---" * COLUMNS + "|"
    for i in range(0, len(cells), COLUMNS):
        row = cells[i : i + COLUMNS]
        yield "| " + " | ".join(row + [""] * (COLUMNS - len(row))) + " |"


if __name__ == "__main__":
    main()
