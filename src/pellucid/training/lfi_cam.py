"""LFI-CAM: a network that learns how much its channels count, and looks where its own map says."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ._draws import drawn


class Attended(NamedTuple):
    """What the network says, with where it looked: maps (B, 1, h, w) in [0, 1] and importances (B, C) that sum to one."""

    logits: Tensor
    map: Tensor
    importance: Tensor


class LFICAM(nn.Module):
    """Where did the network look? A class activation map that is made in the forward pass, used as attention, and trained.

    How: A = trunk(x), its values scaled to [0, 1] a row, N; a small network reads N times the grey picture and gives, through
    global pooling and softmax, one importance w a channel. The map is M = ReLU(sum of w_k N_k), scaled to [0, 1]; the head
    reads A (1 + M). All of it learns from the task's own loss. Scaling is by row: no row's map depends on its neighbours.
    Units: none; maps and importances compare within a row.
    Misleads when: the head would answer as well without the map: then nothing teaches it. Compare the accuracy with M = 0.
    Source: Lee, Park, Oh, Kwak 2021, arXiv:2105.00937.
    """

    def __init__(self, trunk: nn.Module, channels: int, head: nn.Module, *, generator: torch.Generator) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        mix = lambda: drawn(nn.utils.skip_init(nn.Conv2d, channels, channels, 3, padding=1, bias=False), generator)  # noqa: E731
        self.importance = nn.Sequential(
            mix(),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            mix(),
            nn.BatchNorm2d(channels),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Softmax(1),
        )

    def forward(self, x: Tensor) -> Attended:
        h = self.trunk(x)
        if h.ndim != 4 or x.ndim != 4:
            raise UsageError(f"LFI-CAM needs pictures and a trunk that gives (rows, channels, height, width); got {tuple(x.shape)} and {tuple(h.shape)}.")
        scaled = _to_unit(h)
        grey = nn.functional.interpolate(x.mean(1, keepdim=True), size=h.shape[2:], mode="bilinear", align_corners=False)
        w = self.importance(scaled * grey)
        maps = _to_unit(torch.einsum("bc,bchw->bhw", w, scaled).relu()[:, None])
        return Attended(self.head(h * (1 + maps)), maps, w)


def _to_unit(h: Tensor) -> Tensor:
    """Every row from 0 to 1; a constant row is 0."""
    low, high = h.flatten(1).aminmax(dim=1)
    shape = (-1, *(1,) * (h.ndim - 1))
    return (h - low.reshape(shape)) / (high - low).clamp(min=torch.finfo(h.dtype).eps).reshape(shape)
