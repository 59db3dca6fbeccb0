"""Tiny float64 networks that all tests ask, and inputs that fit them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SUBJECT_TARGETS = (0, 1, 2)
"""A class for each of the three rows of a subject."""


class Residual(nn.Module):
    """Pictures of two channels, 6 x 6, to three classes: residual sums, one activation called three times, a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.norm, self.out = nn.ReLU(), nn.BatchNorm2d(4), nn.Linear(4, 3)
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.stem(x))
        h = h + self.act(self.norm(self.a(h)))
        h = self.act(h + self.b(h))
        return self.out(F.silu(h).mean((2, 3)))


class Reused(nn.Module):
    """The same layer twice, with a sum around it: columns to classes."""

    def __init__(self, act: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.first, self.twice, self.out, self.f = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3), act

    def forward(self, x: Tensor) -> Tensor:
        h = self.f(self.first(x))
        h = h + self.f(self.twice(h))
        return self.out(h + self.f(self.twice(h)))


class TwoInputs(nn.Module):
    """Columns of two tables, multiplied inside."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v, self.mix, self.out = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(self.mix(torch.tanh(self.u(a)) * self.v(b)).relu() + self.u(a))


class KeywordOnly(nn.Module):
    """Takes keywords alone, one of them shared by all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TwoInputs()

    def forward(self, *, a: Tensor, b: Tensor, scale: Tensor | None = None) -> Tensor:
        return self.inner(a, b if scale is None else b * scale)


@dataclass
class Answer:
    """A model's output as a dataclass."""

    logits: Tensor
    hidden: Tensor


class Wrapped(nn.Module):
    """Columns to classes, given back as a "tuple", "single", "dict", "dataclass" or transformers "ModelOutput"."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.inner = kind, Reused()

    def forward(self, x: Tensor) -> Any:
        y, h = self.inner(x), self.inner.first(x)
        if self.kind == "ModelOutput":
            from transformers.modeling_outputs import SequenceClassifierOutput

            return SequenceClassifierOutput(logits=y, hidden_states=(h,))
        return {"tuple": (y, h), "single": (y,), "dict": {"logits": y, "hidden": h}, "dataclass": Answer(y, h)}[self.kind]


class Pair(nn.Module):
    """A layer that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.u(x)), self.v(x)


class Split(nn.Module):
    """Multiplies the two parts that its layer `pair` gives."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.out = Pair(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pair(x)
        return self.out(a * b)


class Words(nn.Module):
    """Integer tokens through an embedding and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.gru, self.out = nn.Embedding(11, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.gru(self.emb(ids))[0][:, -1])


class MiniViT(nn.Module):
    """A class token and a 3 x 3 grid of patches of a picture, one attention block."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls, self.place = nn.Conv2d(2, 8, 2, stride=2), nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 10, 8))
        self.norm, self.attn, self.mlp, self.head = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True), nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.cls.expand(len(t), -1, -1), t], 1) + self.place
        n = self.norm(t)
        t = t + self.attn(n, n, n, need_weights=False)[0]
        return self.head((t + self.mlp(t))[:, 0])


class Noisy(nn.Module):
    """Columns to classes through dropout: in training mode, every forward is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.out = nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(torch.relu(self.first(x))))


class Odd(nn.Module):
    """Any function between two layers."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.f, self.b = nn.Linear(4, 4), f, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.f(self.a(x)))


class Hidden(torch.autograd.Function):
    """Twice its input, by a function whose inside nobody sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 2


class Stubborn(nn.Module):
    """A network that cannot be copied: it is run itself, under a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Residual()

    def __deepcopy__(self, memo: Any) -> nn.Module:
        raise TypeError("one of a kind")

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Tally:
    """Rows that a model has seen. It survives the copies that the engine makes of a model."""

    def __init__(self) -> None:
        self.rows = 0
        self.sizes: list[int] = []

    def __deepcopy__(self, memo: Any) -> "Tally":
        return self

    def add(self, n: int) -> None:
        self.rows += n
        self.sizes.append(n)


class Counting(nn.Module):
    """A network whose every forward is tallied; it may run out of memory above `most` rows."""

    def __init__(self, inner: nn.Module, most: int | None = None) -> None:
        super().__init__()
        self.inner, self.tally, self.most = inner, Tally(), most
        self.train(inner.training)

    def forward(self, x: Tensor) -> Any:
        if self.most is not None and len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory, as a test has asked")
        self.tally.add(len(x))
        return self.inner(x)


class Raising(nn.Module):
    """A network that fails after some forwards."""

    def __init__(self, inner: nn.Module, after: int) -> None:
        super().__init__()
        self.inner, self.tally, self.after = inner, Tally(), after
        self.train(inner.training)

    def forward(self, x: Tensor) -> Any:
        self.tally.add(len(x))
        if len(self.tally.sizes) > self.after:
            raise RuntimeError("the model is tired")
        return self.inner(x)


def made(build: Callable[[], nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network with weights of its own seed, in eval mode; the global generator stays as it was.

    Only the CPU's generator is seeded: `torch.manual_seed` keeps a stack trace for each device that is not there, which takes twice as long as making the network.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        return build().to(dtype).eval()
    finally:
        torch.default_generator.set_state(before)


def smooth() -> nn.Module:
    """A network without kinks."""
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers of a seed of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Subject:
    """A network, its inputs, a layer inside and a unit of a layer: what a method is tried on."""

    build: Callable[[], nn.Module]
    x: Any
    layer: str
    unit: tuple[str, int | tuple[int, ...]]
    grid: tuple[str, ...] = ()
    """At which of "input", "layer" and "neuron" a grid is at hand."""
    integers: bool = False

    def net(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return made(self.build, dtype=dtype)


def subjects() -> dict[str, Subject]:
    """Every kind of network and input."""
    a, b = normal(3, 4), normal(3, 3, seed=2)
    ids = torch.tensor([[1, 2, 3, 4], [4, 4, 0, 9], [7, 1, 10, 2]])
    return {
        "pictures": Subject(Residual, normal(3, 2, 6, 6), "a", ("b", (1, 2, 3)), ("input", "layer", "neuron")),
        "columns": Subject(Reused, normal(3, 5), "first", ("out", 1)),
        "smooth": Subject(smooth, normal(3, 5), "1", ("1", 4)),
        "two inputs": Subject(TwoInputs, (a, b), "mix", ("mix", 2)),
        "keywords": Subject(KeywordOnly, {"a": a, "b": b}, "inner.mix", ("inner.mix", 2)),
        "words": Subject(Words, ids, "emb", ("gru", (3, 2)), integers=True),
        "vision transformer": Subject(MiniViT, normal(3, 2, 6, 6), "mlp", ("mlp", (0, 3)), ("input", "layer", "neuron")),
    }




def take(s: Subject, rows: Tensor) -> Subject:
    """The subject with those rows of its inputs."""
    pick = lambda t: t[rows]  # noqa: E731
    x = s.x
    return dataclasses.replace(s, x={k: pick(v) for k, v in x.items()} if isinstance(x, dict) else tuple(map(pick, x)) if isinstance(x, tuple) else pick(x))
