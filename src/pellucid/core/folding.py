"""Folding: a convolution and the BatchNorm that alone reads its output become one layer, with weights of its own in a shadow.

Nothing is assumed about the module: one row is watched, and a pair is folded where that row shows that the two are one.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ._fold import Norm
from ._norms import frugal, is_frugal
from .tree import is_float, leaves

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_QUIET = frozenset(("__get__", "dim", "size", "stride", "numel", "is_contiguous", "is_floating_point"))
"""Questions about a tensor that do not read its numbers."""
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Pair:
    """A layer and the BatchNorm after it, by their names."""

    layer: str
    norm: str

    def parted_by(self, name: str) -> bool:
        """Whether a layer holds one of the two alone, so that its value is what lies between them."""
        return _within(self.layer, name) is not _within(self.norm, name)


def _within(layer: str, outer: str) -> bool:
    return not outer or layer == outer or layer.startswith(f"{outer}.")


class Fold:
    """A pair of one shadow, folded or as it is; the user's tensors are only read."""

    def __init__(self, pair: Pair, layer: Any, norm: Any) -> None:
        self.pair, self.layer, self.norm, self.on = pair, layer, norm, False
        self.made_of = [t for t in (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias) if isinstance(t, Tensor)]
        self._here = dict(layer._parameters)
        self._other = self._here | dict(zip(("weight", "bias"), _folded(layer, norm), strict=True))

    def turn(self) -> None:
        """From as it is to folded, or back."""
        self.on = not self.on
        self._here, self._other = self._other, self._here
        self.layer._parameters.update(self._here)
        if self.on:
            vars(self.norm)["forward"] = _same
        else:
            del vars(self.norm)["forward"]
            frugal(self.norm)

    def tried(self, args: Any, kwargs: Any) -> Any:
        """What the layer gives when it is folded."""
        self.turn()
        try:
            return self.layer._call_impl(*args, **kwargs)
        finally:
            self.turn()


def _same(x: Tensor) -> Tensor:
    return x


@torch.inference_mode(False)  # a question may come out of inference mode, whose tensors could never be differentiated
@torch.no_grad()
def _folded(layer: Any, norm: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """(weight, bias) of both in one, reckoned in double precision."""
    wide = lambda t: None if t is None else t.detach().to("cpu", torch.float64)  # noqa: E731
    weight, bias, of_norm = layer.weight.detach().to("cpu", torch.float64), wide(layer.bias), map(wide, (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    one = Norm(nn.functional.batch_norm, layer.weight, (*of_norm, False, 0.0, norm.eps))
    scaled = weight * one.scale.reshape(-1, *[1] * (weight.ndim - 1))
    like = layer.weight
    own = [nn.Parameter(t.to(like.device, like.dtype), requires_grad=False) for t in (scaled, one.offset(bias))]
    return own[0], own[1]


def checksum(folds: Sequence[Fold]) -> list[int]:
    """A number for each tensor that was folded: writes through `.data` leave no other sign, and copies do not follow them."""
    with torch.no_grad():
        sums = [t.detach().view(_WORDS[t.element_size()]).sum() for f in folds for t in f.made_of]
        return torch.stack(sums).tolist() if sums else []


# ---------------------------------------------------------------- which pairs are one


def find(names: Mapping[str, nn.Module], run: Callable[[Any], Any]) -> tuple[Pair, ...]:
    """The pairs that one row shows to be one; `run(handler)` runs that row.

    Each is called once, in eval mode and without hooks; the layer's weight is read once, and its output once, by the BatchNorm;
    and the layer with folded weights gives what the two give.
    """
    watch = _Watch(names)
    with torch.no_grad(), watch:
        out = run(watch.call)
    return watch.pairs(out)


class _Watch(TorchFunctionMode):
    """Counts how often each tensor is read, and looks at every BatchNorm as it is called."""

    def __init__(self, names: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = {id(m): n for n, m in names.items()}
        self.reads: Counter[int] = Counter()
        self.calls: Counter[int] = Counter()
        self.made: dict[int, tuple[Any, Tensor, Any, Any]] = {}
        self.met: list[tuple[Fold, Tensor]] = []
        self.watching = True

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if self.watching:
            given = [t for t in leaves((args, kwargs or {})) if isinstance(t, Tensor)]
            results = [t for t in leaves(out) if isinstance(t, Tensor)]
            if results or getattr(function, "__name__", "") not in _QUIET:
                self.reads.update(map(id, given))
            for t in results:  # a new tensor may have the id of one that is gone
                if not any(t is g for g in given):
                    self.reads[id(t)] = 0
        return out

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        self.watching = False
        try:
            yield
        finally:
            self.watching = True

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self.calls[id(module)] += 1
        out = module._call_impl(*args, **kwargs)
        if _foldable(module, out):
            self.made[id(out)] = (module, out, args, kwargs)
        elif _still(module) and len(args) == 1 and id(args[0]) in self.made:
            self._meet(module, args[0], out)
        return out

    def _meet(self, norm: nn.Module, y: Tensor, want: Tensor) -> None:
        layer, made, args, kwargs = self.made[id(y)]
        if made is y and layer.weight.shape[0] == norm.num_features:
            with self._paused():
                fold = Fold(Pair(self.names[id(layer)], self.names[id(norm)]), layer, norm)
                if alike(fold.tried(args, kwargs), want):
                    self.met.append((fold, y))

    def pairs(self, out: Any) -> tuple[Pair, ...]:
        given = {id(t) for t in leaves(out)}
        return tuple(f.pair for f, y in self.met if self._once(f, y) and id(y) not in given)

    def _once(self, f: Fold, y: Tensor) -> bool:
        return self.calls[id(f.layer)] == self.calls[id(f.norm)] == self.reads[id(y)] == self.reads[id(f.layer.weight)] == 1


def _bare(module: nn.Module) -> bool:
    return not any(vars(module)[h] for h in _HOOKS) and ("forward" not in vars(module) or is_frugal(module))


def _foldable(module: nn.Module, out: Any) -> bool:
    plain = isinstance(module, LINEAR) and {"weight", "bias"} <= set(module._parameters) and _bare(module)
    return plain and isinstance(out, Tensor) and (out.ndim == 2 or not isinstance(module, nn.Linear))


def _still(module: Any) -> bool:
    """A BatchNorm as torch has it, in eval mode, with statistics."""
    return isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward and not module.training and module.running_mean is not None and _bare(module)


def alike(got: Any, want: Any) -> bool:
    """Equal up to rounding, each tensor on its own scale."""
    pairs = list(zip(leaves(got), leaves(want), strict=True))
    return all(_near(g, w) for g, w in pairs if is_float(w))


def _near(g: Tensor, w: Tensor) -> bool:
    if g.shape != w.shape or not w.numel():
        return g.shape == w.shape
    far = float((g.double() - w.double()).abs().max()) if w.device.type != "mps" else float((g - w).abs().max())
    return far <= torch.finfo(w.dtype).eps ** 0.6 * float(w.abs().max())
