"""Counterfactual infilling (FIDO): which parts, kept or replaced by what might have been there, decide the answer?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._masks import Coarse, Inpainted, Pieces, Veil, descended, drawn

CERTAIN = 6.0
"""Log-odds beyond which no part is driven: a chance of one in 400."""
START = 2.0
"""Log-odds of being kept at the start: of a picture half filled in at random nothing is left to learn from."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualInfilling(Method):
    """Which smallest part, kept while all else is filled in, suffices for the answer, or filled in destroys it?

    How: every cell of a grid, or every player of a masker (`over="slic:50"`), is kept with a chance of its own, learnt by Adam over masks drawn from them (the concrete relaxation of Bernoulli
    numbers at `temperature`). "sufficient" (SSR) raises the mean F of the draws at the price of size * mean chance of being kept, "destroying" (SDR) lowers it
    at the price of size * mean chance of being filled in; smoothness * mean |difference of neighbours| ** 2 is added. F is the answer as a share of what lies between
    point and baseline, and counts no further than those two. `infill="baseline"` fills in what the question says nothing looks like: 0, "mean",
    "blur", "noise" or a tensor; "inpaint" what the visible pixels around each hole suggest, finer where they are near (a pyramid of averages), for pictures.
    Units: chance of being kept ("sufficient") or filled in ("destroying"), 0 to 1; a position's channels hold an even part of it.
    Misleads when: the infill is unlike anything the model knows, or an infill of grey already speaks for the class. The paper's strongest infill, a
    generative network, is not here: a good inpainting of yours goes in as the baseline. Draws are random: the chances tremble by about `rate`.
    Source: Chang, Creager, Goldenberg, Duvenaud 2019, arXiv:1807.08024, equations 1 to 6; concrete numbers: Maddison, Mnih, Teh 2017, arXiv:1611.00712;
    averages of what is visible: Burt 1988, doi:10.1109/ICPR.1988.28224. The paper asks of the log-odds: pass a target that is.
    """

    card = Card(title="Counterfactual infilling (FIDO)", paper="arXiv:1807.08024", needs=Needs.GRADIENT, promises=Promise.IMPLEMENTATION_INVARIANT,
                cost="steps times samples forward and backward rows, and 4 forward rows", signed=False, random=True, baseline=True)
    region: str = param("sufficient", "the smallest region that suffices, or the smallest that destroys", choices=("sufficient", "destroying"))
    infill: str = param("baseline", "what fills in: the question's baseline, or what the visible pixels around suggest", choices=("baseline", "inpaint"))
    steps: int = param(100, "steps of Adam", ge=1, le=100_000)
    samples: int = param(4, "masks drawn a step", ge=1, le=10_000, unit="gradient rows a step")
    size: float = param(0.5, "price of keeping (filling in) everything, in units of the answer", ge=0, le=1e6)
    smoothness: float = param(1.0, "price of a rough map, in the same units", ge=0, le=1e6)
    cells: int = param(14, "most cells a side of a picture's mask", ge=1, le=4096)
    over: Any = param("cells", 'what has a chance of its own: the cells of a grid, or the players of a masker ("slic:50", "grid:8", labels)')
    temperature: float = param(0.1, "how far from 0 and 1 the drawn masks are", ge=0.001, le=100)
    rate: float = param(0.2, "step size of Adam, in log-odds", ge=1e-6, le=10)

    def attribute(self, q: Question) -> Values:
        with torch.inference_mode(False):
            veil = Veil(q, Inpainted(q) if self.infill == "inpaint" else None)
            coarse = Coarse(veil, self.cells) if self.over == "cells" else Pieces(veil, self.over)
            keep = self.region == "sufficient"
            sought = veil.bounded(high=1) if keep else veil.bounded(low=0)

            def loss(odds: Tensor, step: int) -> Tensor:
                chance = odds.sigmoid()
                price = self.size * coarse.area(chance if keep else 1 - chance).sum() + self.smoothness * coarse.roughness(chance, 2)
                moved = sought.moved(coarse.grown(self._drawn(q, odds, step))) / self.samples
                return price - moved if keep else price + moved

            found = descended(coarse.blank(1, START), self.steps, self.rate, loss, -CERTAIN, CERTAIN)
            whole, half = (veil.values([m[0] if keep else 1 - m[0] for m in coarse.grown(f.sigmoid())]) for f in (found.final, found.half))
            share = coarse.area(found.final.sigmoid() if keep else 1 - found.final.sigmoid())[0]
            left = veil.kept(coarse.grown((found.final > 0).to(found.final)))[0]
            words = "kept" if keep else "filled in"
            note = f"{float(share.min()):.0%} to {float(share.max()):.0%} {words}: where more likely than not, {float(left.min()):.0%} to {float(left.max()):.0%} of the answer is left"
            return Values(whole, convergence=agreement(whole, half), notes=(note,))

    def _drawn(self, q: Question, odds: Tensor, step: int) -> Tensor:
        """(samples, B, n) masks that are nearly 0 or 1."""
        numbers = range(step * self.samples, (step + 1) * self.samples)
        luck = drawn(q, numbers, tuple(odds.shape[2:]), _logistic).to(odds)
        return ((odds + luck) / self.temperature).sigmoid()


def _logistic(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Numbers of the standard logistic distribution."""
    u = torch.rand(shape, generator=g, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    return u.log() - (-u).log1p()


