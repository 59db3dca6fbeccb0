"""Maskers by name, and what they refuse."""

import pytest
import torch

from models import normal, subjects
from pellucid.backends import wrap
from pellucid.core.errors import UnknownName, UsageError
from pellucid.core.game import Game, shared_evenly
from pellucid.core.question import ask
from pellucid.modalities.features import FeatureMasker
from pellucid.modalities.maskers import masker_of
from pellucid.modalities.superpixels import ImageMasker


def question(name, **more):
    s = subjects()[name]
    return ask(wrap(s.net()), s.x, [0, 1, 2], **more)


@pytest.mark.parametrize(
    ("name", "value", "players"),
    [
        ("columns", "auto", 5), ("columns", None, 5), ("columns", "columns", 5), ("columns", {"pair": [0, 3]}, 4), ("columns", [[0, 1, 2], [3, 4]], 2), ("columns", torch.tensor([0, 0, 1, 1, 2]), 3),
        ("pictures", "auto", 36), ("pictures", "grid:3", 9), ("pictures", "grid", 36), ("pictures", "pixels", 36), ("pictures", "positions", 36), ("pictures", torch.arange(36).reshape(6, 6) // 12, 3),
        ("words", "positions", 4), ("words", "columns", 4), ("words", "auto", 4), ("two inputs", "auto", 7), ("two inputs", "columns", 7),
    ],
)  # fmt: skip
def test_names(name, value, players):
    q = question(name)
    board = masker_of(value, q).board(q)
    assert board.players == players
    game = Game(board)
    torch.testing.assert_close(game.ends()[1], q.target_values(), rtol=1e-12, atol=1e-12)


def test_maskers_are_themselves():
    masker = FeatureMasker()
    assert masker_of(masker, question("columns")) is masker


@pytest.mark.parametrize(
    ("value", "says"),
    [("gird:8", "Did you mean 'grid'"), ("grid:0", "at least 1"), ("grid:x", "at least 1"), ("columns:3", "no number"), (3, "masker needs a name")],
)
def test_unknown_maskers(value, says):
    with pytest.raises(UsageError, match=says):
        masker_of(value, question("columns"))
    assert issubclass(UnknownName, UsageError)


def test_pictures_have_no_columns_and_tables_no_grid():
    with pytest.raises(UsageError, match="table or a sequence"):
        masker_of("columns", question("pictures"))
    q = question("columns")
    with pytest.raises(UsageError, match="pictures or maps"):
        masker_of("grid:2", q).board(q)


@pytest.mark.parametrize("groups", [{"a": [0], "empty": []}, torch.tensor([0, 0, 2, 2, 3])])
def test_a_player_that_covers_nothing_is_refused_by_name(groups):
    q = question("columns")
    with pytest.raises(UsageError, match=r"'(empty|group 1)' covers none"):
        FeatureMasker(groups=groups).board(q)


def test_no_number_is_lost():
    share = shared_evenly([torch.tensor([[0, 0, 2]])], [normal(1, 3)], lambda parts: parts[0])
    with pytest.raises(UsageError, match="player 1 of row 0"):
        share(torch.tensor([[1.0, 2.0, 3.0]]))
    assert share(torch.tensor([[1.0, 0.0, 3.0]])).tolist() == [[0.5, 0.5, 3.0]]


def test_one_picture_is_needed():
    q = question("two inputs")
    with pytest.raises(UsageError, match="tuple of maskers"):
        ImageMasker().board(q)
