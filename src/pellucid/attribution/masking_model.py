"""Masking model: the mask that a network, trained once on many pictures, gives in one pass."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.tree import leaves
from ..modalities.mask_network import MaskNetwork
from ._layer import resized
from ._masks import Sheet
from ._path import wide


@dataclass(frozen=True, kw_only=True)
class MaskingModel(Method):
    """Which part of this picture does such a model usually need, by a network that learnt it from many?

    How: one pass of a network that `pellucid.training.fit_masking_model` made, over the picture or what layers of the model hold of it, enlarged to
    the point. At a layer that is a grid the same mask is drawn at the layer's size.
    Units: 0 to 1 a position; a position's channels hold an even part of it.
    Misleads when: always in one way: the mask does not depend on the target, on the class or on what this picture's answer rests on, only on what pictures
    like it were found to need. It finds objects well and says little about a single mistake; hold it against the evidence.
    Source: Phang, Park, Geras 2020, arXiv:2010.09750.
    """

    card = Card(title="Masking model", paper="arXiv:2010.09750", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, cost="2 forward rows", signed=False)
    fitted: Any = param("", "the network that training.fit_masking_model made, or the .safetensors file it was saved to")

    def attribute(self, q: Question) -> Values:
        net = self._network()
        sheets = [Sheet(tuple(p.shape[1:])) for p in leaves(q.point)]
        if len(sheets) != 1 or not sheets[0].picture:
            raise NotApplicable(f"A masking model explains pictures (rows, channels, height, width); this point holds {[s.shape for s in sheets]} a row. Use extremal-perturbation.")
        read = [wide(v) for v in self._read(q, net)]
        with torch.inference_mode(False), torch.no_grad():
            twin = copy.deepcopy(net).to(read[0]).eval()
            mask = resized(twin([v.clone() for v in read]), sheets[0].space)  # type: ignore[arg-type]
        note = f"the mask of a network over {', '.join(net.layers) or 'the picture'}; it does not depend on the target"
        return Values(q.pack([sheets[0].spread(mask[:, 0]).to(leaves(q.point)[0].dtype)]), notes=(note,))

    def _network(self) -> MaskNetwork:
        if isinstance(self.fitted, MaskNetwork):
            return self.fitted
        if isinstance(self.fitted, (str, Path)) and str(self.fitted):
            return MaskNetwork.load(self.fitted)
        raise NotApplicable("A masking model needs fitted=, a network that pellucid.training.fit_masking_model made or its file. Use extremal-perturbation where there are no pictures to learn from.")

    @staticmethod
    def _read(q: Question, net: MaskNetwork) -> list[Tensor]:
        """What the network reads: the layers' values, or the picture."""
        if net.layers:
            return leaves(q.at_layer(list(net.layers)).point)
        found = [t for t in leaves(q.x) if isinstance(t, Tensor) and t.ndim == 4]
        if len(found) != 1:
            raise NotApplicable(f"This masking model reads the picture; the input holds {len(found)}. Use extremal-perturbation.")
        return found
