"""Maskers by name, and what they refuse."""

import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn

from models import made, normal, subjects
from pellucid.backends import wrap
from pellucid.core.errors import UnknownName, UsageError
from pellucid.core.game import Game, shared_evenly
from pellucid.core.question import Samples, ask
from pellucid.core.tree import leaves
from pellucid.modalities.features import FeatureMasker
from pellucid.modalities.image import ImagePreprocess
from pellucid.modalities.maskers import TupleMasker, masker_of
from pellucid.modalities.series import SeriesMasker
from pellucid.modalities.superpixels import ImageMasker
from pellucid.modalities.table import TableMasker


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


# -- pictures -------------------------------------------------------------------------------------------------------------


class Bright(nn.Module):
    """The mean of each colour."""

    def forward(self, x):
        return x.mean((2, 3))


def photo(**more):
    """Two bytes-made pictures, 40 x 48, of three and of five flat regions, behind a preprocessing that shifts and scales."""
    pixels = np.zeros((2, 40, 48, 3), np.uint8)
    pixels[0, :, 24:] = (200, 30, 30)
    pixels[0, 20:, :24] = (30, 30, 200)
    for k, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]):
        pixels[1, 8 * k : 8 * k + 8] = colour
    model = wrap(made(Bright, dtype=torch.float32), preprocess=ImagePreprocess(32, mean=127 / 255, std=128 / 255))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return ask(model, (x - 127) / 128, [0, 1], **more)


def test_superpixels_follow_what_is_seen_row_by_row():
    """As scikit-image cuts the bytes before preprocessing."""
    from skimage import segmentation

    q = photo()
    seen = q.model.preprocess.inverse(q.x).numpy() / 255
    cut = {
        "felzenszwalb:100": lambda image: segmentation.felzenszwalb(image, scale=100, sigma=0.8, min_size=20),
        "slic:12": lambda image: segmentation.slic(image, n_segments=12, sigma=1, start_label=0),
    }
    for segments, f in cut.items():
        board = ImageMasker(segments).board(q)
        for i in range(2):
            want = torch.from_numpy(f(seen[i]))
            assert torch.equal(board.labels[i, 0], want)
            assert torch.equal(board.labels[i, 2], want)
            assert board.names[i] == tuple(f"superpixel {k}" for k in range(int(want.max()) + 1))
        again = ImageMasker(segments).board(q.take(torch.tensor([1, 0, 1])))
        assert torch.equal(again.labels, board.labels[[1, 0, 1]])
    assert len(ImageMasker("felzenszwalb:100").board(q).names[0]) < len(ImageMasker("felzenszwalb:100").board(q).names[1])


def test_a_dummy_player_changes_nothing():
    """A column beyond a row's players is there or not: the row does not see it."""
    labels = torch.stack([torch.arange(40)[:, None].expand(40, 48) // 20, torch.arange(40)[:, None].expand(40, 48) // 10])
    z = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    worth = Game(ImageMasker(labels).board(photo()))(z)
    assert torch.equal(worth[0, :1].expand(3), worth[:, 0])
    assert len(worth[:, 1].unique()) == 3


def test_auto_cuts_pictures_along_what_they_show():
    q = photo()
    assert masker_of("auto", q) == ImageMasker("slic:50")
    assert masker_of("auto", question("pictures")) == ImageMasker("grid:8")
    assert masker_of("auto", question("pictures", at="a")) == ImageMasker("grid:8")
    assert masker_of("slic", q) == ImageMasker("slic:50")


def test_without_scikit_image(monkeypatch):
    q = photo()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match=r"need the package 'skimage'.*grid:8"):
        ImageMasker("slic:50").board(q)


def test_superpixels_at_a_layer_are_those_of_the_picture():
    net = made(lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 120, 2)), dtype=torch.float32)
    x = photo().x
    q = ask(wrap(net), x, [0, 1], at="0")
    board = ImageMasker("slic:9").board(q)
    whole = ImageMasker("slic:9").board(ask(wrap(net), x, [0, 1])).labels
    assert board.labels.shape == (2, 3, 10, 12)
    assert torch.equal(board.labels, whole[:, :, 2::4, 2::4])
    assert board.players == int(whole.max()) + 1 > 4


@pytest.mark.parametrize("absent", ["red", "#ff0000", (255, 0, 0)])
def test_colours_go_through_the_preprocessing(absent):
    board = ImageMasker("grid:2", absent).board(photo())
    nobody = leaves(board.make(torch.zeros(2, 4, dtype=torch.bool), torch.arange(2), torch.zeros(2, dtype=torch.long)))[0]
    want = torch.tensor([128 / 128, -127 / 128, -127 / 128])[None, :, None, None].expand_as(nobody)
    torch.testing.assert_close(nobody, want, rtol=1e-5, atol=1e-5)
    assert str(absent) in board.value_function


@pytest.mark.parametrize(
    ("absent", "says"),
    [("blurr", "Did you mean 'blur'"), ((1, 2), "one number a channel, 3"), ((1, 2, 300), "from 0 to 255"), (True, "one of baseline"), (torch.zeros(3, 2, 2), "shape of the inputs")],
)
def test_what_cannot_be_absent(absent, says):
    with pytest.raises(UsageError, match=says):
        ImageMasker("grid:2", absent).board(photo())


def test_a_colour_by_name_needs_preprocessing():
    with pytest.raises(UsageError, match="needs a model with preprocessing"):
        ImageMasker("grid:2", "red").board(question("pictures"))


@pytest.mark.parametrize(("segments", "says"), [("slick:5", "Did you mean 'slic'"), ("slic:0", "at least 1"), ("pixels:3", "no number"), (7, "by name or as labels")])
def test_ways_to_cut(segments, says):
    with pytest.raises(UsageError, match=says):
        ImageMasker(segments)


def test_segments_need_the_picture_s_shape():
    with pytest.raises(UsageError, match=r"shape of the picture, \(6, 6\)"):
        ImageMasker(torch.zeros(5, 5)).board(question("pictures"))


def test_labels_have_gaps_and_what_is_always_there():
    labels = torch.full((6, 6), -1)
    labels[:2], labels[4:] = 3, 7
    board = ImageMasker(labels.numpy()).board(question("pictures"))
    assert board.names[0] == ("segment 3", "segment 7")
    assert board.labels[0, 0, :, 0].tolist() == [0, 0, -1, -1, 1, 1]


# -- tables, series, several inputs -----------------------------------------------------------------------------------------


class Frame:
    """What a data frame looks like from here."""

    columns = ("age", "sex", "town", "street", "income")

    def to_numpy(self):
        return np.arange(15.0).reshape(3, 5)


def test_a_data_frame_brings_its_names():
    board = TableMasker(Frame(), groups={"address": ["town", "street"], "self": ["age", 1]}).board(question("columns"))
    assert board.names[0] == ("address", "self", "income")
    assert board.labels[0].tolist() == [1, 1, 0, 0, 2]
    assert board.copies == 3
    assert TableMasker(names=list("abcde")).board(question("columns")).names[0] == tuple("abcde")


@pytest.mark.parametrize(
    ("masker", "says"),
    [
        (TableMasker(torch.zeros(4, 3)), r"rows shaped \(5,\)"), (TableMasker(torch.zeros(0, 5)), "at least one"), (TableMasker(torch.full((2, 5), float("nan"))), "finite numbers"),
        (TableMasker([["a", "b"]]), "rows of numbers"), (TableMasker(groups={"a": ["nowhere"]}), "columns between 0 and 4"), (TableMasker(groups={"a": [0], "b": [0]}), "each in one group"),
        (TableMasker(names=["a"]), "one for each of 5 columns"), (SeriesMasker(0), "at least 1 segment"), (SeriesMasker("len:3"), "length:10"), (SeriesMasker([0, 9]), "between 0 and 4"),
        (SeriesMasker(2, "linaer"), "Did you mean 'linear'"),
    ],
)  # fmt: skip
def test_tables_and_series_refuse(masker, says):
    with pytest.raises(UsageError, match=says):
        masker.board(question("columns"))


def test_stretches():
    q = ask(wrap(made(lambda: nn.Linear(10, 2))), normal(1, 10), 0)
    assert SeriesMasker(3).board(q).names[0] == ("steps 0-3", "steps 4-6", "steps 7-9")
    assert SeriesMasker("length:4").board(q).names[0] == ("steps 0-3", "steps 4-7", "steps 8-9")
    assert SeriesMasker([9, 2]).board(q).names[0] == ("steps 0-1", "steps 2-8", "step 9")
    assert masker_of("segments:30", q).board(q).players == 10


def test_several_inputs():
    q = question("two inputs")
    assert masker_of(("columns", TableMasker()), q).board(q).players == 7
    assert masker_of(({"pair": [0, 1]}, "auto"), q).board(q).names[0] == ("pair", "column 2", "column 3", "column 0", "column 1", "column 2")
    words = question("keywords")
    assert masker_of({"b": "columns", "a": {"pair": [0, 1]}}, words).board(words).players == 6
    with pytest.raises(UsageError, match="one for each of 2 explained inputs; got 1"):
        masker_of(("columns",), q)
    with pytest.raises(UsageError, match="as many rows each; got 2 and 3"):
        TupleMasker((TableMasker(normal(2, 4)), TableMasker(normal(3, 3)))).board(q)
    with pytest.raises(UsageError, match="one an input"):
        FeatureMasker(groups=[[0]]).board(q)


def test_one_background_of_several():
    q = question("two inputs")
    board = TupleMasker((TableMasker(normal(6, 4, seed=8)), FeatureMasker())).board(q)
    a, b = leaves(board.make(torch.zeros(1, 7, dtype=torch.bool), torch.tensor([1]), torch.tensor([5])))
    assert torch.equal(a[0], normal(6, 4, seed=8)[5])
    assert torch.equal(b[0], torch.zeros(3, dtype=b.dtype))


@pytest.mark.parametrize("make", [
    lambda: ImageMasker(torch.arange(4).reshape(2, 2), "blur"), lambda: FeatureMasker({"a": [1]}), lambda: TableMasker(normal(3, 4)), lambda: SeriesMasker([0, 3]),
    lambda: TupleMasker((ImageMasker(), TableMasker(normal(3, 4).numpy()))), lambda: ImageMasker(),
])  # fmt: skip
def test_maskers_are_values(make):
    a, b = make(), make()
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert a != ImageMasker(absent="mean")


def test_maskers_say_what_is_not_the_default():
    assert repr(ImageMasker("slic:50", torch.zeros(3, 4))) == "ImageMasker(segments='slic:50', absent=Tensor(3, 4))"
    assert repr(ImageMasker()) == "ImageMasker()"
    assert repr(TableMasker(Samples(torch.zeros(2, 3)))) == "TableMasker(background=2 samples)"
    assert ImageMasker(torch.zeros(2, 2)) != ImageMasker(torch.ones(2, 2))
