"""Maskers: everybody is the input to the bit, nobody is what "absent" says, and a coalition is worth a forward pass masked by hand."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import made, normal, subjects
from pellucid.backends import wrap
from pellucid.core.game import Game
from pellucid.core.question import Samples, ask
from pellucid.core.tree import leaves
from pellucid.modalities.features import FeatureMasker
from pellucid.modalities.maskers import TupleMasker, masker_of
from pellucid.modalities.series import SeriesMasker
from pellucid.modalities.superpixels import ImageMasker
from pellucid.modalities.table import TableMasker

ROWS = torch.arange(3)
ZERO = torch.zeros(3, dtype=torch.long)


class Recurrent(nn.Module):
    """Series of four channels to three classes; a single channel counts four times."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        x = x if x.ndim == 3 else x[..., None].expand(-1, -1, 4)
        return self.out(self.gru(x)[0][:, -1])


class Mixed(nn.Module):
    """A picture and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(2, 3, 3), nn.Linear(4, 3)

    def forward(self, picture, table):
        return (self.conv(picture).relu().mean((2, 3)) * self.table(table)).tanh()


LABELS = torch.stack([torch.arange(36).reshape(6, 6) // 12, torch.arange(36).reshape(6, 6) // 9, torch.arange(36).reshape(6, 6) // 18])
OTHER = normal(3, 2, 6, 6, seed=5)
PICTURES = {
    "grid": ImageMasker("grid:3"), "pixels": ImageMasker("pixels"), "labels": ImageMasker(LABELS[0]), "labels a row": ImageMasker(LABELS), "some always there": ImageMasker(LABELS - 1),
    "blur": ImageMasker("grid:2", "blur"),
    "mean": ImageMasker("grid:2", "mean"), "segment-mean": ImageMasker(LABELS, "segment-mean"), "inpaint": ImageMasker("grid:3", "inpaint"), "noise": ImageMasker("grid:2", "noise"),
    "number": ImageMasker("grid:2", 0.7), "colour": ImageMasker("grid:2", (0.1, -0.3)), "picture": ImageMasker("grid:2", OTHER), "many pictures": ImageMasker("grid:2", Samples(OTHER)),
    "slic": ImageMasker("slic:6", "blur"),
}  # fmt: skip
SERIES = {
    "segments": SeriesMasker(3), "length": SeriesMasker("length:4"), "boundaries": SeriesMasker([0, 2, 7]), "mean": SeriesMasker(3, "mean"), "linear": SeriesMasker(5, "linear"),
    "noise": SeriesMasker(3, "noise"), "one": SeriesMasker(3, normal(10, seed=3)), "many": SeriesMasker(3, normal(7, 10, seed=3)),
}  # fmt: skip
TABLES = {
    "columns": TableMasker(), "background": TableMasker(normal(6, 5, seed=3)), "groups": TableMasker(normal(6, 5, seed=3), {"pair": [0, 2]}), "row": TableMasker(normal(5, seed=3)),
    "array": TableMasker(normal(6, 5, seed=3).numpy()), "plain": FeatureMasker(),
}  # fmt: skip


def pictures(dtype=torch.float64, **more):
    s = subjects()["pictures"]
    return ask(wrap(s.net(dtype)), s.x.to(dtype), [0, 1, 2], **more)


def series(shape=(3, 10), dtype=torch.float64):
    return ask(wrap(made(Recurrent, dtype=dtype)), normal(*shape).to(dtype), [0, 1, 2], baseline=0.25)


def tables(dtype=torch.float64, **more):
    s = subjects()["columns"]
    return ask(wrap(s.net(dtype)), s.x.to(dtype), [0, 1, 2], **more)


CASES = [(pictures, m) for m in PICTURES.values()] + [(series, m) for m in SERIES.values()] + [(tables, m) for m in TABLES.values()]
NAMES = [f"picture {n}" for n in PICTURES] + [f"series {n}" for n in SERIES] + [f"table {n}" for n in TABLES]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("ask_of", "masker"), CASES, ids=NAMES)
def test_everybody_is_the_input_to_the_bit_and_a_lone_player_keeps_its_elements(ask_of, masker, dtype):
    q = ask_of(dtype=dtype)
    board = masker.board(q)
    for copies in (ZERO, ZERO + board.copies - 1):
        (whole,) = leaves(board.make(torch.ones(3, board.players, dtype=torch.bool), ROWS, copies))
        assert whole.dtype == dtype
        assert torch.equal(whole, q.point)
        alone = torch.zeros(3, board.players, dtype=torch.bool)
        alone[:, 0] = True
        (part,) = leaves(board.make(alone, ROWS, copies))
        mine = board.labels == 0
        assert mine.any()
        assert torch.equal(part[mine], q.point[mine])
        assert not torch.equal(part, q.point)
        assert torch.isfinite(part).all()


@pytest.mark.parametrize(("ask_of", "masker"), CASES, ids=NAMES)
def test_a_coalition_is_worth_a_forward_pass_masked_by_hand(ask_of, masker):
    """Elements one by one, backgrounds one by one, straight through the network."""
    q = ask_of()
    board = masker.board(q)
    game = Game(board)
    z = torch.rand(5, board.players, generator=torch.Generator().manual_seed(1)) > 0.5
    nobody = [leaves(board.make(torch.zeros(3, board.players, dtype=torch.bool), ROWS, ZERO + d))[0] for d in range(board.copies)]
    want = torch.zeros(5, 3, dtype=torch.float64)
    for k, i in itertools.product(range(5), range(3)):
        for d in range(board.copies):
            x = nobody[d][i].clone()
            if getattr(masker, "absent", "") in ("inpaint", "linear"):
                x = leaves(board.make(z[k][None], torch.tensor([i]), torch.tensor([d])))[0][0].clone()
            for where in itertools.product(*map(range, x.shape)):
                player = int(board.labels[i][where])
                if player < 0 or z[k, player]:
                    x[where] = q.x[i][where]
            with torch.no_grad():
                want[k, i] += q.model.module(x[None])[0, i] / board.copies
    torch.testing.assert_close(game(z), want, rtol=1e-10, atol=1e-12)
    assert want.std() > 1e-4


def nobody_of(q, masker, copy=0):
    board = masker.board(q)
    return leaves(board.make(torch.zeros(3, board.players, dtype=torch.bool), ROWS, ZERO + copy))[0]


def test_nobody_of_a_picture():
    q = pictures(baseline=0.3)
    x = q.x
    assert torch.equal(nobody_of(q, ImageMasker()), torch.full_like(x, 0.3))
    assert torch.equal(nobody_of(q, ImageMasker(absent=0.7)), torch.full_like(x, 0.7))
    assert torch.equal(nobody_of(q, ImageMasker(absent=(0.1, -0.3))), torch.tensor([0.1, -0.3], dtype=torch.float64)[None, :, None, None].expand_as(x))
    assert torch.equal(nobody_of(q, ImageMasker(absent="mean")), x.mean((2, 3), keepdim=True).expand_as(x))
    assert torch.equal(nobody_of(q, ImageMasker(absent=OTHER)), OTHER)
    assert torch.equal(nobody_of(q, ImageMasker(absent=Samples(OTHER)), 2), OTHER[2].expand_as(x))
    torch.testing.assert_close(nobody_of(q, ImageMasker(absent="inpaint")), x.mean((2, 3), keepdim=True).expand_as(x))
    own = nobody_of(q, ImageMasker(LABELS, "segment-mean"))
    for i, k, c in itertools.product(range(3), range(4), range(2)):
        here = LABELS[i] == k
        if here.any():
            torch.testing.assert_close(own[i, c][here], x[i, c][here].mean().expand(int(here.sum())))
    blurred = nobody_of(q, ImageMasker(absent="blur"))
    assert 0 < float(blurred.std()) < float(x.std())
    noise = nobody_of(q, ImageMasker(absent="noise"))
    assert all(x[i].min() <= noise[i].min() and noise[i].max() <= x[i].max() for i in range(3))
    assert torch.equal(noise[[2, 0]], nobody_of_rows(pictures(baseline=0.3).take(torch.tensor([2, 0])), ImageMasker(absent="noise")))


def nobody_of_rows(q, masker):
    board = masker.board(q)
    return leaves(board.make(torch.zeros(q.size, board.players, dtype=torch.bool), torch.arange(q.size), torch.zeros(q.size, dtype=torch.long)))[0]


def test_inpainting_is_an_average_of_what_is_present():
    """Constant pictures are filled without a seam; a ramp is continued between its ends; nothing present is looked at beyond the nearest."""
    q = ask(wrap(made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 3)))), torch.ones(3, 2, 8, 8, dtype=torch.float64) * torch.arange(1, 4, dtype=torch.float64).reshape(3, 1, 1, 1), [0, 1, 2])
    board = ImageMasker("grid:4", "inpaint").board(q)
    z = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(leaves(board.make(z, ROWS, ZERO))[0], q.x)
    ramp = torch.arange(8, dtype=torch.float64).expand(1, 1, 8, 8)
    q = ask(wrap(made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))), ramp, 0)
    board = ImageMasker("grid:4", "inpaint").board(q)
    gone = torch.ones(1, 16, dtype=torch.bool)
    gone[0, [5, 6, 9, 10]] = False
    filled = leaves(board.make(gone, torch.tensor([0]), torch.tensor([0])))[0]
    assert (filled - ramp).abs().max() < 1
    assert filled.min() >= 0
    assert filled.max() <= 7


def test_nobody_of_a_series():
    q = series((3, 10, 4))
    x = q.x
    assert torch.equal(nobody_of(q, SeriesMasker()), torch.full_like(x, 0.25))
    assert torch.equal(nobody_of(q, SeriesMasker(absent="mean")), x.mean(1, keepdim=True).expand_as(x))
    assert torch.equal(nobody_of(q, SeriesMasker(absent="linear")), x.mean(1, keepdim=True).expand_as(x))
    noise = nobody_of(q, SeriesMasker(absent="noise"))
    assert torch.equal(noise[[2, 0]], nobody_of_rows(q.take(torch.tensor([2, 0])), SeriesMasker(absent="noise")))
    assert float((noise - x).abs().min()) > 0
    drawn = (noise - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, unbiased=False)
    assert float((drawn[0] - drawn[1]).abs().min()) > 1e-6, "each row draws its own"
    background = normal(7, 10, 4, seed=3)
    assert torch.equal(nobody_of(q, SeriesMasker(absent=background), 6), background[6].expand_as(x))


@pytest.mark.parametrize("shape", [(3, 10), (3, 10, 4)])
def test_absent_stretches_on_a_straight_line(shape):
    """As numpy interpolates each channel from the steps that are present."""
    import numpy as np

    q = series(shape)
    board = SeriesMasker([0, 2, 3, 6, 9], "linear").board(q)
    for z in torch.tensor(list(itertools.product([False, True], repeat=5)))[1:]:
        (got,) = leaves(board.make(z.expand(3, -1), ROWS, ZERO))
        there = z[board.labels.reshape(*shape[:2], -1)[0, :, 0]].numpy()
        flat, mine = q.x.reshape(*shape[:2], -1).numpy(), got.reshape(*shape[:2], -1).numpy()
        for i, c in itertools.product(range(3), range(flat.shape[2])):
            want = np.interp(np.arange(10), np.arange(10)[there], flat[i, there, c])
            np.testing.assert_allclose(mine[i, :, c], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("background", [1_000, 5_000])
def test_a_background_is_used_to_its_last_row(background):
    """30 columns of a linear model: a player is worth its weight times its distance from the whole background's mean."""
    net, rows, x = made(lambda: nn.Linear(30, 3)), normal(background, 30, seed=3), normal(2, 30)
    rows[-1] += 1000.0
    q = ask(wrap(net), x, [0, 1])
    board = TableMasker(rows).board(q)
    game = Game(board)
    z = torch.eye(30).bool()
    if background > 1_000:
        z = z[::15]
    alone = game(z) - game.ends()[0]
    want = (net.weight[:2] * (x - rows.mean(0))).detach().T[:: 30 // len(z)]
    torch.testing.assert_close(alone, want, rtol=1e-9, atol=1e-9)
    assert (alone != 0).all()
    assert f"the mean over {background} backgrounds" in board.value_function
    assert board.copies == background


def test_two_backgrounds_are_used_side_by_side():
    """One masker an input: players are taken together, backgrounds row by row."""
    picture, table = normal(3, 2, 6, 6), normal(3, 4, seed=2)
    net = made(Mixed)
    q = ask(wrap(net), (picture, table), [0, 1, 2])
    views, rows = normal(5, 2, 6, 6, seed=6), normal(5, 4, seed=7)
    masker = masker_of((ImageMasker(LABELS, Samples(views)), TableMasker(rows, {"pair": [1, 2]})), q)
    assert isinstance(masker, TupleMasker)
    board = masker.board(q)
    assert [len(n) for n in board.names] == [3 + 3, 4 + 3, 2 + 3]
    assert board.names[1] == ("segment 0", "segment 1", "segment 2", "segment 3", "pair", "column 0", "column 3")
    for i in range(3):
        part = Game(board.take(torch.tensor([i])))
        n = len(board.names[i])
        z = torch.rand(6, n, generator=torch.Generator().manual_seed(i)) > 0.5
        worth = torch.zeros(6, 1, dtype=torch.float64)
        for k, d in itertools.product(range(6), range(5)):
            here = z[k][: n - 3][LABELS[i]]
            columns = z[k][n - 3 :][torch.tensor([1, 0, 0, 2])]
            with torch.no_grad():
                worth[k] += net(torch.where(here, picture[i], views[d])[None], torch.where(columns, table[i], rows[d])[None])[0, i] / 5
        torch.testing.assert_close(part(z), worth, rtol=1e-10, atol=1e-12)


def test_a_layer_is_masked_with_what_the_baseline_gives_there():
    """A grid over a layer: absent cells hold the layer's value at the baseline picture."""
    s = subjects()["pictures"]
    net = s.net()
    q = ask(wrap(net), s.x, [0, 1, 2], at="a")
    board = ImageMasker("grid:2", 0.4).board(q)
    z = torch.tensor([[True, False, False, True], [False, True, True, True]])
    held = net.a(net.act(net.stem(torch.full_like(s.x, 0.4)))).detach()
    quarter = F.interpolate(z[0].reshape(1, 1, 2, 2).double(), (6, 6)) > 0.5
    torch.testing.assert_close(leaves(board.make(z[:1].expand(3, -1), ROWS, ZERO))[0], torch.where(quarter, q.point, held))
    torch.testing.assert_close(Game(board)(z)[0], q.value(torch.where(quarter, q.point, held)))
    assert "what the layer gives for a blur" in ImageMasker("grid:2", "blur").board(q).value_function


@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 1, 1), (2, 6, 6)])
def test_masks_that_broadcast(shape):
    """Labels with an axis of one serve all channels, or all pixels."""
    q = pictures()
    lab = torch.arange(torch.Size(shape).numel()).reshape(shape) // 2
    board = FeatureMasker(lab).board(q)
    z = torch.rand(4, board.players, generator=torch.Generator().manual_seed(0)) > 0.5
    for k in range(4):
        want = q.value(torch.where(z[k][lab], q.x, torch.zeros(())))
        torch.testing.assert_close(Game(board)(z[k][None])[0], want)
