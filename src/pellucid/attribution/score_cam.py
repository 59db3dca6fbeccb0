"""Score-CAM: channels weighted by what the network says of the picture seen through them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.points import Points
from ..core.procedure import Values
from ..core.question import Question
from ..core.tree import leaves
from ._cam import ActivationMap, Seen
from ._layer import resized


@dataclass(frozen=True, kw_only=True)
class ScoreCAM(ActivationMap):
    """Where did the network look, if each channel is judged by the picture seen through it alone?

    How: every channel, enlarged and stretched to [0, 1], masks the picture (what is hidden becomes the baseline); w = softmax over channels of the target
    there, and the map is ReLU of the sum of w_c A_c. Channels that are the same everywhere hide nothing or all and are left out.
    With `mass` below 1 channels are ranked by |mean gradient x mean activation| and asked until they hold that share; how many were skipped is said.
    Units: activation; maps are one channel, unsigned unless `relu=False`. The softmax makes weights depend on the target's scale: about a Probability they are gentler.
    Misleads when: pictures seen through a mask are unlike any the network knows; one channel may then take the whole softmax,
    and with `mass` below 1 it may be among the skipped.
    Source: Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu 2019, arXiv:1910.01279, algorithm 1.
    """

    card = Card(title="Score-CAM", paper="arXiv:1910.01279", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="1 forward row a channel, and 1 backward row with `mass`", baseline=True)
    relu: bool = param(True, "keep only what speaks for the target")
    mass: float = param(1.0, "share of the channels' weight after which the rest is skipped; 1: all are asked", ge=0, le=1)

    def attribute(self, q: Question) -> Values:
        return self.drawn(q)

    def channels(self, seen: Seen) -> Tensor:
        order, asked = self._ranked(seen)
        n = int(asked.sum(1).amax())
        if not n:
            return torch.zeros_like(seen.h)
        told = seen.q.at_layer(None).value(self._masked(seen, torch.where(asked, order, order[:, :1])[:, :n]))
        scores = told.T.double().masked_fill(~asked[:, :n], -torch.inf)
        w = torch.zeros(asked.shape, dtype=torch.float64, device=asked.device).scatter(1, order[:, :n], scores.softmax(1).nan_to_num(0))
        return w[:, :, None, None].to(seen.h.dtype) * seen.h

    def _ranked(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(B, C) channels, the weightiest first, and whether the one at that rank is asked."""
        if self.mass < 1:
            worth = (seen.g.mean((2, 3)) * seen.h.mean((2, 3))).abs().double()
        else:
            worth = torch.ones(seen.h.shape[:2], dtype=torch.float64, device=seen.h.device)
        same = seen.h.amax((2, 3)) == seen.h.amin((2, 3))
        worth, order = worth.masked_fill(same, -1).sort(dim=1, descending=True, stable=True)
        share = worth.clamp(min=0).cumsum(1)
        asked = (worth >= 0) & (share - worth <= self.mass * share[:, -1:])
        skipped = (~asked).sum(1).tolist()
        if any(skipped):
            seen.notes.append(f"Score-CAM left out {', '.join(map(str, dict.fromkeys(skipped)))} of {asked.shape[1]} channels: the same everywhere, or beyond a share of {self.mass:g}")
        return order, asked

    def _masked(self, seen: Seen, order: Tensor) -> Points:
        """The picture seen through each row's channels, made when they are asked; a channel that comes again costs nothing."""
        there = seen.q.at_layer(None)
        parts, start = leaves(there.point), leaves(there.start)
        i = next((i for i, p in enumerate(parts) if p.ndim == 4), None)
        if i is None:
            raise NotApplicable("Score-CAM hides parts of a picture and needs one among the inputs, beside a layer with a grid; got none. Use ablation-cam.")

        def make(s: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
            through = resized(seen.h[rows, order[rows, s]][:, None], tuple(parts[i].shape[2:]))
            low, high = through.amin((2, 3), keepdim=True), through.amax((2, 3), keepdim=True)
            mask = ((through - low) / (high - low).clamp(min=torch.finfo(through.dtype).tiny)).to(parts[i].dtype)
            picture = torch.lerp(start[i][rows], parts[i][rows], mask.expand(-1, parts[i].shape[1], -1, -1))
            return tuple(picture if j == i else p[rows] for j, p in enumerate(parts))

        return Points(order.shape[1], make)
