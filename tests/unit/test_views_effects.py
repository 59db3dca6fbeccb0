"""Effects as pictures and pages: what is drawn is what was found, in axes, in figures and in HTML without scripts."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import pellucid as pel
from pellucid.core.errors import UnknownName
from pellucid.views import broken_down, effects, fitted, together

N = 80
CHANCE = np.random.default_rng(2)
TABLE = pd.DataFrame({
    "age <b>": CHANCE.normal(40, 10, N).round(1), "kind": np.array(["$a", "b & c", "a very long name of a kind that goes on and on"])[CHANCE.integers(0, 3, N)],
    "day": pd.to_datetime("2020-01-01") + pd.to_timedelta(CHANCE.integers(0, 900, N), "D"), "flag": CHANCE.integers(0, 2, N).astype(bool),
})  # fmt: skip
TABLE.loc[::7, "age <b>"] = np.nan


def answer(d: pd.DataFrame) -> np.ndarray:
    return (d["age <b>"].fillna(90).to_numpy() * np.where(d["kind"] == "$a", 1, 0.5) + d["day"].dt.year.to_numpy() + 3.0 * d["flag"].to_numpy())[:, None]


MODEL = pel.wrap(answer, takes="frame")
COLUMNS = ["age <b>", "kind", "day", "flag", ("age <b>", "kind")]


def learn(method: str, **asked: object) -> object:
    return pel.learn(MODEL, TABLE, **{"method": method, "columns": COLUMNS, **asked})


@pytest.fixture(scope="module")
def partial() -> object:
    return learn("partial-dependence", grid=6)


def test_lines_bands_and_rows_are_what_was_found(partial: object) -> None:
    ax = effects.draw(partial, Figure().add_subplot(), "age <b>")
    c = partial.curve("age <b>")
    curve = next(line for line in ax.lines if line.get_linewidth() == 1.8)
    np.testing.assert_allclose(curve.get_ydata(), c.value[:-1])
    thin = [line for line in ax.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 40
    assert all(any(np.allclose(line.get_ydata(), own[:-1]) for own in c.single) for line in thin)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx((c.value - 1.96 * c.error)[:-1].min())
    assert ax.get_xticklabels()[-1].get_text() == "missing"
    assert not [line for line in effects.draw(partial, Figure().add_subplot(), "age <b>", single=False).lines if line.get_linewidth() == 0.5]
    moved = effects.draw(partial, Figure().add_subplot(), "age <b>", centred=True)
    assert next(line for line in moved.lines if line.get_linewidth() == 1.8).get_ydata()[0] == 0
    with pytest.raises(UnknownName, match="Did you mean 'kind'"):
        effects.draw(partial, Figure().add_subplot(), "kin")


def test_words_stand_on_lines_of_their_own_and_dates_are_dates(partial: object) -> None:
    ax = effects.draw(partial, Figure().add_subplot(), "kind")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["$a", "a very long name of a kind that…", "b & c"]
    dates = effects.draw(partial, Figure().add_subplot(), "day")
    assert {"2020-07", "2021-01"} <= {t.get_text() for t in dates.get_xticklabels()}


def test_hatching_says_where_no_row_lies(partial: object) -> None:
    found = learn("partial-dependence", columns=[("age <b>", "day")])
    surface = found.surfaces[0]
    ax = effects.draw(found, Figure().add_subplot())
    assert sum(p.get_hatch() is not None for p in ax.patches) == (surface.count == 0).sum() > 0
    np.testing.assert_allclose(ax.images[0].get_array(), surface.value.T)
    page = fitted.html(found)
    assert page.count('fill="url(#hatch') == (surface.count == 0).sum()
    assert page.count('class="rows"') == (surface.count > 0).sum()
    assert "extrapolation" in page


@pytest.mark.parametrize("method", ["partial-dependence", "accumulated-local-effects"])
@pytest.mark.parametrize("by", [None, "kind"])
def test_pages_need_no_script_and_escape_what_they_show(method: str, by: str | None, tmp_path: Path) -> None:
    found = learn(method, by=by, rows=40)
    page = found.save(tmp_path / "x.html").read_text()
    assert "<script" not in page
    assert "age &lt;b&gt;" in page
    assert "age <b>" not in page
    assert page.count('class="line" d="M') >= 2
    assert not re.search(r"\bnan\b", page)
    assert found.save(tmp_path / "x.png").stat().st_size > 20_000
    assert ("kind $a" in page) == (by is not None)
    assert "What this does not show" in page
    assert found._repr_html_().startswith('<div class="pellucid')
    assert '"rows": [' in found.save(tmp_path / "x.json").read_text()


def test_columns_share_a_scale() -> None:
    fig = learn("accumulated-local-effects").plot()
    across = [ax.get_ylim() for ax in fig.axes if ax.get_title(loc="left") in ("age <b>", "day")]
    assert len(across) == 2
    assert len(set(across)) == 1
    assert across[0][0] < 0 < across[0][1]


def test_a_way_is_drawn_in_its_order() -> None:
    found = pel.learn(MODEL, TABLE, method="break-down", row=[1, 4])
    ax = broken_down.draw(found, Figure().add_subplot(), 1)
    told = [t.get_text() for t in ax.get_yticklabels()]
    assert (told[0], told[-1]) == ("The mean answer", "The answer: the output")
    assert [t.split(" = ")[0] for t in told[1:-1]] == [s.columns[0] for s in found.ways[1].steps]
    page = fitted.html(found)
    assert page.count('<figure class="parts falls">') == 2
    assert len(found.plot().axes) == 2


def test_h_says_where_it_divides_by_nothing() -> None:
    found = pel.learn(MODEL, TABLE, method="h-statistic", rows=30, columns=["age <b>", "kind", "flag"])
    ax = together.draw(found, Figure().add_subplot())
    assert [b.get_width() for b in ax.patches] == [pytest.approx(np.nan_to_num(t.value)) for t in found.pairs]
    assert ax.get_yticklabels()[0].get_text() == "age <b> and kind"
    assert fitted.html(found).count("†") >= sum(t.faint for t in found.pairs)
    assert len(found.plot().axes) == 2


def test_profiles_mark_the_row_itself() -> None:
    found = pel.learn(MODEL, TABLE, method="ceteris-paribus", row=[1, 7], columns=["age <b>", "kind"])
    ax = effects.draw(found, Figure().add_subplot(), "age <b>")
    marks = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [float(m.get_ydata()[0]) for m in marks] == [c.own[0][1] for c in found.curves if c.column.name == "age <b>"]
    page = fitted.html(found)
    assert "80 rows" in page
    assert "160 rows" not in page
    assert page.count('class="mark"') >= 2
    assert not re.search(r"\bnan\b", page)
