"""ExpO: models trained so that local explanations of them are true and steady."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import UsageError
from ._draws import integers, normal

Scale = float | Tensor
"""The neighbourhood's standard deviation: one number, or one a feature."""


def expo_fidelity(model: Callable[[Tensor], Tensor], x: Tensor, *, scale: Scale = 0.1, samples: int | None = None, generator: torch.Generator) -> Tensor:
    """How wrong is the best linear explanation of the model around x? A penalty that makes the model locally linear.

    How: mean of (f(x') - best linear fit at x')^2 over `samples` neighbours x' = x + scale * normal of every row, over the
    outputs and the rows. The fit is least squares with an intercept, in closed form: f minus its projection on the
    neighbours, whose basis (QR) does not depend on the model. `samples` is twice the number of features and 2 if not given.
    Units: the square of the output's. It grows with `samples`: of S neighbours, a fit to P features leaves S - P - 1 free.
    Misleads when: features have other scales: standardise them, or give a scale each.
    Source: Plumb, Al-Shedivat, Cabrera, Perer, Xing, Talwalkar 2020, arXiv:1902.06787, ExpO-Fidelity.
    """
    P = x[0].numel()
    S = 2 * P + 2 if samples is None else samples
    if S < P + 2:
        raise UsageError(f"ExpO fidelity needs more neighbours than {P} features and an intercept can fit; got {S} samples. Give {P + 2} or more, or use expo_1d_fidelity.")
    noise = normal((len(x), S, *x.shape[1:]), x, generator) * _scale(scale, x)
    shift = noise.flatten(2)
    shift = shift.float() if x.dtype in (torch.float16, torch.bfloat16) else shift
    return _unexplained(_outputs(model, x[:, None] + noise), torch.linalg.qr(shift - shift.mean(1, keepdim=True)).Q)


def expo_1d_fidelity(model: Callable[[Tensor], Tensor], x: Tensor, *, scale: Scale = 0.1, samples: int = 5, generator: torch.Generator) -> Tensor:
    """How far is the model from linear in one feature at a time? The penalty for inputs with many features.

    How: as `expo_fidelity`, with neighbours that differ from x in one feature, drawn anew for every row; the fit is a line.
    Units: the square of the output's.
    Misleads when: the model bends only where several features move together.
    Source: Plumb et al. 2020, arXiv:1902.06787, ExpO-1D-Fidelity.
    """
    if samples < 3:
        raise UsageError(f"ExpO 1D fidelity needs 3 neighbours or more, for a line fits any two; got {samples}.")
    P = x[0].numel()
    one = integers(P, len(x), x, generator)
    shift = normal((len(x), samples), x, generator) * _scale(scale, x).flatten()[one, None]
    noise = F.one_hot(one, P).to(x)[:, None] * shift[:, :, None]
    line = F.normalize(shift - shift.mean(1, keepdim=True), dim=1)
    return _unexplained(_outputs(model, x[:, None] + noise.reshape(len(x), samples, *x.shape[1:])), line[:, :, None])


def expo_stability(model: Callable[[Tensor], Tensor], x: Tensor, *, scale: Scale = 0.1, samples: int = 5, generator: torch.Generator) -> Tensor:
    """How much does the answer change around x? A penalty that makes it, and so its explanation, change little.

    How: mean of (f(x') - f(x))^2 over `samples` neighbours x' = x + scale * normal of every row, over the outputs and the rows.
    Units: the square of the output's.
    Misleads when: the answer ought to change within the neighbourhood: a smaller scale, or fidelity instead.
    Source: Plumb et al. 2020, arXiv:1902.06787, ExpO-Stability.
    """
    if samples < 1:
        raise UsageError(f"ExpO stability needs 1 neighbour or more; got {samples}.")
    noise = normal((len(x), samples, *x.shape[1:]), x, generator) * _scale(scale, x)
    out = _outputs(model, torch.cat([x[:, None], x[:, None] + noise], 1))
    return (out[:, 1:] - out[:, :1]).square().mean()


def _scale(scale: Scale, x: Tensor) -> Tensor:
    """The scale of every feature of a row."""
    return torch.as_tensor(scale, device=x.device, dtype=x.dtype).expand(x.shape[1:])


def _outputs(model: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """(B, S, K) outputs at the S points of every row, in one forward."""
    return model(points.flatten(0, 1)).reshape(*points.shape[:2], -1)


def _unexplained(out: Tensor, basis: Tensor) -> Tensor:
    """Mean square of what the (B, S, P) orthonormal, centred basis and a constant leave of (B, S, K) outputs."""
    rest = (out - out.mean(1, keepdim=True)).to(basis.dtype)
    return (rest - basis @ (basis.mT @ rest)).square().mean()
