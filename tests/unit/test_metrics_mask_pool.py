"""The shared pool of masks, the controls and the blur against slow twins."""

import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from pellucid.metrics import _mask_pool as pool
from pellucid.metrics._controls import centre, edges


def drawn(m, row=0):
    s = torch.arange(len(m.bits))
    return m.full(s, torch.full_like(s, row))


@pytest.mark.parametrize("size", [(224, 224), (28, 28), (20, 33), (8, 8)])
def test_masks_equal_interpolated_crops(size):
    m = pool.image_masks(8, size, 3, ["a", "b"])
    cell = [-(-d // 7) for d in size]
    big = functional.interpolate(m.bits[:, 1:2].float(), size=(8 * cell[0], 8 * cell[1]), mode="bilinear", align_corners=False)
    slow = torch.stack([b[0, i : i + size[0], j : j + size[1]] for b, (i, j) in zip(big, m.offset[:, 1].tolist(), strict=True)])
    assert torch.allclose(drawn(m, 1), slow, atol=1e-5)
    small = functional.adaptive_avg_pool2d(slow[:, None], m.shape).flatten(1)
    assert torch.allclose(m.small(1), small, atol=1e-5)


def test_masks_come_in_complements_and_keep_about_half():
    m = pool.image_masks(128, (56, 56), 0, [7])
    full = drawn(m)
    assert torch.allclose(full[0::2] + full[1::2], torch.ones(64, 56, 56), atol=1e-5)
    assert 0.45 < float(full.mean()) < 0.55
    assert 0.1 < float(full[0::2].mean((1, 2)).std()) < 0.25
    assert float(full.min()) >= -1e-6
    assert float(full.max()) <= 1 + 1e-6


def test_masks_belong_to_the_row_and_not_to_its_place_and_longer_pools_begin_with_shorter():
    a, b = pool.image_masks(256, (28, 28), 0, ["x", "y"]), pool.image_masks(128, (28, 28), 0, ["y"])
    assert torch.equal(a.small(1)[:128], b.small(0))
    assert not torch.equal(a.small(0)[:128], b.small(0))
    assert not torch.equal(a.small(1)[:128], a.small(1)[128:])
    assert not torch.equal(b.small(0), pool.image_masks(128, (28, 28), 1, ["y"]).small(0))


def test_masks_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    pool.image_masks(128, (28, 28), 0, ["x"])
    pool.feature_masks(128, 5, 0, ["x"])
    assert torch.equal(before, torch.get_rng_state())


def test_feature_masks_are_bits_in_complements():
    m = pool.feature_masks(64, 5, 0, ["x", "y"])
    s = torch.arange(64)
    full = m.full(s, torch.ones_like(s))
    assert full.shape == (64, 5)
    assert set(full.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(full[0::2] + full[1::2], torch.ones(32, 5))
    assert torch.equal(full, m.small(1))


def test_edges_equal_scipy():
    x = torch.rand(2, 3, 9, 12, dtype=torch.float64, generator=pool.generator(0, 0, "x"))
    slow = torch.stack([torch.from_numpy(sum(ndimage.sobel(g, k, mode="nearest") ** 2 for k in (0, 1)) ** 0.5) for g in x.mean(1).numpy()])
    assert torch.allclose(edges(x), slow, atol=1e-12)


def test_centre_peaks_in_the_middle():
    c = centre(9, 13)
    assert c.argmax() == 4 * 13 + 6
    assert float(c[4, 6]) == 1
    assert float(c[0, 0]) < 0.01


def test_shrink_averages_blocks_and_stretches_small_maps():
    x = torch.arange(16.0).view(1, 4, 4)
    assert pool.shrink(x, (2, 2)).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert pool.shrink(x, (8, 8)).shape == (1, 8, 8)
