"""Region perturbation: how far does the answer fall as square patches are replaced by noise, the most relevant first?"""

from dataclasses import dataclass, replace

import torch

from ..core.card import Card, param
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.tree import leaves
from ._curves import cuts, hide, places
from ._told import told
from ._units import Units, drawn, units


@dataclass(frozen=True, kw_only=True)
class RegionPerturbation(Metric):
    """How far does the answer fall as square patches are replaced by noise, the most relevant first?

    How: AOPC over patches: 1 / (steps + 1) times the sum, from none to `steps` patches, of (answer at the input - answer with those patches replaced).
    Noise is uniform over the row's range; its mean over `draws` is taken. Tables and sequences go column by column.
    Units: of the question's target. Higher is better; for order="least", lower is.
    Chance: order="random" gives it for the same row.
    Misleads when: noise is itself evidence for or against a class, and patches cut small objects.
    Source: Samek et al., 2017, equation 12.
    """

    card = Card(title="Region perturbation", paper="arXiv:1509.06321", cost="draws times (steps + 1) forward rows a row", random=True)
    patch: int = param(9, "side of a patch", ge=1, unit="pixels")
    steps: int = param(100, "patches that are replaced in the end, or all there are", ge=1)
    order: str = param("most", "which are replaced first", choices=("most", "least", "random"))
    draws: int = param(1, "draws of the noise", ge=1)
    fill: str = param("noise", "what replaced patches hold", choices=("noise", "baseline", "blur", "mean"))
    answer: str = param("target", "what is read: the question's target, or the probability of its class", choices=("target", "probability"))

    def score(self, e: Explanation) -> Scores:
        """The area over the curve, a row."""
        u = self._units(e)
        place, at = places(u, self.order), cuts(u.count, u.count)[: self.steps + 1]
        falls = []
        for k in range(self.draws):
            again = replace(u, fill=drawn(u.q, torch.full((u.size,), k), torch.arange(u.size))) if self.fill == "noise" else u
            answers = hide(again, place, at).answers
            falls.append((answers[:1] - answers).mean(0))
        return told(torch.stack(falls).mean(0), f"Mean fall of the answer, {self.order} relevant patches first", "lower" if self.order == "least" else "higher")

    def _units(self, e: Explanation) -> Units:
        u = units(e, self.fill, None, self.answer)
        if not u.picture:
            return u
        h, w = leaves(u.q.point)[0].shape[2:]
        across = -(-w // self.patch)
        lab = torch.arange(h)[:, None] // self.patch * across + torch.arange(w)[None] // self.patch
        sums = torch.zeros(u.size, int(lab.max()) + 1, dtype=torch.float64).index_add_(1, lab.flatten(), u.scores)
        return replace(u, scores=sums, labels=(lab[None, None],))
