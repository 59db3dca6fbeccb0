"""The store: whole or not there, ours or left alone, and what comes back is what went in."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pellucid.core.errors import UsageError
from pellucid.run import files
from pellucid.run.store import Store, check_writable, slug, to_json
from unit.explanations import explanation, photo


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def interrupted(path: Path, then: Callable[[], None] = lambda: None) -> None:
    """Fills a store and stops before it is committed (or, where `then` sees to it, while it is)."""
    with Store.create(path) as store:
        store.add(photo(), "new")
        then()


def stop() -> None:
    raise KeyboardInterrupt


def test_what_comes_back_is_what_went_in(tmp_path: Path) -> None:
    e = photo(2)
    with Store.create(tmp_path / "out") as store:
        assert store.add(e) == "photo0"
        assert store.add(e) == "photo0-2"
    back = Store.open(tmp_path / "out").explanations()
    assert [b.target for b in back] == [e.target, e.target]
    assert torch.equal(back[0].values, e.values)
    assert e.values.abs().sum() > 0
    assert back[0].evidence == e.evidence
    assert back[0].to_dict() == e.to_dict()


def test_nothing_stays_behind_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "out", stop)
    assert names(tmp_path) == []


def test_the_old_results_stand_until_the_new_ones_are_whole(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(photo(), "old")
    before = {n: (tmp_path / n).read_bytes() for n in names(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, stop)
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before


def test_a_second_run_replaces_the_first_and_leaves_other_files_alone(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(photo(), "old")
        store.write("old.png", b"png")
    (tmp_path / "mine.txt").write_text("keep")
    with Store.create(tmp_path) as store:
        store.add(photo(), "new")
    assert names(tmp_path) == ["mine.txt", "new.safetensors", "results.json", "store.json"]


def test_an_opened_store_keeps_what_it_holds(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(photo(), "first")
        store.write("first.png", b"png")
    with Store.open(tmp_path) as store:
        store.add(photo(), "second")
    assert Store.open(tmp_path).names == ["first", "second"]
    assert "first.png" in names(tmp_path)


def test_stopped_between_two_moves_it_says_that_it_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path) as store:
        store.add(photo(), "old")
    move, moves = os.replace, []

    def stop_at_the_second(a: str, b: str) -> None:
        if Path(b).parent == tmp_path and len(moves) == 1:
            raise KeyboardInterrupt
        moves.append(b) if Path(b).parent == tmp_path else None
        move(a, b)

    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, lambda: monkeypatch.setattr(os, "replace", stop_at_the_second))
    monkeypatch.undo()
    with pytest.raises(UsageError, match="incomplete"):
        Store.open(tmp_path)
    with Store.create(tmp_path) as store:
        store.add(photo(), "again")
    assert Store.open(tmp_path).names == ["again"]


@pytest.mark.parametrize("what", ["foreign", "file", "below a file", "newer"])
def test_it_refuses_what_is_not_its_own(tmp_path: Path, what: str) -> None:
    place = tmp_path / "out"
    if what in ("file", "below a file"):
        place.write_text("mine")
        place = place / "below" if what == "below a file" else place
    else:
        place.mkdir()
        (place / ("store.json" if what == "newer" else "thesis.txt")).write_text(json.dumps({"pellucid": "results", "schema": 99}))
    with pytest.raises(UsageError, match=r"directory|written"):
        check_writable(place)
    with pytest.raises(UsageError):
        Store.create(place)


def test_an_empty_directory_will_do_and_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert names(tmp_path) == []


def test_opening_what_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no Pellucid results"):
        Store.open(tmp_path)


def test_a_missing_tensor_file_is_named(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(photo(), "one")
    (tmp_path / "one.safetensors").unlink()
    with pytest.raises(UsageError, match=r"one\.safetensors"):
        Store.open(tmp_path).explanations()


@pytest.mark.parametrize("name", ["results.json", "../up.png", "a/b.png", "store.json"])
def test_files_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="plain name"):
        Store.create(tmp_path).write(name, b"")


def test_json_is_strict() -> None:
    assert json.loads(to_json({"a": [math.nan, math.inf, 1.5], "b": ("é", None)})) == {"a": [None, None, 1.5], "b": ["é", None]}


@pytest.mark.parametrize(("text", "name"), [("sample:coffee", "coffee"), ("/a/b c.jpg", "b-c"), ("..", "result"), ("x.tar.gz", "x-tar"), ("", "result"), ("C:\\p\\q.png", "q")])
def test_names_are_safe(text: str, name: str) -> None:
    assert slug(text) == name


def test_a_tree_of_values_survives(tmp_path: Path) -> None:
    e = explanation({"a": torch.randn(2, 3), "b": (torch.randn(2, 4),)})
    with Store.create(tmp_path) as store:
        store.add(e)
    back = Store.open(tmp_path).explanations()[0]
    assert torch.equal(back.values["b"][0], e.values["b"][0])


def test_a_file_is_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.put(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: stop())
    with pytest.raises(KeyboardInterrupt):
        files.put(tmp_path / "a", b"new")
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"old")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        files.put(tmp_path / "not there" / "a", b"")
