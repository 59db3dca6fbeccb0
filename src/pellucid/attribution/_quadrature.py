"""Rules for integrals over the path from the baseline to the point: nodes in [0, 1] and weights that sum to one."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """(n, B) nodes and (J, n, B) weights: the rule itself first, then a coarser one on the same nodes."""

    nodes: Tensor
    weights: Tensor


def gauss_legendre(n: int, rows: int) -> Rule:
    """Exact for polynomials of degree 2n - 1: the rule for smooth networks."""
    x, w = np.polynomial.legendre.leggauss(n)
    return _with_half(torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2), rows)


def midpoint(n: int, rows: int) -> Rule:
    """Equal cells, asked in their middle."""
    return _with_half((torch.arange(n, dtype=torch.float64) + 0.5) / n, torch.full((n,), 1 / n, dtype=torch.float64), rows)


def _with_half(t: Tensor, w: Tensor, rows: int) -> Rule:
    half = w * (torch.arange(len(w)) % 2 == 0)
    half = half / half.sum()
    return Rule(t[:, None].expand(-1, rows), torch.stack([w, half])[:, :, None].expand(-1, -1, rows))


# Gauss-Kronrod, 10 in 21 points on [-1, 1]: Piessens, de Doncker-Kapenga, Ueberhuber, Kahaner, QUADPACK (1983), positive half from the outside in.
_KRONROD = (
    (0.995657163025808080735527280689003, 0.011694638867371874278064396062192, 0.0),
    (0.973906528517171720077964012084452, 0.032558162307964727478818972459390, 0.066671344308688137593568809893332),
    (0.930157491355708226001207180059508, 0.054755896574351996031381300244580, 0.0),
    (0.865063366688984510732096688423493, 0.075039674810919952767043140916190, 0.149451349150580593145863396957658),
    (0.780817726586416897063717578345042, 0.093125454583697605535065465083366, 0.0),
    (0.679409568299024406234327365114874, 0.109387158802297641899210590325805, 0.219086362515982043995534934228163),
    (0.562757134668604683339000099272694, 0.123491976262065851077958109585166, 0.0),
    (0.433395394129247190799265943165784, 0.134709217311473325928054001771707, 0.269266719309996355091226921569469),
    (0.294392862701460198131126603103866, 0.142775938577060080797094273138717, 0.0),
    (0.148874338981631210884826001129720, 0.147739104901338491374841515972068, 0.295524224714752870173815619188769),
    (0.0, 0.149445554002916905664936468389821, 0.0),
)


def kronrod(rows: int) -> Rule:
    """21 nodes that hold a 10-point Gauss rule: the difference of the two is the error of the map, at no cost."""
    half = torch.tensor(_KRONROD, dtype=torch.float64)
    whole = torch.cat([half * torch.tensor([-1.0, 1, 1], dtype=torch.float64), half[:-1].flip(0)])
    t, weights = (whole[:, 0] + 1) / 2, whole[:, 1:].T / 2
    return Rule(t[:, None].expand(-1, rows), weights[:, :, None].expand(-1, -1, rows))


class Placement:
    """Nodes where the gradient changes, guessed from the target at evenly spaced probes.

    The gradient of a network with kinks wanders like Brownian motion, at a rate r(t): a cell of width w errs by r w^3 / 12
    (squared), and the total is least where the density of nodes follows the cube root of r. The squared slope and curvature of
    the target along the path, spread over their neighbours, stand in for r; since that is a rough guess, the density follows
    its fifth root, and no stretch gets less than 0.6 of the mean. On most photographs that errs a tenth more than knowing r would.
    Cells split in three keep the node in their middle: refinement reuses every gradient.
    """

    def __init__(self, probes: Tensor) -> None:
        rate = _spread(_unit(_slope(probes.double())) + _unit(_curvature(probes.double())))
        density = rate ** (1 / 5)
        density = density.maximum(0.6 * density.mean(0, keepdim=True))
        density = torch.where(density.sum(0, keepdim=True) > 0, density, torch.ones_like(density))
        share = density / density.sum(0, keepdim=True)
        self.cumulative = torch.cat([torch.zeros_like(share[:1]), share.cumsum(0)])
        self.cumulative[-1] = 1.0

    def at(self, u: Tensor) -> Tensor:
        """Positions on the path, (n, B), that have the shares `u` of all change below them."""
        c = self.cumulative.T.contiguous()
        i = torch.searchsorted(c, u.expand(len(c), -1).contiguous(), right=True).clamp(1, c.shape[1] - 1)
        low, high = c.gather(1, i - 1), c.gather(1, i)
        inside = (u.expand_as(low) - low) / (high - low).clamp(min=1e-12)
        return ((i - 1 + inside) / (c.shape[1] - 1)).clamp(0, 1).T

    def cells(self, n: int) -> tuple[Tensor, Tensor]:
        """(nodes, weights), both (n, B): the middle of each cell in terms of change, and the cell's length."""
        edges = self.at(torch.linspace(0, 1, n + 1, dtype=torch.float64))
        return self.at((torch.arange(n, dtype=torch.float64) + 0.5) / n), edges.diff(dim=0)


def _slope(f: Tensor) -> Tensor:
    """(n - 1, B) the square of the change between neighbouring probes."""
    return f.diff(dim=0).square()


def _curvature(f: Tensor) -> Tensor:
    """(n - 1, B) the square of the change of that change, of the two at either end of each stretch."""
    bend = f.diff(n=2, dim=0).square()
    return torch.cat([bend[:1], (bend[1:] + bend[:-1]) / 2, bend[-1:]])


def _unit(v: Tensor) -> Tensor:
    return v / v.mean(0, keepdim=True).clamp(min=1e-30)


def _spread(v: Tensor) -> Tensor:
    """Each stretch's number shared with about three neighbours on either side."""
    for _ in range(3):
        wide = torch.cat([v[:1], v, v[-1:]])
        v = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    return v


class Ladder:
    """Rounds of 1, 3, 9, ... times `first` cells. Every gradient serves all later rounds, so none is kept or asked twice.

    Weights hold two rows a round, the rule and the same on every other cell; a round's map is the running sum of its rows.
    """

    def __init__(self, placement: Placement, first: int, most: int) -> None:
        self.sizes = [first]
        while self.sizes[-1] * 3 <= most:
            self.sizes.append(self.sizes[-1] * 3)
        self.placement = placement
        self.cells = [placement.cells(n)[1] for n in self.sizes]

    def round(self, r: int) -> Rule:
        """The nodes that are new in round `r`, with their weights in all rounds; earlier rounds' weights are zero."""
        k = torch.arange(self.sizes[r])
        k = k if r == 0 else k[k % 3 != 1]
        nodes = self.placement.cells(self.sizes[r])[0][k]
        weights = torch.zeros(2 * len(self.sizes), *nodes.shape, dtype=torch.float64)
        for later in range(r, len(self.sizes)):
            step = 3 ** (later - r)
            here, w = k * step + (step - 1) // 2, self.cells[later]
            even = (here % 2 == 0).double()[:, None]
            weights[2 * later] = w[here]
            weights[2 * later + 1] = w[here] * even / w[::2].sum(0, keepdim=True)
        return Rule(nodes, weights)


def smooth(probes: Tensor) -> Tensor:
    """(B,) whether the target along the path is as good as a polynomial of degree 10: then Gauss nodes are worth most."""
    f = probes.double()
    t = np.linspace(-1, 1, len(f))
    basis = torch.from_numpy(np.linalg.qr(np.polynomial.legendre.legvander(t, 10))[0])
    rest = f - basis @ (basis.T @ f)
    return rest.abs().amax(0) <= 1e-3 * (f.amax(0) - f.amin(0)) + 1e-12
