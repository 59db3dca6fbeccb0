"""Masking models: a small network that learns from many pictures which part another network needs, and then tells it of any picture in one pass."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backends import wrap
from ..core.errors import UsageError
from ..core.model import Model
from ..core.question import Question, ask
from ..core.target import Entropy, Loss
from ..core.tree import leaves
from ..modalities.mask_network import MaskNetwork
from ._draws import drawn, integers

FINEST = 64
"""Layers with a finer grid than so many cells a side are not read unless named: masks are smooth."""
MOST = 3


def fit_masking_model(
    model: Any, x: Tensor, y: Tensor | None = None, *, layers: Sequence[str] | None = None, steps: int = 200, rows: int = 8, size: float = 1.0, smoothness: float = 1.0,
    width: int = 16, rate: float = 3e-3, baseline: Any = 0, generator: torch.Generator,
) -> MaskNetwork:
    """Which part of a picture does the model need, learnt once for all pictures?

    How: a mask m = net(what `layers` hold of x) is learnt by Adam: the masked-in picture m x + (1 - m) baseline is to have a small cross-entropy with y, the
    masked-out one, (1 - m) x + m baseline, a large entropy, both as parts of log(classes); size * mean(m) and smoothness * mean |difference of neighbours|^2 are
    added. `y` is the model's own answer unless given. `layers` are the last ones of up to three sizes unless named; () reads the picture itself. The model is asked as
    by every method: it is not changed, and no hook stays on it. A step asks 3 forward and 2 backward rows for each of `rows` pictures.
    Units: masks are 0 to 1; the method `masking-model` shows them.
    Misleads when: pictures are few or of other kinds than those it will be asked about; it answers for what is usually needed, whatever was needed here.
    Source: Phang, Park, Geras 2020, arXiv:2010.09750, section 3, with a fixed classifier; after Dabkowski, Gal 2017, arXiv:1705.07857. The paper weighs the
    size only once both goals are met, and trains 10 times longer.
    """
    wrapped = model if isinstance(model, Model) else wrap(model)
    if not isinstance(x, Tensor) or x.ndim != 4:
        raise UsageError(f"A masking model needs pictures (rows, channels, height, width) to learn from; got {tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__}.")
    whole = ask(wrapped, x, None if y is None else Loss([int(i) for i in y]), baseline=baseline)  # type: ignore[arg-type]
    try:
        return _fitted(whole, y, layers, steps, rows, (size, smoothness), width, rate, generator)
    finally:
        whole.close()


def _fitted(q: Question, y: Tensor | None, layers: Sequence[str] | None, steps: int, rows: int, prices: tuple[float, float], width: int, rate: float, generator: torch.Generator) -> MaskNetwork:
    out = q.own_outputs()
    if out.ndim != 2 or out.shape[1] < 2:
        raise UsageError(f"A masking model needs a model that gives a row of classes; this one gives {tuple(out.shape[1:])} a row.")
    q = q if y is not None else q.about(Loss(out.argmax(1).tolist()))  # type: ignore[arg-type]
    names = _auto(q) if layers is None else tuple(layers)
    first = _values(q.take(torch.zeros(1, dtype=torch.long)), names)
    net = MaskNetwork(names, [v.shape[1] for v in first], width).to(first[0])
    for layer in (*net.narrow, net.mix, net.out):
        drawn(layer, generator)
    adam, nats = torch.optim.Adam(net.parameters(), rate), math.log(out.shape[1])
    for _ in range(steps):
        part = q.take(integers(q.size, min(rows, q.size), torch.zeros(()), generator).long())
        with torch.enable_grad():
            mask = net(_values(part, names))
            m = torch.nn.functional.interpolate(mask, size=leaves(part.point)[0].shape[2:], mode="bilinear", align_corners=False)
            price = prices[0] * mask.mean() + prices[1] * sum(mask.diff(dim=d).square().mean() for d in (2, 3) if mask.shape[d] > 1)
            loss = price + _moved(part, m, 1 / nats) + _moved(part.about(Entropy()), 1 - m, -1 / nats)
            adam.zero_grad()
            loss.backward()
        adam.step()
    return net.eval()


def _values(q: Question, names: Sequence[str]) -> list[Tensor]:
    """What the network reads, in single precision or better."""
    found = leaves(q.at_layer(list(names)).point) if names else [p for p in leaves(q.point) if p.ndim == 4]
    return [v.detach().clone().float() if v.dtype.itemsize < 4 else v.detach().clone() for v in found]


def _moved(q: Question, m: Tensor, weight: float) -> Tensor:
    """A number whose gradient with respect to the mask is that of the mean target of the masked pictures, times `weight`."""
    x, start = leaves(q.point)[0], leaves(q.start)[0]
    shown = torch.lerp(start, x, m.detach().to(x.dtype).expand_as(x))
    g = (leaves(q.grad(q.pack([shown])))[0] * (x - start)).sum(1, keepdim=True)
    return weight * (m * g.to(m)).sum() / q.size


def _auto(q: Question) -> tuple[str, ...]:
    """The last layer of each of the three last sizes of grid, the finest first."""
    last: dict[tuple[int, ...], str] = {}
    for info in q.model.layers(q.x):
        if info.shape is not None and len(info.shape) == 3 and info.calls == 1 and 1 < max(info.shape[1:]) <= FINEST:
            last.pop(info.shape[1:], None)
            last[info.shape[1:]] = info.name
    return tuple(last.values())[-MOST:]
