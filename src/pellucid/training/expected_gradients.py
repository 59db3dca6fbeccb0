"""Expected gradients that can be trained through."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.target import Predicted, as_target, check_rows, read_tensor
from ._draws import shuffled, uniform


def expected_gradients(model: Callable[[Tensor], Tensor], x: Tensor, references: Tensor, target: Any, *, k: int = 1, generator: torch.Generator) -> Tensor:
    """Which inputs moved the target away from what it is on the references, as a quantity whose own gradient is known?

    How: phi_i = E[(x_i - x'_i) df/dx_i (x' + t (x - x'))] over references x' and t uniform in [0, 1], from k draws a row.
    Each row's k references differ and its k values of t lie in k equal cells, which costs nothing and lowers the noise.
    With gradients enabled the result carries its graph, so that a penalty on it trains the model; under `torch.no_grad()`
    it is a plain tensor. One call is one forward and one backward of k rows for every row of x.
    `target` is whatever Pellucid takes for one, read from the model's output: a class, (B,) labels, `Contrast(a, b)`, a callable.
    Units: the target's; in expectation the values of a row sum to f(x) minus the mean of f over the references.
    Misleads when: the references are few or unlike the data. Batch norm in training mode sees the points on the way: put it in eval mode.
    Source: Erion, Janizek, Sturmfels, Lundberg, Lee 2021, arXiv:1906.10670, the definition of expected gradients.
    """
    n, B = len(references), len(x)
    if references.shape[1:] != x.shape[1:] or not 1 <= k <= n:
        raise UsageError(f"Expected gradients need at least k references shaped like a row of x, {tuple(x.shape[1:])}; got k = {k} and references of shape {tuple(references.shape)}.")
    order = shuffled(n, references, generator)
    drawn = references[order[torch.arange(B * k, device=order.device) % n]].to(x).reshape(B, k, *x.shape[1:])
    cells = torch.arange(k, device=x.device, dtype=x.dtype)
    t = ((cells + uniform((B, k), x, generator)) / k).reshape(B, k, *(1,) * (x.ndim - 1))
    way = x[:, None] - drawn
    return (way * _gradient(model, x, drawn + t * way, target)).mean(1)


def _gradient(model: Callable[[Tensor], Tensor], x: Tensor, points: Tensor, target: Any) -> Tensor:
    """(B, k, ...) gradient of each row's target at its k points."""
    trained = torch.is_grad_enabled()
    with torch.enable_grad():
        z = points.flatten(0, 1)
        z = z if z.requires_grad else z.requires_grad_()
        out = read_tensor(model(z))
        rows = torch.arange(len(x), device=x.device).repeat_interleave(points.shape[1])
        value = _resolved(model, x, out, target).read(out, rows)
        return torch.autograd.grad(value.sum(), z, create_graph=trained)[0].reshape(points.shape)


def _resolved(model: Callable[[Tensor], Tensor], x: Tensor, out: Tensor, target: Any) -> Any:
    """The target with its positions checked; None is what the model says of x itself, not of the points on the way."""
    found = check_rows(as_target(target), len(x))
    if found.reads is not None:
        raise UsageError(f"Expected gradients for training read the model's output; got a target in {found.reads}. Give a model that returns that layer's value.")
    with torch.no_grad():
        return found.resolve(read_tensor(model(x)) if isinstance(found, Predicted) and out[0].numel() > 1 else out, None)
