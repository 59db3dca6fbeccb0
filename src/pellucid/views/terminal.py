"""An explanation in a terminal: what was asked, what the model answers, what the evidence says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .beeswarm import FEWEST, Beeswarm
from .caption import caption, cut, measured, number, short_target
from .choose import all_rows
from .evidence import MARKS, VERDICTS, cost_text, judgement, value_text
from .parts import Parts, parts

if TYPE_CHECKING:
    from ..core.explanation import Evidence, Explanation

TOP = 10
"""Parts that a terminal shows one by one."""
TONES = {"good": "green", "doubtful": "yellow", "bad": "red"}


def render(e: "Explanation") -> RenderableType:
    """Every row's question and answer, then the evidence once."""
    rows: list[RenderableType] = [_row(e, row) for row in range(len(e.target))]
    rows += [Padding(_means(swarm), (1, 0, 1, 2))] if (swarm := all_rows(e)) and len(rows) > FEWEST else []
    end = Text(f"The explanation cost {cost_text(e.cost)}.", style="dim")
    return Group(*rows, *(_evidence(e.evidence) if e.evidence else [Text("No evidence was asked for; an explanation alone does not show that it is right.")]), end)


def _row(e: "Explanation", row: int) -> RenderableType:
    words = caption(e, row)
    head, told = words.lines()
    lines: list[RenderableType] = [Text(head, style="bold"), Text(f"{words.row} · {told}", style="dim")]
    own = judgement(e, row)
    if own and len(e.target) > 1:
        lines.append(Text(f"{own.mark} {own.word}", style=TONES[own.tone]))
    told_rows = e.predictions[row] if row < len(e.predictions) else ()
    if told_rows:
        lines.append(Padding(_predictions(told_rows, short_target(e.target[row])), (1, 0, 1, 2)))
    if len(e.target) <= FEWEST:
        lines += [Padding(_parts(own), (0, 0, 1, 2)) for own in parts(e, row) if len(own) > 1]
    return Group(*lines)


def _parts(own: Parts) -> Table:
    """The weightiest parts with their standard errors, and a bar that says which way."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    most = float(abs(own.values).max()) or 1.0
    for p in own.strongest(TOP):
        colour = "red" if p.value > 0 and own.signed else "blue" if own.signed else "cyan"
        table.add_row(Text(cut(p.told, 44)), Text(measured(p.value, p.error, own.signed), justify="right"), Text("█" * round(16 * abs(p.value) / most) or "▏", style=colour))
    return table


def _means(swarm: Beeswarm) -> Table:
    """The mean magnitude of each column over all rows."""
    means = [float(abs(swarm.values[:, j]).mean()) for j in range(len(swarm.names))]
    most = max(means) or 1.0
    table = Table(box=None, title="Mean size over the rows", title_justify="left", title_style="dim", show_header=False, padding=(0, 2, 0, 0))
    for name, mean in list(zip(swarm.names, means, strict=True))[:TOP]:
        table.add_row(Text(cut(name, 44)), Text(number(mean), justify="right"), Text("█" * round(16 * mean / most) or "▏", style="cyan"))
    return table


def _predictions(rows: Sequence[tuple[str, float]], asked: str) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, p in rows:
        style = "bold" if name.split(",")[0] == asked else ""
        table.add_row(Text(name, style=style), Text(f"{100 * p:5.1f} %", style=style), Text("█" * round(24 * p) or "▏", style="cyan" if style else "dim"))
    return table


def _evidence(evidence: "Evidence") -> list[RenderableType]:
    word, tone = VERDICTS[evidence.verdict]
    over = f", over all {len(evidence.rows)} rows" if len(evidence.rows) > 1 else ""
    head = Text(f"{MARKS[tone]} {word}{over}", style=f"bold {TONES[tone]}")
    reasons = [Padding(Text(r), (0, 0, 0, 2)) for r in evidence.reasons]
    return [head, *reasons, Padding(evidence_table(evidence), (1, 0)), Text(evidence.note, style="italic dim"), Text(f"The evidence cost {cost_text(evidence.cost)}.", style="dim")]


def evidence_table(evidence: "Evidence") -> Table:
    """The evidence as a table: every check with its verdict, what it says, its value and its cost."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("Verdict", min_width=10)
    table.add_column("Check", ratio=1)
    table.add_column("Value", justify="right", max_width=14)
    table.add_column("Cost in rows", style="dim", max_width=18)
    for r in evidence.readings:
        told = Text(f"{MARKS[r.verdict]} {r.verdict.replace('not applicable', 'n/a')}", style=TONES.get(r.verdict, "dim"))
        table.add_row(told, Text.assemble(r.title, "\n", (r.sentence, "dim")), value_text(r), cost_text(r.cost))
    return table
