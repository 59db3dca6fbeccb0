"""Blur integrated gradients: a path from the blurred picture to the picture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values, sum_of
from ..core.question import Question, spread
from ..core.tree import Tree, each, leaves
from ._path import Trapezoid, told, wide

TOGETHER = 16
"""Blurred rows that are asked at once; the engine cuts them into chunks of its own."""
FINE = 400
"""Blurs by which the length of the path is measured."""


@dataclass(frozen=True, kw_only=True)
class BlurIntegratedGradients(Method):
    """How much did each part add to the answer while the picture came into focus?

    How: gradient times step along the path of Gaussian blurs from `sigma` pixels down to none, each step with the mean
    gradient of its two ends. Edges mirror: no light is lost, and a wide blur is the mean colour. Steps are equally long
    in the picture's own distance (L2), which is nearly even in log sigma; "even" steps are equal in sigma, "root" in its square.
    At a layer: how the layer's value moves while the input comes into focus.
    Units: target units; a row's values sum to f(picture) - f(blurred picture), and the result says how nearly; at a layer,
    to the part of it that passes through there. The question's baseline plays no part.
    Misleads when: what is missing in the blurred picture is not what makes the class, e.g. smooth or large things.
    Source: Xu, Venugopalan, Sundararajan 2020, arXiv:2004.03383, equation 2.
    """

    card = Card(title="Blur integrated gradients", paper="arXiv:2004.03383", needs=Needs.GRADIENT,
                promises=Promise.LINEAR, cost="steps and 1 more forward and backward rows, and 1 forward row")
    steps: int = param(100, "steps of the path", ge=1, le=100_000, unit="gradient rows")
    sigma: float = param(50.0, "the widest blur", ge=0.1, le=100_000, unit="pixels")
    spacing: str = param("length", "which steps are equal: their length, or their share of sigma or of its square", choices=("length", "even", "root"))

    def attribute(self, q: Question) -> Values:
        if q.moved is not None and q.places:
            raise NotApplicable(f"Blur integrated gradients follow what the input's blur does at {q.at}; another value was put there. Ask at the input.")
        q.resolved_target()
        at_input = q.at_layer(None)
        scales = Scales(at_input)
        sigmas, found = self._sigmas(scales), Trapezoid()
        for z, g in _asked(q, at_input, scales, sigmas):
            found.add(z, g)
        whole, half = (each(lambda s, p: s.to(p.dtype), s, q.point) for s in found.sums())
        blurred = at_input.with_point(at_input.pack(scales.at(sigmas[0], torch.arange(q.size)))).target_values()
        change = q.target_values() - blurred
        note = _passing(q, whole, change) if q.places else told(self.steps, whole, change)
        return Values(whole, convergence=agreement(whole, half) if self.steps > 1 else None, notes=(note,))

    def _sigmas(self, scales: "Scales") -> Tensor:
        """(steps + 1, B) blurs, from the widest to none."""
        t = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        if self.spacing == "length":
            return scales.equally_long(self.sigma, t)
        return self.sigma * (t if self.spacing == "even" else t.sqrt())[:, None].expand(-1, scales.size)


def _passing(q: Question, values: Tree, change: Tensor) -> str:
    """How much of the change of the target passes through the layer: other ways may lead around it."""
    share = sum_of(values) / change
    return f"{float(share.min()):.0%} to {float(share.max()):.0%} of the change of the target passes through {q.at}"


def _asked(q: Question, at_input: Question, scales: "Scales", sigmas: Tensor) -> Iterator[tuple[Tree, Tree]]:
    """(value at the place, gradient there) for one blur of all rows after the other."""
    for block in sigmas.split(max(1, TOGETHER // q.size)):
        rows = torch.arange(q.size).repeat(len(block))
        part = at_input.take(rows).with_point(at_input.pack(scales.at(block.flatten(), rows)))
        part = part.at_layer(list(q.places)) if q.places else part
        g, z = part.grad(), part.point
        for k in range(len(block)):
            mine = slice(k * q.size, (k + 1) * q.size)
            yield each(lambda t, m=mine: t[m], z), each(lambda t, m=mine: t[m], g)


class Scales:
    """A question's pictures under any Gaussian blur, from one cosine transform; mirrored edges make blurs products there."""

    def __init__(self, q: Question) -> None:
        self.parts, self.size = leaves(q.point), q.size
        if not any(p.ndim > 3 for p in self.parts):
            raise NotApplicable(f"Blur integrated gradients need a picture: an input on a grid (rows, channels, height, width); got {[tuple(p.shape) for p in self.parts]}. Use integrated-gradients.")
        self.waves = [[_cosines(n, p) for n in p.shape[2:]] if p.ndim > 3 else [] for p in self.parts]
        self.spectra = [self._turned(wide(p), [w.T for w in ws]) for p, ws in zip(self.parts, self.waves, strict=True)]

    def at(self, sigmas: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        """Those rows under those blurs; what is no picture stays as it is."""
        return tuple(self._blurred(i, sigmas, rows.to(p.device)) for i, p in enumerate(self.parts))

    def _blurred(self, i: int, sigmas: Tensor, rows: Tensor) -> Tensor:
        here, s = self.parts[i][rows], sigmas.to(self.spectra[i])
        if not self.waves[i]:
            return here
        fading = self.spectra[i][rows] * torch.exp(-spread(s, here) ** 2 * _squares(here) / 2)
        return torch.where(spread(s, here) == 0, here, self._turned(fading, self.waves[i]).to(here.dtype))

    def equally_long(self, sigma: float, t: Tensor) -> Tensor:
        """(len(t), B) blurs up to `sigma` at which the shares `t` of the path from the sharp picture are done."""
        grid = sigma * torch.linspace(0, 1, FINE + 1, dtype=torch.float64) ** 2
        moved = torch.zeros(FINE, self.size, dtype=torch.float64)
        for x, ws in zip(self.spectra, self.waves, strict=True):
            if ws:
                power, decay = x.double().square().sum(1).flatten(1).cpu(), _squares(x).double().flatten().cpu() / 2
                fade = torch.exp(-grid[:, None] ** 2 * decay)
                moved += fade.diff(dim=0).square() @ power.T
        far = torch.cat([torch.zeros(1, self.size, dtype=torch.float64), moved.sqrt().cumsum(0)])
        far = torch.where(far[-1] > 0, far / far[-1].clamp(min=1e-300), (grid / sigma)[:, None])
        return torch.stack([torch.from_numpy(np.interp(t.numpy(), column.numpy(), grid.numpy())) for column in far.T], 1)

    @staticmethod
    def _turned(x: Tensor, matrices: list[Tensor]) -> Tensor:
        """`x` times a matrix along each of its axes of space."""
        for axis, m in enumerate(matrices, 2):
            x = (x.movedim(axis, -1) @ m).movedim(-1, axis)
        return x


def _cosines(n: int, like: Tensor) -> Tensor:
    """(n, n): the waves that fit into n mirrored pixels, one a row, of unit length."""
    k = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves.to(wide(like))


def _squares(x: Tensor) -> Tensor:
    """The squared frequency of every wave, in radians a pixel: a blur of width s leaves exp(-s^2 w^2 / 2) of it."""
    total = torch.zeros(x.shape[2:], dtype=torch.float64)
    for axis, n in enumerate(x.shape[2:]):
        w = (math.pi * torch.arange(n, dtype=torch.float64) / n) ** 2
        total = total + w.reshape(-1, *[1] * (x.ndim - 3 - axis))
    return total.to(wide(x))
