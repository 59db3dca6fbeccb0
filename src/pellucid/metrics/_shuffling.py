"""Copies of a network of which some layers are shuffled: each tensor keeps its numbers, and BatchNorm behind them is estimated again."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..backends.torch_module import TorchModel
from ..backends.wrap import wrap
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.question import Question
from ._near import runnable
from ._permuted import permuted
from ._subject import Subject


def stages(module: nn.Module, order: str, most: int) -> list[tuple[str, ...]]:
    """Which layers are shuffled at each stage: layers with parameters in at most `most` groups, one after the other or each alone."""
    names = [n for n, m in module.named_modules() if any(True for _ in m.parameters(recurse=False))]
    if not names:
        raise NotApplicable("Parameter randomization needs a network with parameters; this one has none.")
    k = min(most, len(names))
    cut = [round(i * len(names) / k) for i in range(k + 1)]
    groups = [tuple(names[a:b]) for a, b in itertools.pairwise(cut)]
    if order == "independent":
        return groups
    groups = groups[::-1] if order == "top-down" else groups
    return [tuple(n for g in groups[: i + 1] for n in g) for i in range(k)]


def network(q: Question, who: str) -> TorchModel:
    """The network whose layers can be shuffled."""
    if not isinstance(q.model, TorchModel):
        raise NotApplicable(f"{who} shuffles a torch network's weights; {q.model.name} is none.")
    return q.model


def asked_of(q: Question, model: TorchModel, module: nn.Module) -> Question:
    """The same question of another network of the same shape."""
    other = wrap(module, labels=model.labels, preprocess=model.preprocess, name=f"{model.name}, shuffled", output=model.output)
    return q.with_target(q.resolved_target()).with_model(other)


def questions(e: Explanation, who: str, order: str, most: int, moves: bool = False) -> tuple[Subject, Iterator[tuple[tuple[str, ...], Question]]]:
    """The explanation to be tested, and its question asked of each shuffled copy."""
    s = runnable(e, who, moves)
    model = network(s.q, who)
    every = stages(model.module, order, most)
    return s, ((names, asked_of(s.q, model, permuted(model.module, s.q.x, s.q.seed + k, names))) for k, names in enumerate(every))


def histogram_entropy(values: Tensor, bins: int) -> Tensor:
    """(B,) entropy, in nats, of the histogram of each row's values scaled to their largest size."""
    v = values / values.abs().amax(1, keepdim=True).clamp_min(1e-300)
    low, high = v.amin(1, keepdim=True), v.amax(1, keepdim=True)
    place = ((v - low) / (high - low).clamp_min(1e-300) * bins).long().clamp(max=bins - 1)
    p = torch.zeros(len(v), bins, dtype=torch.float64).scatter_add_(1, place, torch.ones_like(v)) / v.shape[1]
    return -(p * p.clamp_min(1e-300).log()).sum(1)
