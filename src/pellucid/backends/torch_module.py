"""A PyTorch module as a model: run through shadows, so that the user's own object is never touched."""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.card import Needs
from ..core.chance import seeded
from ..core.direct import Direct
from ..core.errors import UsageError
from ..core.folding import Pair, alike, find
from ..core.hashing import hashed
from ..core.model import STRANGERS, LayerInfo, Model, Preprocess, Runner, call_args, stranger
from ..core.paying import pay
from ..core.shadow import Shadow, pointer, version
from ..core.tree import Tree, each, has_rows, is_float, leaves


class TorchModel(Model):
    """Any `nn.Module`. Threads get shadows of their own; what cannot be shadowed is used itself, under a lock."""

    can = Needs.VALUE | Needs.GRADIENT | Needs.MODULES

    def __init__(self, module: nn.Module, *, name: str, labels: Sequence[str] | None, preprocess: Preprocess | None, output: int | str | None, spec: str = "", notes: tuple[str, ...] = ()) -> None:
        super().__init__(name, labels, preprocess, output, spec)
        self.module = module
        self.notes += notes
        self._idle: list[Shadow] = []
        self._lock, self._direct = threading.Lock(), None
        self._layers: dict[Any, list[LayerInfo]] = {}
        self._pairs: dict[Any, tuple[Pair, ...]] = {}
        self.fold = False
        """Whether BatchNorm is folded into the layers before it: faster, and no longer the user's arithmetic to the last bit."""
        self._digest: tuple[Any, str] | None = None

    @property
    def training(self) -> bool:  # type: ignore[override]
        return any(m.training for m in self.module.modules())

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype | None:  # type: ignore[override]
        return next((t.dtype for t in self._tensors() if is_float(t)), None)

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.module.parameters()
        yield from self.module.buffers()

    @contextlib.contextmanager
    def lease(self, x: Tree | None = None) -> Iterator[Runner]:
        runner = self._runner()
        try:
            if self.fold and x is not None:
                self._fold(runner, x)
            if isinstance(runner, Direct):
                with runner:
                    yield runner
            else:
                yield runner
        finally:
            if isinstance(runner, Shadow):
                with self._lock:
                    self._idle.append(runner)

    def _runner(self) -> Shadow | Direct:
        while self._direct is None:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            if idle is None:
                break
            if idle.fresh(self.module):
                return idle
        return self._direct or self._shadow()

    def _shadow(self) -> Shadow | Direct:
        """A shadow; made outside inference mode, whose tensors could never be differentiated later."""
        with torch.inference_mode(False):
            try:
                return Shadow(self.module)
            except TypeError as refused:
                self._direct = Direct(self.module)
                self.notes.append(f"the model itself was run, under a lock: {refused}")
                return self._direct

    def _fold(self, runner: Shadow | Direct, x: Tree) -> None:
        """Folds what can be; which pairs those are, two rows show once for each shape of the inputs."""
        if isinstance(runner, Direct):
            self._note("no BatchNorm was folded: the model cannot be copied")
            return
        key = _shape_key(x)
        if key not in self._pairs:
            runner.fold(())
            self._pairs[key] = self._found(runner, x)
            many = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in runner.names.values())
            self._note(f"{len(self._pairs[key])} of {many} BatchNorms were folded into the layers before them, as was asked: outputs keep six digits, gradients of networks with kinks fewer")
        runner.fold(self._pairs[key])

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _found(self, runner: Shadow, x: Tree) -> tuple[Pair, ...]:
        """The pairs that are one; none where the whole model then answers otherwise."""

        def run(handler: Any) -> Any:
            with torch.inference_mode(False):
                return self._run_one(runner, handler, x)

        want: list[Any] = []
        pairs = find(runner.names, lambda handler: want.append(run(handler)) or want[0])
        if pairs:
            runner.fold(pairs)
            runner.lay(False)
        return pairs if pairs and alike(run(None), want[0]) else ()

    def layers(self, x: Tree | None = None) -> list[LayerInfo]:
        if x is None:
            return [LayerInfo(n, type(m).__name__, None) for n, m in self.module.named_modules() if n]
        return [info for info in self._seen_on(x) if info.name]

    def output_shape(self, x: Tree) -> tuple[int, ...] | None:
        return next((info.shape for info in self._seen_on(x) if not info.name), None)

    def _seen_on(self, x: Tree) -> list[LayerInfo]:
        key = _shape_key(x)
        if key not in self._layers:
            self._layers[key] = self._seen(x)
        return self._layers[key]

    def _seen(self, x: Tree) -> list[LayerInfo]:
        """One row through the model, every layer's call noted in the order in which it ended."""
        shapes: dict[str, tuple[int, ...] | None] = {}
        calls: dict[str, int] = {}
        parts: dict[str, int] = {}
        with self.lease() as runner:
            names = {id(m): n for n, m in runner.names.items()}

            def note(module: nn.Module, args: Any, kwargs: Any) -> Any:
                out = module._call_impl(*args, **kwargs)
                name = names.get(id(module), "")
                given = [t for t in leaves(out) if is_float(t)]
                shapes[name] = tuple(given[0].shape[1:]) if given else None
                parts[name] = len(given)
                calls[name] = calls.get(name, 0) + 1
                return out

            self._run_one(runner, note, x)
            kinds = {n: type(m).__name__ for n, m in runner.names.items()}
        return [LayerInfo(n, kinds[n], s, calls[n], parts[n]) for n, s in shapes.items()]

    def _run_one(self, runner: Runner, handler: Any, x: Tree) -> Any:
        """The first row alone, paid for by the question that is being answered."""
        pay(1)
        args, kwargs = call_args(_one_row(x))
        with torch.no_grad(), seeded(0, self.device, alone=self.training):
            try:
                return runner.run(handler, args, kwargs)
            except STRANGERS as e:
                raise stranger(self.name, x, e) from e

    def layer_name(self, layer: Any) -> str | None:
        return next((n for n, m in self.module.named_modules() if m is layer), None)

    def has(self, kind: type) -> bool:
        return any(isinstance(m, kind) for m in self.module.modules())

    def digest(self) -> str:
        every = {id(t): t for m in self.module.modules() for t in (*m._parameters.values(), *m._buffers.values()) if t is not None}
        tensors = list(every.values())
        state = tuple((id(t), version(t), pointer(t)) for t in tensors)
        if self._digest is None or self._digest[0] != state:
            self._digest = (state, hashed(tensors))
        return self._digest[1]


def _shape_key(x: Tree) -> Any:
    return tuple((tuple(t.shape[1:]), t.dtype) if has_rows(t) else None for t in leaves(x))


def _one_row(x: Tree) -> Tree:
    return each(lambda t: t[:1] if has_rows(t) else t, x)


def wrap_module(module: nn.Module, **settings: Any) -> TorchModel:
    """A module as a model; refuses what cannot be explained as it is."""
    if any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in module.parameters()):
        raise UsageError(f"{type(module).__name__} has uninitialized (lazy) parameters. Run the model once on an input before it is explained.")
    model = TorchModel(module, **settings)
    if model.training:
        warnings.warn(f"{model.name} is in training mode, so that dropout and batch statistics are part of what is explained. Call model.eval() first unless you mean it.", UserWarning, stacklevel=3)
    return model
