"""Any callable as a model: values only, nothing is known of its inside. It gets what it was written for: tensors, arrays, pictures, texts or tables."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.card import Needs
from ..core.errors import PellucidError, UsageError
from ..core.model import STRANGERS, Function, Model, Runner, stranger
from ..core.planner import Planner
from ..core.tree import Tree, has_rows, leaves, map_leaves, rows_of
from ..modalities.image import ImagePreprocess
from .answers import Answers

TAKES = ("auto", "tensor", "array", "images", "texts", "frame")
"""What a function may take; auto: what it is given."""


class _Bare:
    """Runs a plain function; there are no layers to handle."""

    names: Mapping[str, Any] = {}

    def __init__(self, function: Function) -> None:
        self.module, self.once = function, set[str]()

    def run(self, handler: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self.module(*args, **kwargs)

    def open(self, layer: str) -> None:
        """A function has no inside to open."""

    def lay(self, channels_last: bool, named: Sequence[str] = ()) -> None:
        """A function has no weights to lay."""


class _Theirs:
    """Whatever a function raises is told in one sentence: a library's own errors, a lost connection, a file that is gone."""

    def __init__(self, name: str, given: Tree) -> None:
        self.name, self.given = name, given

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, (PellucidError, MemoryError, *STRANGERS)):
            raise stranger(self.name, self.given, error) from error


class FunctionModel(Model):
    """A callable. `differentiable=True` says that autograd sees through it; `takes` says what it is called with."""

    def __init__(self, function: Function, differentiable: bool = False, takes: str = "auto", columns: Sequence[str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        if takes not in TAKES:
            raise UsageError(f"takes needs to be one of {', '.join(TAKES)}; got {takes!r}.")
        if differentiable and takes not in ("auto", "tensor"):
            raise UsageError(f"Gradients need a function on tensors; got takes={takes!r} and differentiable=True. Leave one of the two out.")
        self.function, self.takes = function, "tensor" if differentiable else takes
        self.columns = list(columns) if columns is not None else None
        self.parts: tuple[tuple[str, ...], ...] | None = None
        """The names of every explained row's parts, where the inputs say which of them are present."""
        self.can = Needs.VALUE | Needs.GRADIENT if differentiable else Needs.VALUE
        self.elder: FunctionModel | None = None
        self.answers = Answers(self.name, self._told, whole=self.output is not None)

    def _told(self, labels: list[str]) -> list[str]:
        """Answers that name their labels give the model its own, where it has none."""
        if self.labels is None:
            self.labels = list(labels) if self.elder is None else self.elder._told(labels)
        return list(map(str, self.labels))

    def twin(self, function: Function, **changes: Any) -> "FunctionModel":
        """The same model on other inputs: one name, one set of labels, one way to read answers."""
        new = FunctionModel.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.function, new.planner, new.notes = function, Planner(), list(self.notes)
        new.__dict__.update(changes)
        if function is not self.function:  # trees read rows, not what rows were made into
            new.can &= ~Needs.TREES
            new.__dict__.pop("trees", None)
        new.elder = self
        new.answers = Answers(new.name, new._told, whole=new.output is not None)
        return new

    @contextlib.contextmanager
    def lease(self, x: Tree | None = None) -> Iterator[Runner]:
        yield _Bare(self._answered)  # type: ignore[misc]

    def _answered(self, *args: Any, **kwargs: Any) -> Any:
        n = rows_of((args, kwargs)) or 0
        like = tuple(tuple(t.shape[1:]) for t in leaves((args, kwargs)) if has_rows(t))
        with _Theirs(self.name, (args, kwargs)):
            out = self.call(args, kwargs)
        return self.answers(out, n, like)

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the function says of a batch of tensors, which become what it takes."""
        if self.takes == "array":
            args, kwargs = map_leaves(as_array, (args, dict(kwargs)))
        elif self.takes == "images" and self.preprocess is not None:
            args = tuple(self.preprocess.inverse(t).numpy() for t in args)
        return self.function(*args, **kwargs)

    # -- what is given -----------------------------------------------------------------------------------------------

    def posed(self, inputs: Any, baseline: Any) -> tuple[Model, Any, Any]:
        if hasattr(inputs, "to_pandas") or hasattr(baseline, "to_pandas"):
            from .frame import as_frame

            inputs, baseline = as_frame(inputs), as_frame(baseline)
        takes = kind_of(inputs) if self.takes == "auto" else self.takes
        if self.takes == "auto" and takes == "images" and self.preprocess is not None:
            takes = "tensor"  # the preprocessing that came with the function says what it takes
        model = self if takes == self.takes else self.twin(self.function, takes=takes)
        if takes == "frame":
            from .frame import numbers, posed

            rows = numbers(model, inputs, baseline) if Needs.TREES in self.can else None
            return posed(model, inputs, baseline) if rows is None else rows
        if takes == "texts":
            return model.pose_texts(inputs, baseline)
        if takes == "images" and model.preprocess is None:
            model = model.twin(model.function, preprocess=ImagePreprocess(None, 0.0, 1.0))
        return model, inputs, baseline

    def pose_texts(self, inputs: Any, baseline: Any) -> tuple[Model, Any, Any]:
        """Texts as the presence of their words."""
        from ..modalities.text import TextMasker
        from .text import pose

        return pose(self, inputs, TextMasker(), baseline)

    def features(self, x: Tree) -> tuple[tuple[str, ...], ...] | None:
        return tuple(self.parts[i] for i in x["row"].tolist()) if self.parts is not None else super().features(x)

    def prepare(self, inputs: Any) -> Tree:
        if self.takes == "images" and isinstance(inputs, np.ndarray) and inputs.ndim == 4:
            inputs = list(inputs)
        if self.takes in ("array", "images") and not isinstance(inputs, (Tensor, Mapping, tuple)):
            inputs = inputs if self.takes == "images" else as_numbers(self.name, inputs)
        return super().prepare(inputs)


def kind_of(inputs: Any) -> str:
    """What a function that is given these inputs takes."""
    if hasattr(inputs, "iloc") and hasattr(inputs, "columns"):
        return "frame"
    some = list(inputs[:8]) if isinstance(inputs, (list, tuple)) else [inputs]
    if some and all(isinstance(s, str) for s in some):
        return "images" if all(is_path(s) for s in some) else "texts"
    if some and all(hasattr(s, "__fspath__") or hasattr(s, "getbands") or _bytes(s, 3) for s in some) or _bytes(inputs, 4):
        return "images"
    rows = isinstance(inputs, list) and not any(isinstance(s, Tensor) for s in some)
    return "array" if rows or isinstance(inputs, np.ndarray) else "tensor"


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def is_path(text: str) -> bool:
    """Whether a string names a picture rather than being a text."""
    return text.startswith("sample:") or text.lower().endswith(PICTURES)


def _bytes(a: Any, axes: int) -> bool:
    return isinstance(a, np.ndarray) and a.dtype == np.uint8 and a.ndim == axes and a.shape[-1] in (1, 3, 4)


def as_array(leaf: Any) -> Any:
    """A tensor as an array; types that numpy lacks as float32."""
    if not isinstance(leaf, Tensor):
        return leaf
    leaf = leaf.detach().cpu()
    return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()


def as_numbers(name: str, inputs: Any) -> Any:
    """Rows of numbers as an array of floating-point numbers: whole numbers too are mixed with what is absent."""
    try:
        array = np.asarray(inputs)
        array = array.astype(np.float64) if array.dtype.kind in "iubOUS" else array
    except (ValueError, TypeError):
        raise UsageError(f"{name} takes an array of numbers; these rows hold words or differ in length. A table with words is given as a DataFrame.") from None
    if array.dtype.kind != "f":
        raise UsageError(f"{name} takes an array of numbers; got values of type {array.dtype}.")
    if array.ndim < 2:
        raise UsageError(f"{name} takes rows of numbers, rows first; got an array of shape {array.shape}. For one row, give x[None].")
    return array


