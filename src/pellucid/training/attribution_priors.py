"""Attribution priors: what attributions should look like, as penalties to train with."""

import torch
from torch import Tensor

from ..core.errors import UsageError


def total_variation(attributions: Tensor) -> Tensor:
    """How much do neighbouring pixels differ in what they did? A penalty that makes maps of pictures smooth.

    How: sum over i, j of |phi[i+1, j] - phi[i, j]| + |phi[i, j+1] - phi[i, j]|, over all channels; the mean over the rows.
    Units: those of the attributions.
    Misleads when: what matters is a single pixel or a thin line.
    Source: Erion et al. 2021, arXiv:1906.10670, the pixel prior.
    """
    if attributions.ndim < 3:
        raise UsageError(f"Total variation needs attributions of pictures, rows first and height and width last; got the shape {tuple(attributions.shape)}.")
    return (attributions.diff(dim=-2).abs().sum() + attributions.diff(dim=-1).abs().sum()) / len(attributions)


def gini_sparsity(attributions: Tensor) -> Tensor:
    """On how many features does the model rely over all? A penalty that makes it rely on few.

    How: minus twice the Gini coefficient of g, the mean over the rows of |phi|: - sum over i, j of |g_i - g_j| / (P sum of g).
    Sorted, the double sum is 2 sum over i of (2 i - P - 1) g_(i). One batch's mean stands for all rows'.
    Units: none; 0 where all features count the same, 2 / P - 2 where one counts alone. The scale of phi does not matter.
    Misleads when: columns say the same thing: any one of them may be kept.
    Source: Erion et al. 2021, arXiv:1906.10670, the sparsity prior.
    """
    g = _importance(attributions).sort().values
    P = len(g)
    rank = 2 * torch.arange(1, P + 1, device=g.device, dtype=g.dtype) - P - 1
    return -2 * (rank * g).sum() / (P * g.sum()).clamp(min=torch.finfo(g.dtype).tiny)


def graph_smoothness(attributions: Tensor, weights: Tensor) -> Tensor:
    """Do features that belong together count alike? A penalty on the differences along the edges of a graph.

    How: g' L g = sum over the pairs of W_ij (g_i - g_j)^2, with g the mean over the rows of |phi|, L the Laplacian of the
    graph whose (P, P) weights are given, dense or sparse. Weights that are not symmetric count with the mean of both ways.
    Units: the square of the attributions'.
    Misleads when: the graph joins features with opposite parts: g has no sign.
    Source: Erion et al. 2021, arXiv:1906.10670, the graph prior.
    """
    g = _importance(attributions)
    if weights.shape != (len(g), len(g)):
        raise UsageError(f"Graph smoothness needs one weight for every pair of the {len(g)} features; got weights of shape {tuple(weights.shape)}.")
    W = weights.to(g)
    one = torch.ones_like(g)
    degree = (W @ one + W.t() @ one) / 2
    return degree @ g**2 - g @ (W @ g)


def _importance(attributions: Tensor) -> Tensor:
    """(P,) mean over the rows of what each feature did, without its sign."""
    return attributions.abs().flatten(1).mean(0)
