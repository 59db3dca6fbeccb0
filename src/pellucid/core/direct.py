"""The user's own object, run where it cannot be copied: one thread at a time, and put back as it was after each pass."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ._loans import equal
from .shadow import Handler, fused_above, unfuse, unwrap

_TURN = threading.RLock()


class Direct:
    """Runs the user's own object where it cannot be shadowed: under a lock, and put back as it was after each pass."""

    def __init__(self, module: nn.Module) -> None:
        self.module = unwrap(module)
        self.handler: Handler | None = None
        self.names = dict(self.module.named_modules())
        self.once: set[str] = set()
        self._opened: set[str] = set()
        self._thread: int | None = None

    def __enter__(self) -> "Direct":
        """Keeps other threads out for several passes."""
        _TURN.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        _TURN.release()

    def fresh(self, user_module: nn.Module) -> bool:
        """Whether it is still the same object with the same layers."""
        return unwrap(user_module) is self.module and self.names == dict(self.module.named_modules())

    def lay(self, channels_last: bool, named: Sequence[str] = ()) -> None:
        """The user's weights stay as they lie."""

    def open(self, layer_name: str) -> None:
        """Remembers to close the fused road of the encoder layers above, during passes only."""
        self._opened.add(layer_name)

    def run(self, handler: Handler | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's output, each layer's call answered by `handler(layer, args, kwargs)`."""
        with _TURN:
            kept = _Kept(self.module)
            self.handler, self._thread = handler, threading.get_ident()
            try:
                kept.prepare(self._call if handler else None, list({m: 0 for n in self._opened for m in fused_above(self.names, n)}))
                return self.module(*args, **kwargs)
            finally:
                self.handler = self._thread = None
                kept.restore()

    def _call(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        handler = self.handler if threading.get_ident() == self._thread else None
        return module._call_impl(*args, **kwargs) if handler is None else handler(module, args, kwargs)


class _Kept:
    """What a pass over the user's own object may change, and how to put it back."""

    SLOT = "_compiled_call_impl"

    def __init__(self, module: nn.Module) -> None:
        self.modules = list(module.modules())
        self.modes = [m.training for m in self.modules]
        self.calls = [vars(m).get(self.SLOT) for m in self.modules]
        self.asked = [(p, p.requires_grad) for p in module.parameters()]
        self.undo: list[Callable[[], None]] = []
        with torch.inference_mode(False), torch.no_grad():
            self.buffers = [(m, k, b, b.clone()) for m in self.modules for k, b in m._buffers.items() if b is not None]

    def prepare(self, call: Callable[..., Any] | None, fused: list[nn.Module]) -> None:
        for p, _ in self.asked:
            p.requires_grad_(False)
        self.undo = [unfuse(m) for m in fused]
        if call is not None:
            for m in self.modules:
                vars(m)[self.SLOT] = functools.partial(call, m)

    def restore(self) -> None:
        for m, mode, call in zip(self.modules, self.modes, self.calls, strict=True):
            vars(m).pop(self.SLOT, None)
            if call is not None:
                vars(m)[self.SLOT] = call
            if m.training != mode:
                m.training = mode
        for p, asked in self.asked:
            p.requires_grad_(asked)
        for undo in self.undo:
            undo()
        self._restore_buffers()

    def _restore_buffers(self) -> None:
        with torch.no_grad():
            for m, k, b, value in self.buffers:
                if not equal(b, value):
                    b.copy_(value)
                if m._buffers[k] is not b and not isinstance(m, torch.jit.ScriptModule):
                    m._buffers[k] = b
