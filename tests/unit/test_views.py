"""The views: sign without colour, scales printed, text escaped, one file that needs nothing else."""

import base64
import dataclasses
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from pellucid.core.errors import UsageError
from pellucid.report.write import add_report, write_report
from pellucid.run.store import Store
from pellucid.views import docstring, evidence as words, explanation as view, paint, panels, parts
from pellucid.views.caption import caption, cut, measured, number, parameters_text, short_target
from pellucid.views.limits import limits
from pellucid.views.page import page
from pellucid.views.terminal import render
from unit.explanations import NASTY, evidence, explanation, photo, reading

SHAPES = {
    "photo": photo(), "photo, unsigned": photo(signed=False), "two photos": photo(2), "no evidence": photo(evidence=None), "coarse map": photo().with_(values=torch.rand(1, 1, 7, 7), signed=False),
    "table": explanation(torch.randn(2, 30), axes=("row", "column"), names={"column": ["age", f"sex {NASTY}"]}), "one number": explanation(torch.randn(2), axes=("row",)),
    "tokens": explanation(torch.randn(2, 5, 8), axes=("row", "position", "channel")), "layer": explanation(torch.randn(2, 6, 4, 4)),
    "volume": explanation(torch.randn(2, 2, 3, 4, 4), axes=("row", "channel", "depth", "height", "width")), "tree": explanation({"a": torch.randn(2, 3), "b": (torch.randn(2, 4, 5),)}),
    "constant": photo().with_(values=torch.zeros(1, 3, 32, 32)), "no predictions": photo(predictions=()),
}  # fmt: skip


@pytest.fixture(params=SHAPES, scope="module")
def e(request: pytest.FixtureRequest) -> Any:
    return SHAPES[request.param]


class Tags(HTMLParser):
    """Which tags and attributes a page has, and whether they are closed."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_shape_becomes_a_page_that_needs_nothing_else(e: Any) -> None:
    text = page([e])
    tags = Tags(text)
    assert tags.open == []
    assert not {"script", "link", "iframe", "object", "form", "base"} & {t for t, _ in tags.seen}
    assert all(v.startswith("data:image/png;base64,") for _, a in tags.seen for k, v in a.items() if k in ("src", "href") and v)
    assert not [k for _, a in tags.seen for k in a if k == "style" or k.startswith("on")]
    assert NASTY not in text
    assert len(text) < 2_000_000
    assert "What this does not show" in text


def test_every_shape_becomes_a_figure(e: Any) -> None:
    image = Image.open(io.BytesIO(view.image_bytes(e)))
    assert image.width > 1000
    assert "espresso" in image.info["Description"]


def test_every_shape_becomes_a_fragment_and_terminal_text(e: Any) -> None:
    assert Tags(view.html(e)).open == []
    assert e._repr_html_() == view.html(e)
    out = io.StringIO()
    Console(file=out, width=90).print(render(e))
    assert "espresso (967)" in out.getvalue()
    assert ("Supported" if e.evidence else "No evidence") in out.getvalue()


def test_the_style_is_the_only_one_that_the_policy_lets_in() -> None:
    text = page([photo()])
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    policy = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{policy}'" in text.replace("&#39;", "'").replace("&#43;", "+")


def test_what_raises_and_what_lowers_can_be_told_without_colour() -> None:
    panel = panels.panels(photo())[0]
    outlines = {o.raises: o for o in paint.outlines(panel)}
    assert set(outlines) == {True, False}
    x, y = outlines[True].peak
    assert 4 <= x < 12
    assert 4 <= y < 12
    x, y = outlines[False].peak
    assert 18 <= x < 30
    assert 20 <= y < 28
    assert words.ends(panel, "espresso") == ("− lowers espresso", "raises espresso +")
    assert any("solid line" in line for line in words.legend(panel, True))


def test_zero_leaves_the_picture_grey_and_signs_go_to_their_colours() -> None:
    heat = np.array([[-1.0, 0.0, 1.0]])
    blue, zero, red = paint.overlay(panels.Panel(heat, panels.scale_of(heat, True), np.full((1, 3, 3), 200, np.uint8)))[0].astype(int)
    assert np.ptp(zero) <= 3
    assert blue[2] > blue[0] + 30
    assert red[0] > red[2] + 30


@pytest.mark.parametrize("signed", [True, False])
def test_limits_are_symmetric_at_a_printed_percentile(signed: bool) -> None:
    heat = np.linspace(-1, 3, 1001).reshape(7, 143)
    scale = panels.scale_of(heat if signed else np.abs(heat), signed)
    assert scale.high == pytest.approx(np.percentile(np.abs(heat), 99))
    assert scale.low == (-scale.high if signed else 0)
    assert "99th percentile" in scale.words()


def test_a_map_that_is_mostly_zero_is_still_seen() -> None:
    heat = np.zeros((50, 50))
    heat[3, 4] = 2.0
    assert panels.scale_of(heat, True).high == 2.0
    assert panels.scale_of(np.zeros((3, 3)), True).flat


def test_jet_is_nowhere() -> None:
    assert (paint.SIGNED, paint.UNSIGNED) == ("RdBu_r", "inferno")


def test_the_largest_features_come_first_and_the_rest_are_counted() -> None:
    values = torch.zeros(1, 40)
    values[0, :3] = torch.tensor([0.5, -2.0, 1.0])
    (own,) = parts.parts(explanation(values, axes=("row", "column"), names={"column": ["a", "b", "c"]}))
    shown = own.strongest()
    assert [p.name for p in shown[:4]] == ["b", "c", "a", "column 3"]
    assert shown[-1].name == f"{40 - parts.TOP} others together"
    assert sum(p.value for p in shown) == pytest.approx(float(values.sum()))


def test_a_caption_says_what_was_asked() -> None:
    head, told = caption(photo()).lines()
    assert head == "Integrated gradients of espresso (967)"
    assert told == "steps 8, tol 0.1 · at the input · baseline 0 · seed 0"
    assert "baseline" not in " ".join(caption(photo(baseline="none")).lines())
    assert parameters_text({"steps": 0.30000001, "of": {"name": "saliency"}}) == "steps 0.3, of (name saliency)"


@pytest.mark.parametrize(("target", "short"), [("espresso (967)", "espresso"), ("967", "967"), ("a (b) (3)", "a (b)"), ("unit 3", "unit 3"), ("x (967) rather than y (3)", "x rather than y")])
def test_a_target_gets_a_short_name(target: str, short: str) -> None:
    assert short_target(target) == short


def test_numbers_are_typeset() -> None:
    told = [measured(0.3127, 0.0213), measured(-12.3, 4.0), measured(5.0, None), measured(0.2, 0.0), measured(0.5, 0.1, signed=False), measured(float("nan"), 0.1)]
    assert told == ["+0.313 ± 0.021", "−12.3 ± 4.0", "+5", "+0.2", "0.50 ± 0.10", "–"]
    assert (cut("a  b", 9), cut("abcdefgh", 4)) == ("a b", "abc…")
    assert [number(v) for v in (-0.12345, 1234.5, None, float("nan"))] == ["−0.123", "1.23e+03", "–", "–"]


def test_a_curve_is_laid_out_inside_its_frame() -> None:
    drawn = words.curve(reading())
    assert drawn
    assert drawn.zero
    xs, ys = zip(*((float(x), float(y)) for x, y in drawn.points), strict=True)
    assert (min(xs), max(xs)) == (drawn.left, drawn.right)
    assert (min(ys), max(ys)) == (drawn.top, drawn.bottom)
    assert words.curve(reading(curve=None)) is None
    assert words.curve(reading(curve={"x": [1.0, 2.0], "y": [float("nan"), 1.0]})) is None
    assert words.curve(reading(curve={"x": [1.0, 2.0], "y": [1.0, 1.0]}))


def test_what_it_does_not_show_depends_on_what_was_asked() -> None:
    told = " ".join(limits(photo()))
    assert "misleads when" in told
    assert "baseline 0" in told
    assert "Not checked: moves with noise. It needs the method." in told
    assert "which way" not in told
    assert "which way" in " ".join(limits(photo(signed=False)))
    assert "Nothing about this map was checked" in " ".join(limits(photo(evidence=None)))
    assert limits(photo(method="elsewhere"))


@pytest.mark.parametrize("verdict", words.VERDICTS)
def test_a_verdict_has_a_word_and_a_mark(verdict: str) -> None:
    e = photo(evidence=evidence(verdict, 1))
    word, tone = words.VERDICTS[verdict]
    assert word in page([e])
    assert words.MARKS[tone] in page([e])


def test_a_row_gets_its_own_verdict_and_the_evidence_stands_once() -> None:
    both = evidence("doubtful", 2)
    e = photo(2, evidence=dataclasses.replace(both, rows=("supported", "contradicted")))
    told = [words.judgement(e, row) for row in (0, 1, None)]
    assert [t.word for t in told if t] == ["Supported", "Contradicted", "Doubtful"]
    text = page([e])
    assert text.count("<table>") == 1
    assert text.index("Over all 2 rows") < text.index("✓</span> Supported") < text.index("✗</span> Contradicted")
    assert "Over all" not in page([photo()])


def test_many_rows_stay_below_two_megabytes_and_the_page_counts_what_it_left_out() -> None:
    noise = torch.randint(0, 255, (1, 256, 256, 3), dtype=torch.uint8)
    e = photo().with_(picture=noise, values=torch.randn(1, 3, 256, 256))
    many = e.with_(values=e.values.expand(60, 3, 256, 256), picture=noise.expand(60, 256, 256, 3), total=torch.ones(60), target=e.target * 60, ids=tuple(range(60)), evidence=None)
    text = page([many])
    assert len(text) < 2_000_000
    assert "more rows are in results.json" in text


def test_a_report_is_written_into_a_store_and_from_one(tmp_path: Path) -> None:
    with Store.create(tmp_path / "out") as store:
        store.add(photo())
        add_report(store)
    first = (tmp_path / "out" / "report.html").read_text()
    assert write_report(tmp_path / "out", tmp_path / "again.html").read_text() == first
    with Store.create(tmp_path / "none"):
        pass
    with pytest.raises(UsageError, match="at least one explanation"):
        write_report(tmp_path / "none")


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.html", b"<!doctype html>")])
def test_saving(tmp_path: Path, name: str, start: bytes) -> None:
    photo().save(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(UsageError, match="png"):
        view.save(photo(), tmp_path / "a.bmp")


def test_docstring_sections() -> None:
    doc = "Why?\n\nHow: one\n    two.\nMisleads when: it is\n    wrong: always.\n>>> x"
    assert docstring.sections(doc) == {"How": "one two.", "Misleads when": "it is wrong: always."}
    assert docstring.section(doc, "Units") == ""
