"""Small networks in double precision that every method can be tried on, and what to look at to see whether it left a trace."""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backends.wrap import wrap
from ..core.model import Model
from ..core.question import Question, ask
from ..core.target import Neuron
from ..core.tree import leaves

PLACES = ("input", "layer", "neuron")
ROWS = 3


class _Pictures(nn.Module):
    """Pictures of two channels to three classes: a residual sum, one activation called twice, BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.norm, self.out = nn.ReLU(), nn.BatchNorm2d(4), nn.Linear(4, 3)
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        h = h + self.act(self.norm(self.a(h)))
        return self.out(self.b(h).tanh().mean((2, 3)))


class _Columns(nn.Module):
    """Columns to three classes, without kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.out = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.a(torch.tanh(self.first(x)))))


class _Words(nn.Module):
    """Integer tokens through an embedding and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.out = nn.Embedding(11, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.a(self.first(ids))[0][:, -1])


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@dataclass(frozen=True)
class Trial:
    """A network, three rows for it, a layer inside, and a unit of a layer."""

    name: str
    build: Callable[[], nn.Module]
    x: Tensor
    layer: str
    unit: tuple[str, Any]

    def net(self) -> nn.Module:
        """The network, the same each time; the caller's generator stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build().double().eval()

    def question(self, place: str = "input", model: Model | None = None, inside: str = "", **changes: Any) -> Question:
        """Of its rows, a class each, or about a neuron; `inside` is where a wrapping network holds this one."""
        unit = (inside + self.unit[0], self.unit[1])
        asked: dict[str, Any] = {"x": self.x, "target": Neuron(*unit) if place == "neuron" else [0, 1, 2], "at": inside + self.layer if place == "layer" else None, "batch_size": 8}
        return ask(wrap(self.net()) if model is None else model, **asked | {"ids": ("p", "q", "r")} | changes)


TRIALS = (
    Trial("pictures", _Pictures, _normal(3, 2, 6, 6), "a", ("b", (1, 2, 3))),
    Trial("columns", _Columns, _normal(3, 5), "first", ("a", 4)),
    Trial("words", _Words, torch.tensor([[1, 2, 3, 4], [4, 4, 0, 9], [7, 1, 10, 2]]), "first", ("a", (3, 2))),
)


class Tally:
    """Rows that a network has seen; one for all copies of it."""

    def __init__(self) -> None:
        self.rows = 0

    def __deepcopy__(self, memo: Any) -> "Tally":
        return self


class Counted(nn.Module):
    """A network that counts its rows."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.tally = inner, Tally()
        self.eval()

    def forward(self, x: Tensor) -> Any:
        self.tally.rows += len(x)
        return self.inner(x)


class Trace:
    """All that a careless procedure would leave behind, seen before and after."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.net, self.x = net, x
        self.numbers = copy.deepcopy(net.state_dict())
        self.kept = x.clone()
        self.before = self._look()

    def _look(self) -> dict[str, Any]:
        modules, weights = list(self.net.modules()), list(self.net.parameters())
        return {
            "modes": [m.training for m in modules], "attributes": [sorted(vars(m)) for m in modules], "requires_grad": [p.requires_grad for p in weights],
            "hooks": [[len(v) for k, v in sorted(vars(m).items()) if "hook" in k and hasattr(v, "__len__")] for m in modules],
            "gradients": [p.grad is None for p in weights], "storage": [(t.data_ptr(), t.stride()) for t in self.net.state_dict().values()],
            "inputs' requires_grad": self.x.requires_grad, "global random generator": torch.get_rng_state().tolist(), "threads": torch.get_num_threads(),
            "gradient mode": torch.is_grad_enabled(), "default dtype": torch.get_default_dtype(), "running threads": threading.active_count(),
        }  # fmt: skip

    def left(self) -> list[str]:
        """What is no longer as it was."""
        now = self._look()
        changed = [k for k, v in now.items() if v != self.before[k]]
        weights = any(not torch.equal(v, self.numbers[k]) for k, v in self.net.state_dict().items())
        return changed + ["weights"] * weights + ["inputs"] * any(not torch.equal(a, b) for a, b in zip(leaves(self.x), leaves(self.kept), strict=True))
