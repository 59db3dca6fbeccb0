"""Deep approximate Shapley propagation: random coalitions as means and variances, sent through the network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backends.torch_module import TorchModel
from ..core.card import Card, Needs, Promise, param
from ..core.errors import NotApplicable, UsageError
from ..core.game import Board
from ..core.players import Players
from ..core.procedure import Method, Values
from ..core.question import Question
from ..core.target import Contrast, Label, Neuron, Output, PerRow, Target
from ..core.tree import leaves
from ..modalities.maskers import masker_of
from ._moments import ALONE, MIXING, Moments, apply, fit_for, through

HELD = 2**23
"""Numbers of the first layer that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class DASP(Method):
    """What does a player add to random coalitions, if every unit inside is taken to be normal?

    How: the first linear layer's mean and variance over all coalitions of one size are known exactly, with the player and without; they are sent through
    ReLUs, pools and linear layers by matching moments. A value is the mean difference of the output, over sizes. No coalition is asked.
    Units: target units; the values sum to v(everybody) - v(nobody) up to the approximation (exactly in a linear network).
    Misleads when: few players make up a unit, which is then not normal, or units depend on each other: the method takes them as independent.
    Source: Ancona, Oztireli, Gross 2019, arXiv:1903.10992, sections 3 and 4; largest of two: Clark 1961, doi:10.1287/opre.9.2.145.
    """

    card = Card(
        title="DASP", paper="arXiv:1903.10992", needs=Needs.VALUE | Needs.MODULES, promises=Promise.NONE, baseline=True,
        cost="no row of the model but its own; moments of 2 n `sizes` rows beside it, for n players",
    )
    masker: Any = param("auto", "what the players are: a name, groups, labels or a Masker that puts in the baseline")
    sizes: int = param(12, "sizes of coalitions, of all there are; as many as players: all of them", ge=1, unit="sizes")

    def attribute(self, q: Question) -> Values:
        target, layers = _linear(q.resolved_target()), _chain(q)
        board = masker_of(self.masker, q).board(q)
        labels = _labels(q, board)
        numbers = torch.zeros(q.size, board.players, dtype=torch.float64)
        with torch.no_grad():
            for i, names in enumerate(board.names):
                numbers[i, : len(names)] = self._row(q, layers, target, labels[i], len(names), i)
        players = Players(board.names, numbers, labels=labels, absent=board.absent)
        return Values(board.share(numbers), players=players, notes=(f"{board.players} players; moments of {len(layers)} layers were matched, no coalition was asked",))

    def _row(self, q: Question, layers: list[nn.Module], target: Target, labels: Tensor, n: int, i: int) -> Tensor:
        x, base = (leaves(t)[0][i : i + 1].double() for t in (q.point, q.start))
        first = next((k for k, layer in enumerate(layers) if not isinstance(layer, ALONE)), len(layers))
        for layer in layers[:first]:
            if labels.shape != x.shape[1:]:
                break
            x, base = apply(layer, x), apply(layer, base)
            labels = labels.flatten() if isinstance(layer, nn.Flatten) else labels
        mix = layers[first] if first < len(layers) else nn.Identity()
        nobody, parts = _contributions(mix, x, base, labels, n)
        k, weight = _nodes(n, self.sizes)
        total, square, out = parts.sum(0), parts.square().sum(0), []
        row, rest = torch.tensor([i]), layers[first + 1 :]
        step = max(1, HELD // (2 * len(k) * nobody[0].numel()))
        for c in parts.split(step):
            m = _sizes(nobody, total, square, c, k, n - 1)
            mean = through(rest, m).mean
            value = target.read(mean, row.expand(len(mean))).reshape(2, len(c), len(k))
            out.append((value[1] - value[0]) @ weight)
        return torch.cat(out).cpu()


def _contributions(mix: nn.Module, x: Tensor, base: Tensor, labels: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """((1, ...) the mixing layer where nobody is there, (P, ...) what each player adds to it); elements of no player are always there."""
    there = torch.where(labels < 0, x, base)
    own = labels.to(x.device)[None] == torch.arange(n, device=x.device).reshape(-1, *[1] * labels.ndim)
    return apply(mix, there), apply(mix, torch.where(own, x - base, 0), bias=False)


def _sizes(nobody: Tensor, total: Tensor, square: Tensor, c: Tensor, k: Tensor, others: int) -> Moments:
    """(2 C K, ...) moments over coalitions of k among the others, without each player and with it."""
    shape = (1, -1, *[1] * (c.ndim - 1))
    k, c = k.to(c).reshape(shape), c[:, None]
    part = k / max(others, 1)
    mean = nobody[None] + part * (total - c)
    spread = ((square - c.square()) / max(others, 1) - ((total - c) / max(others, 1)).square()).clamp(min=0)
    variance = spread * k * (others - k) / max(others - 1, 1)
    return Moments(torch.stack([mean, mean + c]).flatten(0, 2), torch.stack([variance, variance]).flatten(0, 2))


def _nodes(n: int, sizes: int) -> tuple[Tensor, Tensor]:
    """Sizes of coalitions of the other n - 1 players and their weights: all, or Gauss-Legendre nodes among them."""
    if n <= sizes:
        return torch.arange(n, dtype=torch.float64), torch.full((n,), 1 / n, dtype=torch.float64)
    q, w = np.polynomial.legendre.leggauss(sizes)
    return (torch.from_numpy((q + 1) / 2) * n - 0.5).clamp(0, n - 1), torch.from_numpy(w / 2)


def _labels(q: Question, board: Board) -> Tensor:
    """The player of every element; what the masker puts in must be the baseline."""
    nobody = leaves(board.make(torch.zeros(q.size, board.players, dtype=torch.bool), torch.arange(q.size), torch.zeros(q.size, dtype=torch.long)))
    if board.labels is None or board.copies > 1:
        raise NotApplicable("dasp needs one explained tensor and a chain from it, with one baseline; the masker gives more. Use shapley.")
    there = torch.where(board.labels.to(nobody[0].device) < 0, leaves(q.point)[0], leaves(q.start)[0])
    if not torch.equal(nobody[0], there):
        raise UsageError(f"dasp needs a masker that puts in the question's baseline; got {board.absent}. Give the baseline itself (baseline=...).")
    return board.labels.cpu()


def _linear(target: Target) -> Target:
    for t in target.targets if isinstance(target, PerRow) else (target,):
        if not isinstance(t, (Label, Neuron, Output, Contrast)):
            raise NotApplicable(f"dasp needs a target that is linear in the outputs at the end of its chain; got {type(t).__name__}. Use shapley, or the class's logit.")
    return target


def _chain(q: Question) -> list[nn.Module]:
    """The layers between the place and what the target reads, in the order in which they are called; checked by running them."""
    model = q.model
    if not isinstance(model, TorchModel) or len(leaves(q.point)) != 1 or len(q.places) > 1:
        raise NotApplicable(f"dasp needs a chain of layers from one tensor; {model.name} has {len(leaves(q.point))} explained. Use shapley.")
    named, found = dict(model.module.named_modules()), []
    begin, end = str(q.places[0]) if q.places else "", str(q.resolved_target().reads or "")
    for info in model.layers(q.x):
        if any(True for _ in named[info.name].children()):
            continue
        found.append((info.name, named[info.name], info.calls))
    names = [name for name, _, _ in found]
    where = names.index(begin) + 1 if begin in names else 0
    stop = names.index(end) + 1 if end in names else len(names)
    chain = found[where:stop]
    if (begin and begin not in names) or (end and end not in names) or any(calls > 1 for _, _, calls in chain):
        raise NotApplicable(f"dasp needs a chain in which every layer is called once, and places that are layers of it; {model.name} is built otherwise. Use shapley.")
    for name, layer, _ in chain:
        fit_for(name, layer, model.name)
    return _checked(q, [layer for _, layer, _ in chain])


def _checked(q: Question, layers: list[nn.Module]) -> list[nn.Module]:
    """The layers, a flattening put in before a linear layer where the network does so itself, if they compute what the network does."""
    told = q.own_outputs()
    z, done = leaves(q.point)[0].double(), list[nn.Module]()
    mixed = False
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear) and z.ndim > 2 and z.shape[-1] != layer.in_features and z[0].numel() == layer.in_features:
                done.append(nn.Flatten())
                z = z.flatten(1)
            if isinstance(layer, nn.MaxPool2d) and not mixed:
                raise NotApplicable("dasp needs a linear layer before the first MaxPool2d of its chain. Use shapley.")
            mixed |= isinstance(layer, MIXING)
            done.append(layer)
            try:
                z = apply(layer, z)
            except RuntimeError:
                z = z[:0]
                break
    near = 100 * torch.finfo(told.dtype).eps * max(float(told.abs().max()), 1) * len(done)
    if z.shape != told.shape or (z - told).abs().max() > near:
        raise NotApplicable(f"dasp needs a chain of layers; {q.model.name} does more between them than one after the other. Use shapley.")
    return done
