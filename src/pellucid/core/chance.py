"""The caller's random generators: seeded while a model runs, and put back as they were."""

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import Tensor


class _Chance:
    """Generators belong to the whole process, so that runs in several threads share one memory of what they were."""

    def __init__(self) -> None:
        self.lock, self.turn = threading.Lock(), threading.RLock()
        self.depth = 0
        self.kept: dict[torch.device, Tensor] = {}

    def enter(self, seed: int, device: torch.device) -> None:
        with self.lock:
            self.depth += 1
            for d in (torch.device("cpu"), device):
                if d not in self.kept:
                    self.kept[d] = torch.cuda.get_rng_state(d) if d.type == "cuda" else torch.get_rng_state()
            _generator(device).manual_seed(seed)
            torch.default_generator.manual_seed(seed)

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                for d, state in self.kept.items():
                    _generator(d).set_state(state)
                self.kept.clear()


def _generator(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.init()
    return torch.cuda.default_generators[index]


_CHANCE = _Chance()


@contextlib.contextmanager
def seeded(seed: int, device: torch.device, alone: bool = False) -> Iterator[None]:
    """Draws from `seed` inside; afterwards the generators are where the caller left them.

    `alone`: no other such run at the same time, so that a model that draws (dropout) draws the same each time.
    """
    with _CHANCE.turn if alone else contextlib.nullcontext():
        _CHANCE.enter(seed, device)
        try:
            yield
        finally:
            _CHANCE.leave()
