"""A hash tells tensors of other numbers, shapes and types apart, and nothing else."""

import pytest
import torch

from pellucid.core.hashing import hashed

X = torch.arange(6.0)


def test_what_is_equal_is_hashed_alike():
    want = hashed([X.reshape(2, 3)])
    assert want == hashed([X.reshape(3, 2).clone().reshape(2, 3)]) == hashed([X.reshape(2, 3).T.contiguous().T.requires_grad_()])
    with torch.inference_mode():
        assert hashed([X.clone().reshape(2, 3)]) == want
    assert len(want) == 16


@pytest.mark.parametrize("other", [[X + 0], [X.flip(0)], [X.reshape(2, 3)], [X.double()], [X, X], [X.int()], [X * -1], []])
def test_what_differs_is_told_apart(other):
    same = len(other) == 1 and torch.equal(other[0], X) and other[0].dtype == X.dtype
    assert (hashed(other) == hashed([X])) is same


@pytest.mark.parametrize("t", [torch.tensor(2.0), torch.zeros(0), torch.tensor([True]), torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse()])
def test_every_kind_of_tensor(t):
    assert hashed([t]) == hashed([t.clone()])
    assert hashed([t]) != hashed([X])
