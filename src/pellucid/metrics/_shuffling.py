"""Copies of a network of which some layers are shuffled: each tensor keeps its numbers, and BatchNorm behind them is estimated again."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backends.torch_module import TorchModel
from ..backends.wrap import wrap
from ..core.errors import NotApplicable
from ..core.explanation import Explanation
from ..core.model import call_args
from ..core.question import Question
from ..core.tree import Tree
from ._near import runnable
from ._permuted import PICTURES, _twin, variants
from ._subject import Subject

ORDERS = ("top-down", "bottom-up", "independent")


def shuffled_layers(module: nn.Module, names: Sequence[str], x: Tree, seed: int) -> nn.Module:
    """A deep copy with the parameters of those layers shuffled; BatchNorms from the first of them on are estimated on variants of `x`."""
    twin = _twin(module)
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, m in twin.named_modules():
            for p in m.parameters(recurse=False) if name in names else ():
                order = torch.randperm(p.numel(), generator=gen).to(p.device)
                p.copy_(p.flatten()[order].view_as(p))
    behind = False
    norms = []
    for name, m in twin.named_modules():
        behind = behind or name in names
        if behind and isinstance(m, _BatchNorm) and m.track_running_stats:
            norms.append(m)
    _settle(twin, norms, x, gen)
    return twin.eval()


def _settle(twin: nn.Module, norms: list[_BatchNorm], x: Tree, gen: torch.Generator) -> None:
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    if not norms:
        return
    args, kwargs = call_args(variants(x, PICTURES, gen))
    try:
        with torch.no_grad():
            twin(*args, **kwargs)
    except ValueError as why:
        raise NotApplicable(f"A shuffled network needs its BatchNorm estimated again, and this batch does not allow it: {why}") from None


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
    return s, ((names, asked_of(s.q, model, shuffled_layers(model.module, names, s.q.x, s.q.seed + k))) for k, names in enumerate(every))


def histogram_entropy(values: Tensor, bins: int) -> Tensor:
    """(B,) entropy, in nats, of the histogram of each row's values scaled to their largest size."""
    v = values / values.abs().amax(1, keepdim=True).clamp_min(1e-300)
    low, high = v.amin(1, keepdim=True), v.amax(1, keepdim=True)
    place = ((v - low) / (high - low).clamp_min(1e-300) * bins).long().clamp(max=bins - 1)
    p = torch.zeros(len(v), bins, dtype=torch.float64).scatter_add_(1, place, torch.ones_like(v)) / v.shape[1]
    return -(p * p.clamp_min(1e-300).log()).sum(1)
