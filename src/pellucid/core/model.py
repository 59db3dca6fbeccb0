"""What is explained: a model, with its labels, its preprocessing and what it can do. One adapter a backend fills this in."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .card import Needs
from .errors import ModelError, NotApplicable, UsageError
from .planner import Planner
from .tree import Tree, each, is_float, leaves, map_leaves, paths, unshare

if TYPE_CHECKING:
    from .ensemble import TreeSum

STRANGERS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, NotImplementedError)
"""What other people's code raises."""


class Preprocess(Protocol):
    """How a picture becomes what the model takes, and back."""

    def __call__(self, image: Any) -> Tensor: ...

    def inverse(self, x: Tensor) -> Tensor:
        """(B, C, H, W) inputs as (B, H, W, 3) bytes."""
        ...


class Runner(Protocol):
    """Something that runs the model's function while nobody else does: a shadow, or the object itself under a lock."""

    module: Any
    names: Any
    handler: Any
    once: set[str]

    def run(self, handler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    def open(self, layer_name: str) -> None: ...

    def lay(self, channels_last: bool, named: Sequence[str] = ()) -> None: ...


@dataclass(frozen=True)
class LayerInfo:
    """One layer as it was seen in a forward pass: its name, its kind, the shape of its value for one row, and how many tensors it gives."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    calls: int = 1
    parts: int = 1


class Model:
    """What is explained. Made by `pel.wrap` or `pel.load`; an adapter fills in how it is run."""

    can: Needs = Needs.VALUE
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype | None = None
    training: bool = False
    chances: bool = True
    """Whether the outputs are probabilities or logits, so that classes may be shown with their chances."""
    chunk: int | None = None
    """Rows at a time that suit the model (an endpoint's batch); None: measured."""
    columns: Sequence[str] | None = None
    """The names of the columns of a table that the model takes."""
    axis: str = "column"
    """What one of a row's features is called: a column, or a word of a text."""
    absent: str = ""
    """Where the inputs say which parts are present: what 0 stands for, in words."""

    missing: bool = False
    """Whether NaN in a row means a missing value, which the model knows to handle."""

    def __init__(self, name: str, labels: Sequence[str] | None = None, preprocess: Preprocess | None = None, output: int | str | None = None, spec: str = "") -> None:
        self.name, self.labels, self.preprocess, self.output, self.spec = name, list(labels) if labels is not None else None, preprocess, output, spec
        self.planner = Planner()
        self.notes: list[str] = []
        """What every explanation of this model should say."""
        self.open: Callable[[Any], Any] = lambda picture: picture
        """How a path becomes a picture; `backends.wrap` fills it in."""

    def trees(self, x: Tree) -> "TreeSum":
        """The model as a sum over decision trees, and what they read of inputs like these."""
        raise NotApplicable(f"Tree methods need decision trees; {self.name} has none. Use shapley, which asks any model.")

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.can})"

    @contextlib.contextmanager
    def lease(self, x: Tree | None = None) -> Iterator[Runner]:
        """A runner for this thread alone, for rows like those of `x`."""
        raise NotImplementedError
        yield

    def layers(self, x: Tree | None = None) -> list[LayerInfo]:
        """The layers by name, in the order of a forward pass on `x`, with the shape of one row's value."""
        return []

    def output_shape(self, x: Tree) -> tuple[int, ...] | None:
        """The shape of one row of the model's first tensor of outputs; None where it is not known without asking."""
        return None

    def layer_name(self, layer: Any) -> str | None:
        """The name of a layer that is given as the user's own object; None where it is no part of the model."""
        return None

    def digest(self) -> str:
        """A short hash of the weights."""
        return ""

    def has(self, kind: type) -> bool:
        """Whether the model holds a layer of this kind."""
        return False

    def pick(self, out: Tree) -> Tensor:
        """The tensor that targets read, out of all that the model gives."""
        if isinstance(out, Tensor):
            return out
        if self.output is not None:
            return self._picked(out)
        if isinstance(getattr(out, "logits", None), Tensor):
            return out.logits
        found = [(p, leaf) for p, leaf in paths(out) if is_float(leaf)]
        if isinstance(out, Mapping) and "logits" in out:
            return out["logits"]
        if len(found) == 1:
            return found[0][1]
        if not found:
            raise ModelError(f"A target reads a floating-point tensor; {self.name} gave {type(out).__name__} without one. Wrap it so that it returns logits.")
        where = ", ".join(".".join(map(str, p)) for p, _ in found)
        first = found[0][0][0]
        raise ModelError(f"A target reads one tensor; {self.name} gave a {type(out).__name__} with {len(found)} ({where}). Say which: pel.wrap(model, output={first!r}).")

    def _picked(self, out: Tree) -> Tensor:
        key = self.output
        try:
            value = getattr(out, key) if isinstance(key, str) and hasattr(out, key) else out[key]
        except (KeyError, IndexError, TypeError):
            raise ModelError(f"{self.name} was wrapped with output={key!r}; its output, a {type(out).__name__}, has no such part.") from None
        if not isinstance(value, Tensor):
            raise ModelError(f"output={key!r} of {self.name} needs to be a tensor; got {type(value).__name__}.")
        return value

    def posed(self, inputs: Any, baseline: Any) -> "tuple[Model, Any, Any]":
        """The model, inputs and baseline that a question is really about: a text or a table of words becomes the presence of its parts."""
        return self, inputs, baseline

    def features(self, x: Tree) -> tuple[tuple[str, ...], ...] | None:
        """The names of every row's features where the rows are a table or parts that are present; None where they have no names."""
        tables = [t for t in leaves(x) if is_float(t) and t.ndim > 1]
        if self.columns is None or len(tables) != 1 or tables[0].ndim != 2 or tables[0].shape[1] != len(self.columns):
            return None
        return (tuple(self.columns),) * len(tables[0])

    def prepare(self, inputs: Any) -> Tree:
        """Inputs as the model takes them: pictures preprocessed, arrays as tensors, on the model's device and in its dtype."""
        if self.preprocess is not None and _is_picture(inputs):
            inputs = self.preprocess(self.open(inputs))
        elif self.preprocess is None and any(isinstance(i, (str, bytes)) or hasattr(i, "__fspath__") for i in (inputs if isinstance(inputs, (list, tuple)) else [inputs])):
            raise UsageError(f"{self.name} has no preprocessing for files, so it needs tensors or arrays; got {inputs!r}. Give preprocess= to pel.wrap.")
        elif self.preprocess is not None and isinstance(inputs, (list, tuple)) and inputs and all(_is_picture(i) for i in inputs):
            pictures = [self.preprocess(self.open(i)) for i in inputs]
            if len(sizes := {tuple(p.shape[1:]) for p in pictures}) > 1:
                raise UsageError(f"Pictures in one question need one size; got {' and '.join(map(str, sorted(sizes)[:2]))}. Ask one at a time, or give preprocess= with a size.")
            inputs = torch.cat(pictures)
        return each(self._place, _arrays(inputs)) if leaves(inputs) else inputs

    def _place(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        leaf = leaf.detach()
        if is_float(leaf) and self.dtype is not None and self.dtype != leaf.dtype:
            leaf = leaf.to(self.dtype)
        return leaf.to(self.device)


def _is_picture(inputs: Any) -> bool:
    """A path, a PIL image, or an array of bytes with three axes."""
    if isinstance(inputs, str) or hasattr(inputs, "__fspath__"):
        return True
    if isinstance(inputs, Tensor):
        return False
    shape, dtype = getattr(inputs, "shape", None), str(getattr(inputs, "dtype", ""))
    return hasattr(inputs, "convert") and hasattr(inputs, "getbands") or (shape is not None and len(shape) == 3 and dtype == "uint8")


def _arrays(tree: Tree) -> Tree:
    def leaf(v: Any) -> Any:
        if isinstance(v, Tensor) or not hasattr(v, "__array__") or not hasattr(v, "dtype"):
            return v
        flags = getattr(v, "flags", None)
        return torch.as_tensor(v if getattr(flags, "writeable", True) else v.copy())

    return map_leaves(leaf, tree)


def stranger(name: str, x: Tree, error: BaseException) -> ModelError:
    """What the model raised, in our words: which model, on what, and what it said."""
    shapes = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in leaves(unshare(x)) if isinstance(t, Tensor))
    return ModelError(f"{name} raised {type(error).__name__} on inputs of shape {shapes}: {str(error).strip() or 'no message'}")


def call_args(x: Tree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a tree of inputs is handed to the model, what `shared` marked unwrapped."""
    return arguments(unshare(x))


def arguments(x: Tree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tuple as arguments, a mapping as keywords, all else as one argument."""
    if isinstance(x, Mapping):
        return (), dict(x)
    if isinstance(x, (tuple, list)) and not hasattr(x, "_fields"):
        return tuple(x), {}
    return (x,), {}


Function = Callable[..., Any]
