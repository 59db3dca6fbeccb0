"""Maps that know nothing of the model and often look right: a good map has to say more than they do."""

import torch
from torch import Tensor
from torch.nn import functional


def edges(x: Tensor) -> Tensor:
    """(B, C, H, W) pictures -> (B, H, W) Sobel magnitude of the mean channel."""
    k = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]).to(x)
    grey = functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), "replicate")
    return functional.conv2d(grey, torch.stack([k, k.T])[:, None]).square().sum(1).sqrt()


def centre(height: int, width: int, sigma: float = 0.4) -> Tensor:
    """(H, W) Gaussian in the middle; `sigma` in half widths."""
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return torch.exp(-(x.square() + y.square()) / (2 * sigma * sigma))
