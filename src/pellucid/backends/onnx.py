"""ONNX Runtime sessions as models: values only, inputs by order or by name, in the types that the graph asks for."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ModelError, UsageError
from ..core.tree import Tree, leaves, map_leaves
from .function import FunctionModel, as_array

TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16,
    "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


def open_session(path: str | Path) -> Any:
    """A session on the CPU from an .onnx file."""
    if not Path(path).is_file():
        raise UsageError(f"There is no model file {str(path)!r}.")
    try:
        ort = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise UsageError(f"{Path(path).name} needs the package 'onnxruntime'. Install the extra: pip install 'pellucid[onnx]'.") from None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError, *_failures(ort)) as e:
        raise UsageError(f"{Path(path).name} cannot be read as an ONNX model: {_sentence(e)}") from None


def is_session(net: Any) -> bool:
    """Whether an object is a session of ONNX Runtime's."""
    return type(net).__name__ == "InferenceSession" and type(net).__module__.partition(".")[0] == "onnxruntime"


def session_model(session: Any, **settings: Any) -> "OnnxModel":
    """The session as a model."""
    if settings.get("name") in (None, "InferenceSession"):
        path = getattr(session, "_model_path", None)
        settings["name"] = Path(path).stem if path else "onnx model"
    return OnnxModel(session, **settings)


class OnnxModel(FunctionModel):
    """A session; whole batches where the graph takes any number of rows, else as many as it was exported for."""

    def __init__(self, session: Any, output: int | str | None = None, **settings: Any) -> None:
        names = [o.name for o in session.get_outputs()]
        if output is not None and output not in names and not (isinstance(output, int) and -len(names) <= output < len(names)):
            raise UsageError(f"output needs to be one of the model's outputs, {', '.join(names)}, or a number; got {output!r}.")
        asked = names if output is None else [output if isinstance(output, str) else names[output]]
        super().__init__(Session(session, tuple(asked), settings["name"]), takes="tensor", **settings)
        self.answers.whole = True
        first = session.get_inputs()[0]
        if first.type in ("tensor(float)", "tensor(double)", "tensor(float16)"):
            self.dtype = torch.from_numpy(np.empty(0, TYPES[first.type])).dtype

    def prepare(self, inputs: Any) -> Tree:
        """Whole numbers too become floating-point ones where the graph takes such: they are mixed with what is absent."""
        x = super().prepare(inputs)
        floats = self.function.floats
        given = leaves(x)
        if len(given) != len(floats):
            raise UsageError(f"{self.name} takes {len(floats)} input{'s' * (len(floats) != 1)}, {', '.join(i.name for i in self.function.inputs)}; got {len(given)}.")
        order = [i.name for i in self.function.inputs]
        wanted = [floats[order.index(k)] if k in order else False for k in x] if isinstance(x, Mapping) else floats
        turn = iter(wanted)
        return map_leaves(lambda t: t.to(self.dtype) if next(turn) and isinstance(t, Tensor) and self.dtype is not None else t, x)


@dataclass(frozen=True, eq=False)
class Session:
    """What runs a session on tensors and gives one answer, or a mapping of all outputs."""

    session: Any
    outputs: tuple[str, ...]
    name: str

    @property
    def inputs(self) -> list[Any]:
        """The graph's inputs, by name, type and shape."""
        return list(self.session.get_inputs())

    @property
    def floats(self) -> list[bool]:
        """Which inputs are floating-point numbers."""
        return [i.type in ("tensor(float)", "tensor(double)", "tensor(float16)") for i in self.inputs]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        feeds = self._feeds(args, kwargs)
        n, fixed = len(next(iter(feeds.values()))), self._fixed()
        if fixed is None:
            return self._told(self._run(feeds))
        parts = [self._padded({k: v[i : i + fixed] for k, v in feeds.items()}, fixed) for i in range(0, n, fixed)]
        return self._told([_cut([p[k] for p in parts], n) for k in range(len(self.outputs))])

    def _feeds(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Every input by its name, as an array of its type."""
        inputs = self.inputs
        given = dict(zip((i.name for i in inputs), args, strict=False)) | dict(kwargs)
        for name in given:
            if name not in {i.name for i in inputs}:
                raise ModelError(f"{self.name} has no input {name!r}; it takes {', '.join(i.name for i in inputs)}.")
        for i in inputs:
            if i.type not in TYPES:
                raise ModelError(f"{self.name} takes {i.type} as {i.name!r}; Pellucid feeds numbers. Wrap a function that calls the session: pel.wrap(f, takes='texts').")
        return {i.name: as_array(given[i.name]).astype(TYPES[i.type]) for i in inputs if i.name in given}

    def _fixed(self) -> int | None:
        """The number of rows that the graph was exported for; None where it takes any."""
        sizes = [i.shape[0] for i in self.inputs if i.shape]
        return next((s for s in sizes if isinstance(s, int) and s > 0), None)

    def _padded(self, feeds: dict[str, Any], rows: int) -> list[Any]:
        """A batch of the fixed size; the last row fills it up and its answers are cut off."""
        return self._run({k: np.concatenate([v, v[-1:].repeat(rows - len(v), 0)]) for k, v in feeds.items()})

    def _run(self, feeds: dict[str, Any]) -> list[Any]:
        ort = importlib.import_module("onnxruntime")
        try:
            return list(self.session.run(list(self.outputs), feeds))
        except _failures(ort) as e:
            shapes = ", ".join(f"{k} {v.shape} {v.dtype}" for k, v in feeds.items())
            raise ModelError(f"{self.name} could not be run by ONNX Runtime on {shapes}: {_sentence(e)}") from None

    def _told(self, out: list[Any]) -> Any:
        """One output as it is; of several the one with labels and chances, or all by name."""
        if len(out) == 1:
            return out[0]
        chances = [o for o in out if isinstance(o, list) and o and isinstance(o[0], Mapping)]
        if len(chances) == 1:
            return chances[0]
        return {n: torch.from_numpy(np.array(o)) for n, o in zip(self.outputs, out, strict=True) if isinstance(o, np.ndarray) and o.dtype.kind in "fiub"}


def _cut(parts: list[Any], n: int) -> Any:
    return [row for p in parts for row in p][:n] if isinstance(parts[0], list) else np.concatenate(parts)[:n]


def _failures(ort: Any) -> tuple[type[BaseException], ...]:
    """What ONNX Runtime raises: classes of its own, which share no base but Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented", "RuntimeException", "EPFail", "ModelLoaded", "EngineError", "NoModel")
    return tuple(c for c in (getattr(state, n, None) for n in names) if isinstance(c, type))


def _sentence(e: BaseException) -> str:
    """The first line of what ONNX Runtime says, without its code."""
    return str(e).strip().splitlines()[0].rpartition(" : ")[2][:300] or type(e).__name__
