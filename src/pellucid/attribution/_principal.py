"""The first principal component of a layer's channels over its positions."""

import torch
from torch import Tensor


def first_component(planes: Tensor, centred: bool = True) -> Tensor:
    """(B, 1, height, width): the projection of every position's channels on the direction in which positions differ most.

    From the smaller of the two Gram matrices, in double precision: a map of 7 x 7 with 1280 channels is an eigenproblem of 49.
    The sign is that in which the map goes with the sum over channels: an eigenvector v of M'M has <M v, M 1> = s^2 <v, 1>.
    """
    m = planes.flatten(2).transpose(1, 2).double()
    m = m - m.mean(1, keepdim=True) if centred else m
    if m.shape[1] <= m.shape[2]:
        u = torch.linalg.eigh(m @ m.transpose(1, 2))[1][:, :, -1:]
        map_ = u * (m.transpose(1, 2) @ u).norm(dim=1, keepdim=True)
    else:
        map_ = m @ torch.linalg.eigh(m.transpose(1, 2) @ m)[1][:, :, -1:]
    sign = torch.where((map_ * m.sum(2, keepdim=True)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return (sign * map_).transpose(1, 2).unflatten(2, planes.shape[2:]).to(planes.dtype)
