"""Checkpoints run a part of the model again when gradients flow back, and no rule would see it: under rules their parts are kept."""

import contextlib
from collections.abc import Iterator

import torch

_hooks = torch._C._autograd


@contextlib.contextmanager
def _set_aside() -> Iterator[None]:
    taken = []
    while _packs():
        taken.append(_hooks._top_saved_tensors_default_hooks(False))
        _hooks._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for pack, unpack in reversed(taken):
            _hooks._push_saved_tensors_default_hooks(pack, unpack)


def _packs() -> bool:
    """Whether `torch.utils.checkpoint` would throw away what an operation saves."""
    top = _hooks._top_saved_tensors_default_hooks(False)
    return top is not None and getattr(top[0], "__module__", "") == "torch.utils.checkpoint"


_NOTHING = contextlib.nullcontext()


def kept_whole() -> contextlib.AbstractContextManager[None]:
    """What runs here saves what it needs for its backward pass, also inside a checkpoint."""
    return _set_aside() if _packs() else _NOTHING
