"""What is explained: a rule that turns a model's outputs into one number a row.

A target is a value: it compares, pickles and prints. An int, a label's name or a `(B,)` tensor is short for `Label`;
None is the model's own prediction; any callable `outputs -> (B,)` will do.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .errors import ModelError, UnknownName, UsageError
from .places import Place

Index: TypeAlias = int | str | tuple[int, ...]


class Target:
    """Outputs to one number a row."""

    @property
    def reads(self) -> str | Place | None:
        """The layer whose value is read; None reads the model's output."""
        return getattr(self, "layer", None)

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        """(n,) values from the outputs `out` of the question's rows `rows`."""
        raise NotImplementedError

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> "Target":
        """The same target with names turned into positions, checked against one batch of outputs."""
        return self

    def text(self, labels: Sequence[str] | None) -> str:
        """The target in words, for titles and tables."""
        return repr(self)


def _upcast(out: Tensor) -> Tensor:
    return out.float() if out.dtype in (torch.float16, torch.bfloat16) else out


def position(index: Index, out: Tensor, labels: Sequence[str] | None) -> int | tuple[int, ...]:
    """A position in one row of outputs from a number, a tuple or a label's name."""
    if isinstance(index, str):
        return _by_name(index, labels)
    where = index if isinstance(index, tuple) else (index,)
    shape = tuple(out.shape[1:])
    if len(where) != len(shape):
        example = f"Label({', '.join('0' * max(len(shape), 1))})" if len(shape) < 2 else f"Label({tuple([0] * len(shape))})"
        use = "Output()" if not shape else example
        raise UsageError(f"A target needs one number a row; the model gives {shape or 'one number'} a row and the target names position {index}. Use {use} or a callable.")
    if any(not -n <= i < n for i, n in zip(where, shape, strict=True)):
        raise UsageError(f"The target needs a position inside the model's outputs {shape}; got {index}. Positions run from 0 to {', '.join(str(n - 1) for n in shape)}.")
    fixed = tuple(i % n for i, n in zip(where, shape, strict=True))
    return fixed if isinstance(index, tuple) else fixed[0]


def _by_name(name: str, labels: Sequence[str] | None) -> int:
    if not labels:
        raise UsageError(f"A target by name needs a model with labels; got {name!r} and a model without. Give labels=[...] to pel.wrap, or the class's number.")
    folded = [label.casefold() for label in labels]
    hits = [i for i, label in enumerate(folded) if label == name.casefold()]
    hits = hits or [i for i, label in enumerate(folded) if name.casefold() in [part.strip() for part in label.split(",")]]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"The class {name!r} names {len(hits)} labels: {', '.join(map(str, hits[:5]))}. Give the number.")
    raise UnknownName("class", name, labels)


def label_text(index: Index, labels: Sequence[str] | None) -> str:
    """"espresso (967)" where the model has labels, "967" where it has none."""
    return f"{labels[index].split(',')[0]} ({index})" if labels and isinstance(index, int) and index < len(labels) else str(index)


@dataclass(frozen=True)
class Label(Target):
    """How strongly does the model say this class? The output at one position, as the model gives it (a logit, mostly)."""

    index: Index

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        return Label(position(self.index, out, labels))

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return out[(slice(None), *(self.index if isinstance(self.index, tuple) else (self.index,)))]

    def text(self, labels: Sequence[str] | None) -> str:
        return label_text(self.index, labels)


@dataclass(frozen=True)
class Probability(Target):
    """How probable is this class? Softmax over the second axis; the logistic function where there is one output."""

    index: int | str

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        if out.ndim != 2:
            raise UsageError(f"Probability needs outputs of shape (rows, classes); got {tuple(out.shape)}. Use a callable target.")
        return Probability(position(self.index, out, labels))  # type: ignore[arg-type]

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        out = _upcast(out)
        return (out.sigmoid() if out.shape[1] == 1 else out.softmax(1))[:, self.index]  # type: ignore[index]

    def text(self, labels: Sequence[str] | None) -> str:
        return f"probability of {label_text(self.index, labels)}"


@dataclass(frozen=True)
class Contrast(Target):
    """Why this class rather than that one? The difference of two outputs."""

    a: Index
    b: Index

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        return Contrast(position(self.a, out, labels), position(self.b, out, labels))

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return Label(self.a).read(out, rows) - Label(self.b).read(out, rows)

    def text(self, labels: Sequence[str] | None) -> str:
        return f"{label_text(self.a, labels)} rather than {label_text(self.b, labels)}"


@dataclass(frozen=True)
class Output(Target):
    """What makes this single output high? For models that give one number a row."""

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        if out[0].numel() != 1:
            raise UsageError(f"Output() needs a model that gives one number a row; got {tuple(out.shape[1:])} a row. Use Label(i), Contrast(a, b) or a callable.")
        return self

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return out.reshape(len(out))

    def text(self, labels: Sequence[str] | None) -> str:
        return "the output"


@dataclass(frozen=True)
class Loss(Target):
    """What makes the model wrong about y? Cross-entropy for a class (int), squared error for a number (float)."""

    y: int | float

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        return Loss(position(self.y, out, labels)) if isinstance(self.y, int) and out[0].numel() > 1 else Loss(float(self.y))  # type: ignore[arg-type]

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        out = _upcast(out)
        return -out.log_softmax(1)[:, self.y] if isinstance(self.y, int) else (out.reshape(len(out)) - self.y) ** 2

    def text(self, labels: Sequence[str] | None) -> str:
        return f"loss at {label_text(self.y, labels) if isinstance(self.y, int) else self.y}"


@dataclass(frozen=True)
class Entropy(Target):
    """What makes the model unsure? Entropy of the softmax, in nats."""

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        logp = _upcast(out).log_softmax(1)
        return -(logp.exp() * logp).sum(1)

    def text(self, labels: Sequence[str] | None) -> str:
        return "entropy of the prediction"


@dataclass(frozen=True)
class Neuron(Target):
    """What drives this unit? The value at one position of a layer (without the row axis)."""

    layer: str | Place
    index: int | tuple[int, ...]

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        return Neuron(self.layer, position(self.index, out, None))

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return Label(self.index).read(out, rows)

    def text(self, labels: Sequence[str] | None) -> str:
        return f"unit {self.index} of {self.layer}"


def _numbers(v: Any) -> tuple[float, ...]:
    return tuple(torch.as_tensor(v, dtype=torch.float64).reshape(-1).tolist())


@dataclass(frozen=True)
class Direction(Target):
    """What pushes this layer along a vector? Dot product with a direction over the second axis (a concept, a probe)."""

    layer: str | Place
    vector: tuple[float, ...] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", _numbers(self.vector))

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        if len(self.vector) not in (out[0].numel(), out.shape[1]):
            raise UsageError(f"Direction needs a vector as long as the layer's value, {out[0].numel()}, or its channels, {out.shape[1]}; got {len(self.vector)} numbers.")
        return self

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        v = out.new_tensor(self.vector)
        return out.flatten(1) @ v if len(v) == out[0].numel() else out.flatten(2).mean(2) @ v

    def text(self, labels: Sequence[str] | None) -> str:
        return f"a direction in {self.layer}"


@dataclass(frozen=True)
class Similarity(Target):
    """What makes this like that? Cosine between the output and a reference embedding."""

    reference: tuple[float, ...] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", _numbers(self.reference))

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        if len(self.reference) != out[0].numel():
            raise UsageError(f"Similarity needs a reference of {out[0].numel()} numbers, as the model gives a row; got {len(self.reference)}.")
        return self

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        return torch.nn.functional.cosine_similarity(out.flatten(1), out.new_tensor(self.reference)[None], dim=1)

    def text(self, labels: Sequence[str] | None) -> str:
        return "similarity to the reference"


@dataclass(frozen=True)
class Custom(Target):
    """Any function of the outputs: `f(outputs) -> (B,)`."""

    f: Callable[[Tensor], Tensor]

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        value = self.f(out)
        if not isinstance(value, Tensor) or value.shape != (len(out),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"A callable target needs to give one number a row, shape ({len(out)},); got {got}.")
        return value

    def text(self, labels: Sequence[str] | None) -> str:
        return getattr(self.f, "__name__", "a function of the output")


@dataclass(frozen=True)
class Predicted(Target):
    """The class that the model itself gives each row; it becomes `Label`s when the question is asked."""

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        if out[0].numel() == 1:
            return Output()
        if out.ndim != 2:
            raise UsageError(f"The model gives {tuple(out.shape[1:])} numbers a row, so that it has no single prediction; name a target, e.g. Label({tuple([0] * (out.ndim - 1))}).")
        return per_row([Label(int(i)) for i in out.argmax(1)])


@dataclass(frozen=True)
class PerRow(Target):
    """Another target for every row."""

    targets: tuple[Target, ...]

    @property
    def reads(self) -> str | Place | None:
        return self.targets[0].reads

    def resolve(self, out: Tensor, labels: Sequence[str] | None) -> Target:
        done = {t: t.resolve(out, labels) for t in set(self.targets)}
        return per_row([done[t] for t in self.targets])

    def read(self, out: Tensor, rows: Tensor) -> Tensor:
        mine = [self.targets[i] for i in rows.tolist()]
        if all(type(t) is Label and isinstance(t.index, int) for t in mine):
            index = torch.tensor([t.index for t in mine], device=out.device)
            return out.gather(1, index[:, None])[:, 0]
        value: Tensor | None = None
        for t in dict.fromkeys(mine):
            one = t.read(out, rows)
            here = torch.tensor([m == t for m in mine], device=out.device)
            value = one if value is None else torch.where(here, one, value)
        if value is None:
            raise UsageError("A target needs at least one row.")
        return value

    def text(self, labels: Sequence[str] | None) -> str:
        return ", ".join(dict.fromkeys(t.text(labels) for t in self.targets))


def per_row(targets: Sequence[Target]) -> Target:
    """One target where all rows share it, a `PerRow` otherwise."""
    layers = {str(t.reads) for t in targets}
    if len(layers) > 1:
        raise UsageError(f"The targets of one question need to read one place, the output or one layer; got {', '.join(sorted(layers))}. Ask one question each.")
    return targets[0] if len(set(targets)) == 1 else PerRow(tuple(targets))


def of_row(target: Target, row: int) -> Target:
    """The target of one row."""
    return target.targets[row] if isinstance(target, PerRow) else target


def as_target(given: Any) -> Target:
    """A target from its short forms: None, an int, a name, a tuple (a position), a `(B,)` tensor, a callable."""
    if given is None:
        return Predicted()
    if isinstance(given, Target):
        return _spread(given)
    if isinstance(given, Tensor) and given.ndim == 0 or hasattr(given, "item") and getattr(given, "shape", None) == ():
        given = given.item()
    if isinstance(given, (bool, float)):
        raise UsageError(f"A target needs a class number, a name, a Target or a callable; got {given!r}.")
    if isinstance(given, (int, str)) or isinstance(given, tuple) and all(isinstance(i, int) for i in given):
        return Label(given)
    if isinstance(given, Tensor) or hasattr(given, "__array__"):
        return per_row([Label(int(i)) for i in torch.as_tensor(given).reshape(-1)])
    if callable(given):
        return Custom(given)
    raise UsageError(f"A target needs a class number, a name, a Target or a callable; got {type(given).__name__}.")


def _spread(target: Target) -> Target:
    """`Label([0, 1, 2])` and `Loss(y)` with a list or a tensor of rows become one target a row."""
    if not isinstance(target, (Label, Loss, Probability)):
        return target
    name = dataclasses.fields(target)[0].name
    value = getattr(target, name)
    if isinstance(value, Tensor) or hasattr(value, "__array__"):
        value = value.tolist()
    if isinstance(value, list):
        return per_row([type(target)(v) for v in value])
    return type(target)(value)


def check_rows(target: Target, size: int) -> Target:
    """Refuses a batch of targets that is not as long as the batch of inputs."""
    if isinstance(target, PerRow) and len(target.targets) != size:
        raise UsageError(f"A batch of targets needs one a row; got {len(target.targets)} targets for {size} rows.")
    return target


def read_tensor(out: Any) -> Tensor:
    """What a model must give a target: a floating-point tensor with a batch axis."""
    if not isinstance(out, Tensor):
        raise ModelError(f"A target reads a tensor; the model gave {type(out).__name__}.")
    return out
