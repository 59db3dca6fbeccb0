"""Learnt masks against closed forms on models that read one place, slow twins, and what the papers constrain."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import made, normal
from pellucid.attribution import MeaningfulPerturbation
from pellucid.attribution._masks import Coarse, Fade, Sheet, Veil, descended, shifted
from pellucid.backends import wrap
from pellucid.core.question import Samples, ask
from pellucid.core.target import Neuron, Output


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
