"""Extremal perturbation: of all smooth regions of a given size, the one that moves the answer most."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.agreement import agreement
from ..core.card import Card, Needs, Promise, param
from ..core.errors import UsageError
from ..core.procedure import Method, Values
from ..core.question import Question
from ._masks import Bumps, Masks, Pyramid, Veil, descended, too_far_from

GROWTH = 16
"""How much heavier the area weighs in the last step than in the first."""

START = {"preserve": 1.0, "delete": 0.0, "dual": 0.5}
"""What a blank mask holds: the model's first word is about the picture as it is. Half-hidden, the corners of a photograph speak first."""


@dataclass(frozen=True, kw_only=True)
class ExtremalPerturbation(Method):
    """Of all smooth regions of one size, which alone keeps the answer most, or hidden lowers it most?

    How: for each area a, Adam raises F(m) ("preserve"), lowers F(1 - m) ("delete"), or both ("dual") less strictness * mean (sorted m - r_a)^2,
    where r_a holds a share a of ones: a mask of that area, black and white. The weight grows 16-fold on the way. F is the answer as a share of what lies between
    point and baseline. Masks of pictures are the smooth maximum of round bumps, `width` of the shorter side wide. All areas and rows are one batch.
    `perturbation="blur"` shows a picture the more blurred the smaller m is, instead of fading to the baseline.
    Units: 0 to 1 a position; of several areas the mean over masks, so that 1 is in all of them, or ("smallest") the mask of the smallest area that keeps
    (loses) `reach` of the answer. A position's channels hold an even part of it.
    Misleads when: an area is too small for what counts: the mask then finds what excites the class and need not be the object; the notes say
    how much of the answer each area keeps. The baseline may make pictures the model was never trained on.
    Source: Fong, Patrick, Vedaldi 2019, arXiv:1910.08485, equations 2 to 8. The paper: 800 steps of momentum on raw logits, the picture mirrored every other step, which we do not.
    """

    card = Card(title="Extremal perturbation", paper="arXiv:1910.08485", needs=Needs.GRADIENT, promises=Promise.IMPLEMENTATION_INVARIANT,
                cost="steps times areas forward and backward rows, twice that for dual, and 1 forward row an area", signed=False, baseline=True)
    variant: str = param("preserve", "show the region, hide it, or both at once", choices=("preserve", "delete", "dual"))
    areas: Any = param("auto", "one share of the positions, or several; auto: 5, 10, 20 and 40", ge=1, le=100, unit="%")
    result: str = param("mean", "what is given of several areas", choices=("mean", "smallest"))
    reach: float = param(0.9, "share of the answer that the smallest area must keep, or take away", ge=0, le=100)
    steps: int = param(100, "steps of Adam", ge=1, le=100_000, unit="gradient rows an area")
    strictness: float = param(20.0, "weight of the area, in units of the answer", ge=0, le=1e6)
    width: float = param(0.094, "width of a bump, as a part of the picture's shorter side", ge=0.001, le=1)
    rate: float = param(0.05, "step size of Adam", ge=1e-6, le=1)
    perturbation: str = param("fade", "what a mask does: fade to the baseline, or blur", choices=("fade", "blur"))

    def attribute(self, q: Question) -> Values:
        share = torch.tensor(self._areas(), dtype=torch.float64)
        with torch.inference_mode(False):
            veil = Veil(q, Pyramid(q) if self.perturbation == "blur" else None)
            bumps = Bumps(veil, self.width)
            p = veil.parts[0]

            def loss(m: Tensor, step: int) -> Tensor:
                lattices = bumps.lattices(m)
                weight = self.strictness * GROWTH ** (step / self.steps)
                return weight * too_far_from(_flat(lattices), share).sum() - self._reward(veil, bumps.grown(lattices))

            start = torch.full((len(share), q.size, bumps.n), START[self.variant], dtype=veil.dtype, device=p.device)
            found = descended(start, self.steps, self.rate, loss)
            final, half = (bumps.grown(bumps.lattices(f)) for f in (found.final, found.half))
            kept = veil.kept(final if self.variant != "delete" else [1 - m for m in final])
            whole = veil.values(self._chosen(final, kept))
            return Values(whole, convergence=agreement(whole, veil.values(self._chosen(half, kept))), notes=(self._told(share, kept),))

    def _areas(self) -> list[float]:
        """The shares, the smallest first."""
        areas = (5, 10, 20, 40) if self.areas == "auto" else self.areas if isinstance(self.areas, tuple) else (self.areas,)
        if not areas or not all(1 <= a <= 100 for a in areas):
            raise UsageError(f"ExtremalPerturbation needs areas between 1 and 100 %, at least one; got {self.areas!r}.")
        return [a / 100 for a in sorted(areas)]

    def _reward(self, veil: Veil, masks: Masks) -> Tensor:
        """The shares of the answer that are to grow."""
        hidden = [1 - m for m in masks]
        if self.variant == "dual":
            k = len(masks[0])
            return veil.moved([torch.cat(pair) for pair in zip(masks, hidden, strict=True)], torch.tensor([1.0] * k + [-1.0] * k))
        return veil.moved(masks) if self.variant == "preserve" else -veil.moved(hidden)

    def _chosen(self, masks: Masks, kept: Tensor) -> list[Tensor]:
        """(B, ...) the mean over areas, or each row's smallest area that does it; the largest where none does."""
        if self.result == "mean":
            return [m.mean(0) for m in masks]
        done = 1 - kept >= self.reach if self.variant == "delete" else kept >= self.reach
        which = torch.where(done.any(0), done.int().argmax(0), len(kept) - 1)
        return [m[which.to(m.device), torch.arange(m.shape[1], device=m.device)] for m in masks]

    def _told(self, share: Tensor, kept: Tensor) -> str:
        told = [f"{float(a):.0%} of the area: {float(k.min()):.0%} to {float(k.max()):.0%}" for a, k in zip(share, kept, strict=True)]
        return f"share of the answer left where {'all but the mask' if self.variant != 'delete' else 'the mask'} is hidden: {', '.join(told)}"


def _flat(masks: Masks) -> Tensor:
    return torch.cat([m.reshape(*m.shape[:2], -1) for m in masks], 2)
