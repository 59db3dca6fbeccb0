"""Learnt masks against closed forms on models that read one place, slow twins, and what the papers constrain."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import made, normal
from pellucid.attribution import CounterfactualInfilling, ExtremalPerturbation, MaskingModel, MeaningfulPerturbation, PerceptualBall
from pellucid.attribution._masks import LEVELS, Bumps, Coarse, Fade, Pyramid, Sheet, Veil, descended, filled, shifted, too_far_from
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.question import Samples, ask, blur
from pellucid.core.target import Loss, Neuron, Output
from pellucid.modalities.mask_network import MaskNetwork
from pellucid.training import fit_masking_model
from pellucid.training.masking_model import _moved


class Patch(nn.Module):
    """Reads the mean brightness of one square of a picture, and nothing else."""

    def __init__(self, top=8, left=4, side=4):
        super().__init__()
        self.where, self.same = (slice(top, top + side), slice(left, left + side)), nn.Identity()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return self.gain * self.same(x)[:, :, *self.where].mean((1, 2, 3))


def patch_question(**changes):
    return ask(wrap(made(Patch)), 1 + 0.1 * normal(2, 3, 16, 16).abs(), **({"target": Output(), "batch_size": 16} | changes))


def inside():
    square = torch.zeros(16, 16, dtype=torch.bool)
    square[8:12, 4:8] = True
    return square


def far():
    """More than a cell and a tremble away."""
    return ~F.max_pool2d(inside()[None].double(), 9, 1, 4)[0].bool()


def columns_question(weights, **changes):
    net = made(lambda: nn.Linear(len(weights), 1))
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
    return ask(wrap(net), torch.ones(2, len(weights), dtype=torch.float64), **({"target": Output(), "batch_size": 16} | changes))


# ---------------------------------------------------------------- what all masks share


def test_slopes_of_a_mask_are_those_of_autograd():
    """Pictures, through the chain rule by hand: sum over channels of gradient times (point - baseline), over the span."""
    net = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 2)))
    x, m = normal(2, 3, 8, 8), normal(3, 2, 8, 8, seed=2).sigmoid()
    q = ask(wrap(net), x, [0, 1], baseline=0.3, batch_size=4)
    leaf = m.clone().requires_grad_()
    y = torch.stack([net(0.3 + k[:, None] * (x - 0.3))[torch.arange(2), [0, 1]] for k in leaf])
    ends = torch.stack([net(v)[torch.arange(2), [0, 1]] for v in (x, torch.full_like(x, 0.3))]).detach()
    want = torch.autograd.grad((y / (ends[0] - ends[1]).abs()).sum(), leaf)[0]
    veil = Veil(q)
    torch.testing.assert_close(veil.slopes([m])[0], want)
    assert want.abs().max() > 1e-2
    torch.testing.assert_close(veil.kept([m]), (y.detach() - ends[1]) / (ends[0] - ends[1]).abs())


def test_beyond_its_bounds_a_share_has_no_slope():
    q = columns_question([1.0, 1.0])
    veil = Veil(q).bounded(high=0.7)
    slope = veil.slopes([torch.tensor([[[0.2, 0.2]] * 2, [[0.9, 0.9]] * 2], dtype=torch.float64)])[0]
    torch.testing.assert_close(slope[0], torch.full((2, 2), 0.5, dtype=torch.float64))
    assert not slope[1].any()


@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 6, 7), (2, 3, 4, 5)])
def test_values_of_a_mask_sum_to_it_over_channels(shape):
    sheet = Sheet(shape)
    m = normal(2, *sheet.space)
    spread = sheet.spread(m)
    assert spread.shape == (2, *shape)
    torch.testing.assert_close(sheet.under(spread), m)


def test_enlarged_masks_keep_constants_and_shifts_move_them():
    veil = Veil(patch_question())
    coarse = Coarse(veil, 5)
    assert coarse.cells == [(5, 5)]
    torch.testing.assert_close(coarse.grown(coarse.blank(2, 0.3))[0], torch.full((2, 2, 16, 16), 0.3, dtype=torch.float64))
    m = normal(1, 2, 16, 16)
    by = torch.tensor([[[1, -2], [0, 3]]])
    moved = shifted([m], veil.sheets, by)[0]
    assert torch.equal(moved[0, 0, 1:, :14], m[0, 0, :15, 2:])
    assert torch.equal(moved[0, 1, :, 3:], m[0, 1, :, :13])
    assert torch.equal(moved[0, 0, 0, :14], m[0, 0, 0, 2:])


def test_adam_is_torchs():
    start, want = normal(1, 3), normal(1, 3, seed=2)
    ours = descended(start, 30, 0.05, lambda m, _: ((m - want) ** 2).sum(), -9, 9).final
    theirs = start.clone().requires_grad_()
    adam = torch.optim.Adam([theirs], 0.05)
    for _ in range(30):
        adam.zero_grad()
        ((theirs - want) ** 2).sum().backward()
        adam.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_what_a_mask_shows_between_point_and_baseline():
    q = columns_question([1.0, 2.0], baseline=-1.0)
    shown = Fade(q).shown(0, torch.tensor([[0.0, 0.25]], dtype=torch.float64), torch.tensor([1]))
    torch.testing.assert_close(shown, torch.tensor([[-1.0, -0.5]], dtype=torch.float64))


# ---------------------------------------------------------------- meaningful perturbation


@pytest.mark.parametrize("size", [0.6, 1.0, 1.6])
def test_meaningful_perturbation_of_a_linear_model(size):
    """A column is hidden exactly if its part of the answer is more than `size` times the mean part."""
    weights = [5.0, 1.0, 3.0, 0.4, 0.0, 2.0]
    want = (torch.tensor(weights, dtype=torch.float64) / sum(weights) > size / len(weights)).double()
    e = MeaningfulPerturbation(size=size)(columns_question(weights))
    torch.testing.assert_close(e.values, want.expand(2, -1))
    assert 0 < want.sum() < len(weights)


def test_meaningful_perturbation_shows_just_enough():
    """Where showing is dear only beyond the whole answer, the least is shown that keeps it: 1 unit of 5 at the price of a fifth."""
    e = MeaningfulPerturbation(mode="preserve", size=0.5, steps=400, rate=0.02)(columns_question([5.0, -2.0, 0.0, 2.0]))
    kept = (e.values * torch.tensor([5.0, -2.0, 0.0, 2.0], dtype=torch.float64)).sum(1)
    torch.testing.assert_close(kept, torch.full((2,), 5.0, dtype=torch.float64), rtol=0.05, atol=0)
    assert e.values[:, 1:3].abs().max() < 1e-6


@pytest.mark.parametrize("mode", ["delete", "preserve"])
@pytest.mark.parametrize("at", [None, "same"])
def test_meaningful_perturbation_finds_the_patch(mode, at):
    e = MeaningfulPerturbation(mode=mode, cells=8, smoothness=0.1)(patch_question(at=at))
    heat = e.heat()
    assert heat[:, inside()].mean() > 0.5
    assert heat[:, far()].mean() < 0.02


def test_meaningful_perturbation_of_a_neuron_and_of_many_baselines():
    q = patch_question(target=Neuron("same", (0, 3, 3)), baseline=Samples(torch.zeros(2, 3, 16, 16)))
    e = MeaningfulPerturbation(cells=16, jitter=0, smoothness=0.0)(q)
    assert [divmod(int(h.argmax()), 16) for h in e.heat()] == [(3, 3)] * 2
    assert e.error is not None


# ---------------------------------------------------------------- extremal perturbation


def smooth_maximum(cells, width, side, margin):
    """The paper's equations 7 and 8 at every point of the lattice, one bump after the other. `width` in cells."""
    fine = side // (len(cells) - 2 * margin)
    out = torch.zeros(side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            y, x = ((k + 0.5) / fine - 0.5 + margin for k in (i, j))
            above = below = 0.0
            for a in range(len(cells)):
                for b in range(len(cells)):
                    if max(abs(a - (margin + i // fine)), abs(b - (margin + j // fine))) <= margin:
                        v = float(cells[a, b]) * math.exp(-2 * max(0, math.hypot(a - y, b - x) / width - 0.5) ** 2)
                        above, below = above + v * math.exp(20 * v), below + math.exp(20 * v)
            out[i, j] = above / below
    return out


@pytest.mark.parametrize(("width", "cells", "lattice"), [(0.15, 16, 16), (0.4, 8, 16)])
def test_the_smooth_maximum_of_bumps(width, cells, lattice):
    bumps = Bumps(Veil(patch_question()), width)
    bump = bumps.shapes[0]
    assert bump.cells == (cells, cells)
    assert bump.width[0] == pytest.approx(width * cells)
    m = normal(1, 2, bumps.n).sigmoid()
    got = bumps.lattices(m)[0]
    want = smooth_maximum(m[0, 1].reshape(bump.all), bump.width[0], lattice, bump.reach[0])
    torch.testing.assert_close(got[0, 1], want)
    assert want.std() > 0.01


def test_at_the_edge_a_blank_mask_is_as_high_as_inside():
    """Else the area's weight would paint a frame before the model has said anything."""
    bumps = Bumps(Veil(patch_question()), 0.4)
    blank = bumps.lattices(torch.full((1, 2, bumps.n), 0.5, dtype=torch.float64))[0]
    torch.testing.assert_close(blank, blank[0, 0, 0, 0].expand_as(blank))


def test_the_area_is_that_of_a_sorted_mask():
    m, share = torch.linspace(0.05, 0.9, 10, dtype=torch.float64)[normal(2, 3, 10).argsort(2)], torch.tensor([0.3, 0.62])
    want = torch.stack([((row.sort(dim=1).values - (torch.arange(10) >= 10 - k).double()) ** 2).mean(1) for row, k in zip(m, (3, 6), strict=True)])
    torch.testing.assert_close(too_far_from(m, share), want)
    assert too_far_from(m[:1], torch.tensor([1.0])).allclose((1 - m[:1]).square().mean(2))
    level = torch.full((1, 1, 4), 0.5, requires_grad=True)
    too_far_from(level, torch.tensor([0.25])).sum().backward()
    assert not level.grad.any(), "a blank mask has no favourites"


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_extremal_perturbation_of_a_linear_model(variant):
    """Of a sum, the largest parts."""
    weights = [5.0, 1.0, 3.0, 0.4, 0.0, 2.0]
    e = ExtremalPerturbation(variant=variant, areas=(100 / 6, 50))(columns_question(weights))
    want = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(e.values, want.expand(2, -1), rtol=0, atol=0.01)


def test_the_smallest_area_that_keeps_the_answer():
    """Of a row's parts 5, 3, 2 and 1, two keep 8 of 11, three keep 10."""
    weights = [5.0, 1.0, 3.0, 2.0]
    for reach, want in ((0.7, [1, 0, 1, 0]), (0.9, [1, 0, 1, 1]), (2.0, [1, 0, 1, 1])):
        e = ExtremalPerturbation(areas=(25, 50, 75), result="smallest", reach=reach)(columns_question(weights))
        torch.testing.assert_close(e.values, torch.tensor([want] * 2, dtype=torch.float64), rtol=0, atol=0.01)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("at", [None, "same"])
def test_extremal_perturbation_finds_the_patch_and_keeps_to_its_area(variant, at):
    """The patch is a sixteenth of the picture."""
    heat = ExtremalPerturbation(variant=variant, areas=(100 / 16,))(patch_question(at=at)).heat()
    assert heat[:, inside()].mean() > 0.8
    torch.testing.assert_close(heat.mean((1, 2)), torch.full((2,), 1 / 16, dtype=torch.float64), rtol=0, atol=0.03)
    assert ((heat > 0.1) & (heat < 0.9)).double().mean() < 0.2


def test_all_areas_and_rows_are_one_batch():
    q = patch_question(batch_size=None)
    cost = ExtremalPerturbation(areas=(5, 10, 20), steps=5)(q).cost
    assert cost.backward_rows == 3 * 2 * 5
    one = ExtremalPerturbation(areas=10, steps=5)(patch_question()).values
    many = ExtremalPerturbation(areas=(10, 10), steps=5)(patch_question()).values
    torch.testing.assert_close(one, many)


def test_a_pyramid_of_blurs():
    x = normal(2, 3, 16, 16)
    q = patch_question(baseline=0.0)
    through = Pyramid(ask(q.model, x, Output()))
    rows, one = torch.tensor([1, 0]), torch.ones(2, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(through.shown(0, one, rows), x[rows])
    torch.testing.assert_close(through.shown(0, 0 * one, rows), blur(x[rows], 20 / 224 * 16))
    m = (0.13 + 0.7 * normal(2, 1, 16, 16).sigmoid()).requires_grad_()
    shown = through.shown(0, m, rows)
    torch.testing.assert_close(torch.autograd.grad(shown.sum(), m)[0], through.slope(0, m, rows).sum(1, keepdim=True))
    half = through.shown(0, one * (1 - 1.5 / LEVELS), rows)
    torch.testing.assert_close(half, (blur(x[rows], 20 / 224 * 16 / LEVELS) + blur(x[rows], 20 / 224 * 16 * 2 / LEVELS)) / 2)


def test_bad_areas_and_points_are_refused():
    with pytest.raises(UsageError, match=r"areas between 1 and 100.*150"):
        ExtremalPerturbation(areas=(10, 150))(columns_question([1.0, 2.0]))
    with pytest.raises(NotApplicable, match="pictures"):
        ExtremalPerturbation(perturbation="blur")(columns_question([1.0, 2.0]))


# ---------------------------------------------------------------- counterfactual infilling


@pytest.mark.parametrize("region", ["sufficient", "destroying"])
@pytest.mark.parametrize("size", [0.6, 1.3])
def test_infilling_of_a_linear_model(region, size):
    """A part is kept (or filled in) exactly if it adds more than `size` times the mean part."""
    weights = [5.0, 0.5, 3.0, 0.2, 0.0, 1.8]
    want = torch.tensor(weights) / sum(weights) > size / len(weights)
    e = CounterfactualInfilling(region=region, size=size, samples=16, steps=200)(columns_question(weights))
    assert (e.values[:, want] > 0.9).all()
    assert (e.values[:, ~want] < 0.1).all()


@pytest.mark.parametrize(("region", "infill"), [("sufficient", "baseline"), ("sufficient", "inpaint"), ("destroying", "baseline")])
def test_infilling_finds_the_patch(region, infill):
    """A brighter square on a grey ground: what is around it suggests that it is not there."""
    x = torch.full((2, 3, 16, 16), 0.2, dtype=torch.float64)
    x[:, :, 8:12, 4:8] = 1.0
    q = ask(wrap(made(Patch)), x, Output(), baseline=0.2, batch_size=16)
    heat = CounterfactualInfilling(region=region, infill=infill, cells=8)(q).heat()
    assert heat[:, inside()].mean() > 0.5
    assert heat[:, far()].mean() < 0.15


def test_draws_are_nearly_bernoulli_and_belong_to_the_row():
    method = CounterfactualInfilling(samples=2000, temperature=0.02)
    q = columns_question([1.0, 1.0], ids=("a", "b"))
    odds = torch.tensor([[[-1.0, 2.0]] * 2], dtype=torch.float64)
    draws = method._drawn(q, odds, 3)
    assert draws.shape == (2000, 2, 2)
    torch.testing.assert_close(draws.mean(0), odds[0].sigmoid(), rtol=0, atol=0.03)
    assert ((draws < 0.01) | (draws > 0.99)).double().mean() > 0.95
    turned = method._drawn(columns_question([1.0, 1.0], ids=("b", "a")), odds, 3)
    assert torch.equal(turned, draws.flip(1))
    assert not torch.equal(draws[:, 0], draws[:, 1])
    assert not torch.equal(method._drawn(q, odds, 4), draws)


def test_what_is_seen_suggests_what_is_not():
    x, nothing = normal(2, 3, 12, 9), torch.full((2, 3, 12, 9), 7.0, dtype=torch.float64)
    seen = torch.zeros(2, 1, 12, 9, dtype=torch.float64)
    torch.testing.assert_close(filled(x, seen, nothing), nothing)
    seen[:, :, 3, 4] = 1
    torch.testing.assert_close(filled(x, seen, nothing), x[:, :, 3:4, 4:5].expand_as(x))
    ramp = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 1, 16, 16)
    hole = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    hole[:, :, 4:12, 4:12] = 0
    guess = filled(torch.where(hole.bool(), ramp, 99.0), hole, torch.full_like(ramp, 50.0))
    assert (guess[0, 0, 4:12, 4:12] - ramp[0, 0, 4:12, 4:12]).abs().max() < 0.25
    assert (guess[0, 0, 4:12, 4:6] < guess[0, 0, 4:12, 10:12]).all()


def test_infilling_over_the_players_of_a_masker():
    """Superpixels as labels: the one that holds the patch, priced by its area."""
    labels = torch.arange(16)[:, None] // 4 * 4 + torch.arange(16) // 4
    e = CounterfactualInfilling(over=labels)(patch_question())
    pieces = e.heat().unflatten(1, (4, 4)).unflatten(3, (4, 4))
    assert pieces.std((2, 4)).max() < 1e-9
    assert (pieces.mean((2, 4))[:, 2, 1] > 0.9).all()
    assert (pieces.mean((2, 4)).flatten(1).sum(1) < 1.2).all()
    with pytest.raises(UsageError, match="parts them"):
        CounterfactualInfilling(over="columns")(ask(wrap(made(Steps)), normal(2, 3, 4), Output()))


class Steps(nn.Module):
    """A sequence to one number."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        return self.out(x).sum(1)


def test_columns_cannot_be_inpainted():
    with pytest.raises(NotApplicable, match=r"pictures.*Use infill"):
        CounterfactualInfilling(infill="inpaint")(columns_question([1.0, 2.0]))


# ---------------------------------------------------------------- perceptual ball


@pytest.mark.parametrize("ball", [0.0, 3.0])
def test_perceptual_ball_of_a_linear_model(ball):
    """A quadratic problem: the fall (1 + s d)^2, the closeness |d|^2 / n and the layer's |W d|^2, solved at once."""
    net = made(lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 1, bias=False)))
    x = normal(3, 6)
    e = PerceptualBall(steps=250, rate=0.03, ball=ball, through=1)(ask(wrap(net), x, Output(), batch_size=16))
    W, v = net[0].weight.detach(), net[1].weight.detach()[0]
    for row, got in zip(x, e.values, strict=True):
        unit = row.std(correction=0)
        s, inner = unit * (W.T @ v) / (v @ W @ row).abs(), unit * W / (W @ row).norm()
        want = torch.linalg.solve(torch.outer(s, s) + torch.eye(6, dtype=torch.float64) / 6 + ball * inner.T @ inner, -s)
        torch.testing.assert_close(got, want.abs(), rtol=0.02, atol=1e-3)
    assert "0 held" in e.provenance["notes"][0] if ball else True


def test_perceptual_ball_turns_the_answer():
    """The class ends `margin` behind another; a ball makes the layers move less for it."""
    net = made(lambda: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)))
    x = 2 * normal(2, 8)
    y = net(x).argmax(1)

    def moved(**parameters):
        e = PerceptualBall(margin=0.2, closeness=1e-4, steps=120, rate=0.02, **parameters)(ask(wrap(net), x, y, batch_size=16))
        assert e.provenance["notes"][0].startswith(("0% to 0%", "0% to 1%", "1% to 1%"))
        return e.values

    free, held = moved(ball=0.0, through=0), moved(ball=0.01)
    assert (free > 0).all()
    assert not torch.allclose(free, held, rtol=0.1)


def test_what_a_ball_watches_lies_between_place_and_target():
    net = made(lambda: nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(4, 4), nn.Tanh())], nn.Linear(4, 3)))
    x = normal(2, 4)
    note = PerceptualBall(steps=1, through=2)(ask(wrap(net), x, [0, 1], at="5", batch_size=8)).provenance["notes"][0]
    assert "8, 10 held" in note
    note = PerceptualBall(steps=1)(ask(wrap(net), x, Neuron("3", 1), batch_size=8)).provenance["notes"][0]
    assert "0, 1, 2 held" in note
    note = PerceptualBall(steps=1, through=("7",))(ask(wrap(net), x, [0, 1], batch_size=8)).provenance["notes"][0]
    assert "; 7 held" in note
    with pytest.raises(UsageError, match=r"how many of them.*-1"):
        PerceptualBall(through=-1)(ask(wrap(net), x, [0, 1], batch_size=8))
    with pytest.raises(NotApplicable, match="read before that place"):
        PerceptualBall(steps=1, through=("1",))(ask(wrap(net), x, [0, 1], at="5", batch_size=8))


# ---------------------------------------------------------------- masking model


class Coloured(nn.Module):
    """How much there is of each of three colours."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 9)

    def forward(self, x):
        return 40 * self.conv(x).square().mean((2, 3))


def squares(n, seed):
    """Grey noise with a bright square of one colour somewhere, where it lies, and which colour it is."""
    g = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.rand(n, 3, 16, 16, generator=g, dtype=torch.float64)
    y, where = torch.randint(3, (n,), generator=g), torch.zeros(n, 16, 16, dtype=torch.bool)
    for i, (top, left) in enumerate(torch.randint(1, 10, (n, 2), generator=g).tolist()):
        where[i, top : top + 5, left : left + 5] = True
        x[i, y[i]] += where[i]
    return x, y, where


@pytest.mark.parametrize("layers", [(), None])
def test_a_masking_model_finds_in_new_pictures_what_it_learnt_to_need(layers, tmp_path):
    net = made(Coloured)
    x, y, _ = squares(48, 0)
    fitted = fit_masking_model(net, x, y, layers=layers, steps=80, rate=0.02, generator=torch.Generator().manual_seed(0))
    assert fitted.layers == (() if layers == () else ("conv",))
    new, _, where = squares(8, 1)
    q = ask(wrap(net), new, batch_size=8)
    heat = MaskingModel(fitted=fitted)(q).heat()
    assert heat[where].mean() > 0.6
    assert heat[~where].mean() < 0.25
    again = MaskingModel(fitted=str(fitted.save(tmp_path / "mask.safetensors")))(ask(wrap(net), new, batch_size=8))
    torch.testing.assert_close(again.heat(), heat, rtol=1e-6, atol=1e-6)  # the file holds 32 bits a number
    assert again.cost.forward_rows <= 2 * 8
    assert again.cost.backward_rows == 0


def test_the_slope_of_the_training_is_that_of_autograd():
    net = made(Coloured)
    x, y, _ = squares(4, 0)
    m = normal(4, 1, 16, 16).sigmoid().requires_grad_()
    out = net(0.2 + m * (x - 0.2))
    want = torch.autograd.grad(F.cross_entropy(out, y), m)[0]
    got = torch.autograd.grad(_moved(ask(wrap(net), x, Loss(y.tolist()), baseline=0.2), m, 1.0), m)[0]
    torch.testing.assert_close(got, want)
    assert want.abs().max() > 1e-4


def test_a_masking_model_is_fitted_alike_and_leaves_no_trace():
    net, x = made(Coloured), squares(8, 0)[0]
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    one, two, other = (fit_masking_model(net, x, steps=3, generator=torch.Generator().manual_seed(s)).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert not all(torch.equal(v, other[k]) for k, v in one.items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_what_is_no_mask_network_is_refused(tmp_path):
    q = ask(wrap(made(Coloured)), squares(2, 0)[0])
    with pytest.raises(NotApplicable, match="fit_masking_model"):
        MaskingModel()(q)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"bad\.safetensors"):
        MaskingModel(fitted=str(tmp_path / "bad.safetensors"))(q)
    with pytest.raises(UsageError, match="there"):
        MaskingModel(fitted=str(tmp_path / "there.safetensors"))(q)
    with pytest.raises(UsageError, match=r"5 channels.*Fit one"):
        MaskingModel(fitted=MaskNetwork((), (5,)))(q)
    with pytest.raises(UsageError, match="row of classes"):
        fit_masking_model(made(Patch), normal(4, 3, 16, 16), steps=1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="pictures"):
        fit_masking_model(made(lambda: nn.Linear(3, 2)), normal(4, 3), steps=1, generator=torch.Generator().manual_seed(0))
