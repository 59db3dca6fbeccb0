"""Views of players, columns and words: what is drawn is what was found, sign is read without colour, and the right view shows."""

import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from pellucid.core.errors import NotApplicable, UnknownName
from pellucid.core.players import Players
from pellucid.views import beeswarm, explanation as view, paint
from pellucid.views.bar import Bar, mark
from pellucid.views.choose import KINDS, scenes
from pellucid.views.force import Force
from pellucid.views.network import Network
from pellucid.views.overlay import Overlay
from pellucid.views.page import page
from pellucid.views.parts import cell, parts
from pellucid.views.scene import LOWERS, RAISES
from pellucid.views.terminal import render
from pellucid.views.tint import Tint, piece
from pellucid.views.waterfall import Waterfall, arrow
from unit.explanations import NASTY, explanation, photo

NAMES = ("age", f"sex {NASTY}", "bmi $x$", "bp")


def table(rows: int = 1, pairs: bool = False, **changes: Any) -> Any:
    """Four columns worth 3, −2, 1, 0.5, from 1 to 3.5."""
    values = torch.tensor([[3.0, -2.0, 1.0, 0.5]]).repeat(rows, 1).double()
    values[1:, 0] = torch.linspace(-3, 3, max(rows - 1, 0)).double()
    tied = None
    if pairs:
        tied = torch.zeros(rows, 4, 4).double()
        tied[:, 0, 1] = tied[:, 1, 0] = -0.7
        tied[:, 2, 3] = tied[:, 3, 2] = 0.2
    players = Players((NAMES,) * rows, values, values.abs() * 0.1 + 0.01, tied, absent=f"those of 100 background rows {NASTY}")
    told = {"players": players, "axes": ("row", "column"), "base": torch.ones(rows), "total": 1 + values.sum(1), "point": torch.arange(4.0).repeat(rows, 1) * 10_000 - 1, "ids": tuple(range(rows))}
    return explanation(values, **{**told, **changes})


def regions() -> Any:
    """Four quarters of a picture, worth 3, −2, 1, 0."""
    labels = (torch.arange(32) // 16)[:, None] * 2 + torch.arange(32) // 16
    values = torch.tensor([[3.0, -2.0, 1.0, 0.0]]).double()
    players = Players((tuple(f"superpixel {i}" for i in range(4)),), values, values.abs() / 10, labels=labels.expand(1, 3, 32, 32))
    return photo(players=players)


def sentence() -> Any:
    values = torch.tensor([[0.1, -0.02, 0.5, -0.4, 0.0]]).double()
    players = Players((("not", "bad", "##ly", NASTY, "made"),), values)
    return explanation(values, players=players, axes=("row", "word"), point=torch.ones(1, 5), base=torch.zeros(1), total=values.sum(1))


EVERY = {"table": table(), "pairs": table(pairs=True), "many": table(20), "regions": regions(), "sentence": sentence(), "grid": table(axes=("row", "position"))}
OWN = {"bar": table(), "waterfall": table(), "force": table(), "beeswarm": table(20), "network": table(pairs=True), "overlay": regions(), "tint": sentence(), "map": photo()}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def drawn(e: Any, kind: str) -> Any:
    ax = Figure(figsize=(8, 4)).add_subplot()
    assert view.axes(e, ax, kind) is ax
    ax.figure.canvas.draw()
    return ax


@pytest.mark.parametrize("kind", OWN)
def test_every_kind_has_a_fragment_and_a_figure(kind: str) -> None:
    e = OWN[kind]
    text = KINDS[kind].of(e, 0).html()
    tags = Tags(text).seen
    assert not {"script", "link", "style"} & {t for t, _ in tags}
    assert not [k for _, a in tags for k in a if k == "style" or k.startswith("on")]
    assert NASTY not in text
    ax = drawn(e, kind)
    assert "seed 0" in ax.get_title(loc="left")
    assert "espresso" in ax.get_title(loc="left")
    image = Image.open(io.BytesIO(_png(e.plot(kind=kind))))
    assert image.width > 1000


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out)
    return out.getvalue()


def test_every_view_is_tested() -> None:
    assert set(OWN) == set(KINDS)


@pytest.mark.parametrize(("name", "kinds"), [
    ("table", ["waterfall", "bar"]), ("pairs", ["waterfall", "bar", "network"]), ("many", ["beeswarm"]), ("regions", ["overlay", "bar"]), ("sentence", ["tint", "bar"]),
])  # fmt: skip
def test_the_view_follows_from_what_there_is(name: str, kinds: list[str]) -> None:
    assert [s.kind for s in scenes(EVERY[name])] == kinds


def test_a_row_that_is_named_is_shown_by_itself() -> None:
    assert [s.kind for s in scenes(table(20), 3)] == ["waterfall", "bar"]
    assert scenes(table(20), 0)[0].parts.total == 3.5


@pytest.mark.parametrize(("e", "kinds"), [
    (photo(), ["map"]), (explanation(torch.randn(2, 6, 4, 4)), ["map"]), (explanation(torch.randn(2), axes=("row",)), ["bar"]),
    (explanation({"a": torch.randn(2, 3), "b": torch.randn(2, 4, 5)}), ["map", "bar"]), (table(base=torch.zeros(1)), ["bar"]), (table(base=None), ["bar"]),
])  # fmt: skip
def test_without_players_or_a_base_there_is_less_to_see(e: Any, kinds: list[str]) -> None:
    assert [s.kind for s in scenes(e)] == kinds


@pytest.mark.parametrize(("kind", "e", "need"), [
    ("tint", table(), "text"), ("overlay", table(), "regions"), ("network", table(), "interactions"), ("waterfall", table(base=None), "nothing there"), ("force", table(base=None), "signed"),
    ("beeswarm", photo(), "share"), ("bar", photo(), "players"), ("map", table(), "grid"),
])  # fmt: skip
def test_a_view_that_cannot_be_says_what_it_needs(kind: str, e: Any, need: str) -> None:
    with pytest.raises(NotApplicable, match=need):
        e.plot(kind=kind)


def test_an_unknown_view_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="waterfall"):
        table().plot(kind="waterfal")


@pytest.mark.parametrize("name", EVERY)
def test_every_explanation_of_players_becomes_page_figure_and_terminal_text(name: str) -> None:
    e = EVERY[name]
    text = page([e])
    assert NASTY not in text
    assert not [k for _, a in Tags(text).seen for k in a if k == "style"]
    assert Image.open(io.BytesIO(view.image_bytes(e))).width > 1000
    out = io.StringIO()
    Console(file=out, width=100).print(render(e))
    assert "±" in out.getvalue() or e.players.error is None or len(e) > 8


def test_bars_are_as_long_as_the_values_and_start_at_zero() -> None:
    bar = Bar.of(table())
    found = re.findall(r'class="(\w+)"><span class="name">.*?<rect x="([\d.]+)" width="([\d.]+)"', bar.html())
    assert [tone for tone, _, _ in found] == ["raises", "lowers", "raises", "raises"]
    starts, widths = (np.array([float(f[k]) for f in found]) for k in (1, 2))
    assert widths / widths[0] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 6], abs=1e-3)
    assert starts[1] + widths[1] == pytest.approx(starts[0], abs=0.02)
    ax = drawn(table(), "bar")
    assert [p.get_width() for p in ax.patches] == [3, -2, 1, 0.5]
    told = [t.get_text() for t in ax.texts]
    assert told == ["+3.00 ± 0.31", "−2.00 ± 0.21", "+1.00 ± 0.11", "+0.500 ± 0.060"]
    low, high = ax.get_xlim()
    assert low < -2.2
    assert high > 3.3


def test_whiskers_are_one_standard_error() -> None:
    first = re.search(r'whisker" d="M([\d.]+) 5H([\d.]+)', Bar.of(table()).html())
    assert first
    low, high = (float(v) for v in first.groups())
    least, most = Bar.of(table()).reach()
    assert (high - low) / 100 * (most - least) == pytest.approx(0.62, abs=1e-2)


def test_a_waterfall_leads_from_the_base_to_the_answer() -> None:
    steps = Waterfall.of(table()).steps()
    assert [(s.before, s.after) for s in steps] == [(1, 4), (4, 2), (2, 3), (3, 3.5)]
    text = Waterfall.of(table()).html()
    assert "Base: all absent" in text
    assert "The answer: espresso" in text
    assert "100 background rows" in text
    assert Waterfall.of(table()).parts.adds_up


def test_a_waterfall_shows_what_the_values_leave_open() -> None:
    e = table(total=torch.tensor([3.7]))
    last = Waterfall.of(e).steps()[-1]
    assert last.part.name == "Not accounted for"
    assert last.part.value == pytest.approx(0.2, abs=1e-6)
    assert last.after == pytest.approx(3.7)


def test_arrows_point_the_way_they_push() -> None:
    shapes = re.findall(r'class="fill" d="M([\d.]+) [\d.]+L([\d.]+) [\d.]+L([\d.]+) ', Waterfall.of(table()).html())
    ways = [np.sign(float(tip) - float(start)) for start, _, tip in shapes]
    assert ways == [1, -1, 1, 1]
    assert [x for x, _ in arrow(0, 10, 0, 2, 1)] == [0, 9, 10, 9, 0]
    assert [x for x, _ in arrow(10, 0, 0, 2, 1)] == [10, 1, 0, 1, 10]
    assert [x for x, _ in arrow(5, 5.5, 0, 2, 1)] == [5, 5, 5.5, 5, 5]


def test_forces_go_up_from_the_base_and_back_to_the_answer() -> None:
    force = Force.of(table())
    pushes = force.pushes()
    assert [(p.lane, p.before, p.after) for p in pushes] == [(0, 1, 4), (0, 4, 5), (0, 5, 5.5), (1, 5.5, 3.5)]
    text = force.html()
    assert "base 1" in text
    assert "answer 3.5" in text
    assert "→ raises" in text
    assert "← lowers" in text


def test_ties_tell_their_sign_by_dashes_and_their_size_by_width() -> None:
    network = Network.of(table(pairs=True))
    assert [(t.a, t.b, t.value) for t in network.ties()] == [(0, 1, pytest.approx(-0.7)), (2, 3, pytest.approx(0.2))]
    text = network.html()
    widths = {tone: float(w) for tone, w in re.findall(r'class="tie (\w+)" stroke-width="([\d.]+)"', text)}
    assert widths["lowers"] > widths["raises"]
    ax = drawn(table(pairs=True), "network")
    dashed = {line.get_color(): line.get_linestyle() for line in ax.lines}
    assert dashed == {RAISES: "-", LOWERS: "--"}


def test_regions_have_their_values_colours_outlines_and_marks() -> None:
    overlay = Overlay.of(regions())
    assert overlay.panel.heat[0, 0] == 3
    assert overlay.panel.heat[31, 31] == 0
    assert overlay.panel.scale.high == 3
    marks = {o.mark: o for o in paint.outlines(overlay.panel)}
    assert set(marks) == {"▲1", "▼2", "▲3"}
    assert [marks[m].raises for m in ("▲1", "▼2", "▲3")] == [True, False, True]
    x, y = marks["▼2"].peak
    assert (x > 16, y < 16) == (True, True)
    red, blue = (paint.overlay(overlay.panel)[100, at].astype(int) for at in (100, 300))
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30
    text = page([regions()])
    assert text.count("▼2") >= 2, "the mark stands on the picture and in the list"


def test_marks() -> None:
    assert (mark(0, 1.0), mark(1, -0.1)) == ("▲1", "▼2")


def test_words_are_tinted_by_their_share_and_the_strongest_numbered() -> None:
    words = Tint.of(sentence()).words()
    assert [w.text for w in words] == ["not", "bad", "ly", NASTY, "made"]
    assert [w.level for w in words] == [2, 0, 10, 8, 0]
    assert [w.number for w in words] == ["+0.1", "", "+0.5", "−0.4", ""]
    assert words[2].glued
    text = Tint.of(sentence()).html()
    assert 'class="word raises l10">ly</span><small>+0.5</small>' in text
    assert 'class="word lowers l8"' in text
    assert 'bad</span><span class="pile' in text.replace("\n", "")


@pytest.mark.parametrize(("token", "told"), [("##ing", ("ing", True)), ("Ġgood", ("good", False)), ("▁good", ("good", False)), ("▁", ("▁", False)), ("plain", ("plain", False))])
def test_marks_of_tokenizers_are_not_shown(token: str, told: tuple[str, bool]) -> None:
    assert piece(token) == told


def test_long_texts_break_into_lines_that_fit() -> None:
    values = torch.randn(1, 80, generator=torch.Generator().manual_seed(0)).double()
    e = explanation(values, players=Players((tuple(f"word{i}" for i in range(80)),), values), axes=("row", "word"), base=None)
    ax = drawn(e, "tint")
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    assert max(t.get_window_extent(renderer).x1 for t in ax.texts) <= ax.get_window_extent().x1 + 1
    lines = {round(t.get_position()[1]) for t in ax.texts if t.get_text().startswith("word")}
    assert len(lines) > 3


def test_a_swarm_puts_the_strongest_column_first_and_colours_by_what_it_held() -> None:
    e = table(20)
    held = torch.zeros(20, 4)
    held[:, 0] = torch.arange(20.0)
    swarm = beeswarm.Beeswarm.of(e.with_(point=held))
    assert swarm.names == (NAMES[1], NAMES[0], NAMES[2], NAMES[3])
    levels = swarm.levels()
    at = swarm.names.index("age")
    assert list(levels[:, at]) == sorted(levels[:, at])
    assert (levels[0, at], levels[-1, at]) == (0, beeswarm.LEVELS - 1)
    assert set(levels[:, (at + 1) % 4]) == {-1}, "a column that always held the same has no low and high"


def test_dots_of_a_swarm_do_not_cover_each_other() -> None:
    aside = beeswarm.swarm(np.array([1.0, 1.0, 1.0, 2.0]), 0.0, 3.0)
    assert len(set(aside[:3])) == 3
    assert aside[3] == 0
    assert np.abs(aside).max() <= 1


def test_a_swarm_says_what_it_leaves_out() -> None:
    values = torch.randn(3_000, 20, generator=torch.Generator().manual_seed(0))
    swarm = beeswarm.Beeswarm.of(explanation(values, axes=("row", "column"), evidence=None))
    assert swarm.values.shape == (beeswarm.ROWS, beeswarm.TOP)
    assert "12 columns with the largest mean magnitude of 20" in swarm.left_out
    assert "1,000 of 3,000 rows" in swarm.left_out


def test_what_a_column_held_stands_beside_its_name_and_survives_a_cut() -> None:
    (own,) = parts(table())
    assert own.part(0).told == "age = −1"
    assert own.part(3).told == "bp = 29999"
    assert own.part(1).short(14).endswith("… = 9999")
    assert (cell(123456.0), cell(-0.123456)) == ("123,456", "−0.12346")


def test_the_terminal_lists_ten_parts_with_their_errors() -> None:
    values = torch.linspace(-1, 2, 30)[None].double()
    e = explanation(values, players=Players((tuple(f"p{i}" for i in range(30)),), values, values.abs() * 0.1 + 0.01), axes=("row", "column"), point=torch.rand(1, 30))
    out = io.StringIO()
    Console(file=out, width=100).print(render(e))
    text = out.getvalue()
    assert "+2.00 ± 0.21" in text
    assert "20 others together" in text
    assert text.count("±") == 10


def test_how_well_a_surrogate_fits_is_in_the_title() -> None:
    assert "local R² 0.83" in " ".join(view_caption(table(fit=torch.tensor([0.83]))))


def view_caption(e: Any) -> tuple[str, str]:
    from pellucid.views.caption import caption

    return caption(e).lines()


def test_cells_of_a_mixed_table_are_read_from_their_names() -> None:
    rows = [(f"age = {i}", f"sex = {'fm'[i % 2]}", "big = 12,000") for i in range(9)]
    values = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).double()
    e = explanation(values, players=Players(tuple(rows), values), axes=("row", "column"), point=torch.ones(9, 3), base=torch.zeros(9), total=values.sum(1))
    assert [s.kind for s in scenes(e)] == ["beeswarm"]
    swarm = scenes(e)[0]
    assert set(swarm.names) == {"age", "sex", "big"}
    assert swarm.held[:, swarm.names.index("age")].tolist() == list(range(9))
    assert np.isnan(swarm.held[:, swarm.names.index("sex")]).all()
    (own,) = parts(e, 2)
    assert (own.part(0).told, own.part(1).name, own.part(1).held) == ("age = 2", "sex", "f")


def test_others_together_are_a_number_and_no_bar() -> None:
    values = torch.full((1, 40), 0.1).double()
    bar = Bar.of(explanation(values, players=Players((tuple(f"p{i}" for i in range(40)),), values), axes=("row", "column")))
    assert bar.shown[-1].value == pytest.approx(2.8)
    assert bar.reach() == (0, pytest.approx(0.1))
    assert bar.html().count("<rect") == len(bar.shown) - 1


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("axis", ["column", "word"])
def test_nothing_at_all_and_unknown_errors_are_shown_too(n: int, axis: str) -> None:
    values = torch.zeros(1, n).double()
    players = Players((tuple(f"p{i}" for i in range(n)),), values, torch.full((1, n), float("nan")).double(), torch.zeros(1, n, n).double())
    e = explanation(values, players=players, axes=("row", axis), base=torch.ones(1), total=torch.ones(1), point=torch.ones(1, n))
    assert not any(re.search(r"\bnan\b", s.html()) for s in scenes(e))
    assert "Base" in Waterfall.of(e).html()
    for kind in ("auto", "bar", "waterfall", "force"):
        assert e.plot(kind=kind).axes
    out = io.StringIO()
    Console(file=out, width=100).print(render(e))
    assert "nan" not in out.getvalue()


def test_rows_with_fewer_players_are_shown_with_their_own() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 0.0]]).double()
    e = explanation(values, players=Players((("a", "b", "c"), ("d", "e")), values, values.abs()), axes=("row", "word"), base=torch.zeros(2), total=values.sum(1))
    assert [p.name for p in scenes(e, 1)[1].shown] == ["e", "d"]
    assert NASTY not in page([e])
