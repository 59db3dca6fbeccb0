"""Keys of rows: equal where the points are, and nowhere else."""

import itertools

import pytest
import torch

from pellucid.backends import wrap
from pellucid.core.question import ask
from pellucid.core.rows import equal_groups, row_keys


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.complex128])
def test_rows_of_few_round_numbers_have_keys_of_their_own(dtype):
    """Signs and small whole numbers are a few high bits of a double; the keys must not lose them."""
    z = torch.tensor(list(itertools.product([-2, -1, 0, 1], repeat=6)), dtype=torch.int64).to(dtype)
    rows = torch.zeros(len(z), dtype=torch.long)
    assert len(set(row_keys((z,), rows))) == len(z) == 4096
    assert equal_groups((z,), rows) is None
    assert len(set(row_keys((torch.cat([z, z]),), rows.repeat(2)))) == len(z)


def test_coalitions_of_twenty_players_have_keys_of_their_own():
    z = (torch.arange(2**16)[:, None] >> torch.arange(20) & 1).double()
    assert len(set(row_keys((z,), torch.zeros(len(z), dtype=torch.long)))) == len(z)


def test_points_that_differ_in_signs_are_asked_apart():
    x = torch.ones(1, 2, dtype=torch.float64)
    z = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]], dtype=torch.float64)
    q = ask(wrap(lambda t: t), x, 0)
    assert q.value(z)[:, 0].tolist() == [1, -1]
