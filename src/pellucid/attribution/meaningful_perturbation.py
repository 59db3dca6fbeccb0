"""Meaningful perturbation: the least that must be hidden, or shown, found by gradient descent on a coarse mask."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.procedure import Method, Values
from ..core.question import Question
from ._masks import Coarse, Veil, descended, drawn, shifted


@dataclass(frozen=True, kw_only=True)
class MeaningfulPerturbation(Method):
    """Which small region must be hidden for the answer to fall, or shown for it to stand?

    How: a mask m between the point (1) and the baseline (0) is learnt by Adam. "delete" lowers F(m) + size * mean(1 - m) + smoothness *
    mean |difference of neighbours| ** 3, "preserve" raises F(m) at the price of size * mean(m). F is the answer as a share of what lies between
    point and baseline, (f(m) - f(0)) / |f(1) - f(0)|, so that the weights mean the same for logits and probabilities. Pictures are masked from
    at most `cells` x `cells` numbers, enlarged by a Gaussian; at the input the mask trembles by up to `jitter` pixels each step.
    Positions of a sequence and columns of a table have a number each.
    Units: share hidden ("delete") or shown ("preserve"), 0 to 1 a position; a position's channels hold an even part of it.
    With a linear model and no smoothness, a column is marked if its part of the answer is more than `size` times the mean part.
    Misleads when: the baseline makes a picture the model was never trained on, so that a mask finds an artefact; a blur (`baseline="blur"`) is
    gentler than grey. A mask is one answer among many: where two regions stand in for one another, "preserve" shows one of them. A saturated
    probability falls late: explain a logit or a Contrast.
    Source: Fong, Vedaldi 2017, arXiv:1704.03296, equations 3 to 6. The paper's weights are 1e-4 and 1e-2 a cell of 28 x 28 on a probability;
    there the picture trembles under the mask.
    """

    card = Card(title="Meaningful perturbation", paper="arXiv:1704.03296", needs=Needs.GRADIENT, promises=Promise.SYMMETRIC | Promise.IMPLEMENTATION_INVARIANT,
                cost="steps forward and backward rows, and 4 forward rows", signed=False, random=True, baseline=True)
    mode: str = param("delete", "hide the least that makes the answer fall, or show the least that keeps it", choices=("delete", "preserve"))
    steps: int = param(150, "steps of Adam", ge=1, le=100_000, unit="gradient rows")
    size: float = param(1.0, "price of hiding (showing) everything, in units of the answer", ge=0, le=1e6)
    smoothness: float = param(20.0, "price of a rough mask, in the same units", ge=0, le=1e6)
    cells: int = param(28, "most cells a side of a picture's mask", ge=1, le=4096)
    jitter: int = param(4, "most pixels by which the mask trembles at the input, at most a sixth of the picture", ge=0, le=4096, unit="pixels")
    rate: float = param(0.1, "step size of Adam", ge=1e-6, le=1)

    def attribute(self, q: Question) -> Values:
        with torch.inference_mode(False):
            veil = Veil(q)
            coarse = Coarse(veil, self.cells)
            sought = veil.bounded(low=0) if self.mode == "delete" else veil.bounded(high=1)
            sign = 1.0 if self.mode == "delete" else -1.0

            def loss(m: Tensor, step: int) -> Tensor:
                price = self.size * (1 - m if self.mode == "delete" else m).mean(2).sum() + self.smoothness * coarse.roughness(m, 3)
                return price + sign * sought.moved(self._trembling(q, coarse, m, step))

            found = descended(coarse.blank(1, 1.0 if self.mode == "delete" else 0.5), self.steps, self.rate, loss)
            masks = coarse.grown(found.final)
            whole, half = (veil.values([self._marked(m)[0] for m in coarse.grown(f)]) for f in (found.final, found.half))
            return Values(whole, convergence=agreement(whole, half), notes=(self._told(veil.kept(masks)[0], found.final),))

    def _marked(self, m: Tensor) -> Tensor:
        return 1 - m if self.mode == "delete" else m

    def _trembling(self, q: Question, coarse: Coarse, m: Tensor, step: int) -> list[Tensor]:
        masks = coarse.grown(m)
        most = min([self.jitter, *(min(s.space) // 6 for s in coarse.sheets if s.picture)])
        if q.places or not most or not any(s.picture for s in coarse.sheets):
            return masks
        return shifted(masks, coarse.sheets, drawn(q, [step], (2,), lambda shape, g: torch.randint(-most, most + 1, shape, generator=g)))

    def _told(self, kept: Tensor, m: Tensor) -> str:
        part = self._marked(m).mean(2)[0]
        words = "hidden" if self.mode == "delete" else "shown"
        return f"{float(part.min()):.0%} to {float(part.max()):.0%} {words}: {float(kept.min()):.0%} to {float(kept.max()):.0%} of the answer is left"
