"""`pel.load`: a model by its name, its file or its address, by the function that makes it, or that function itself."""

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..core.errors import ModelError, UnknownName, UsageError
from ..core.model import Model
from .wrap import folding, wrap

BUILT_IN: dict[str, tuple[str, str]] = {
    "efficientnet-lite0": ("pellucid.backends.efficientnet_lite:load", "EfficientNet-Lite0 on ImageNet, 4.7 M parameters, 1,000 classes (extra: demo)"),
}

ESTIMATORS = (".ubj", ".json", ".txt", ".skops", ".pkl", ".pickle", ".joblib")
"""Files that hold an estimator: see `pellucid.backends.model_files`."""


def names() -> dict[str, str]:
    """The built-in models, each with one line."""
    return {name: line for name, (_, line) in BUILT_IN.items()}


def model_of(model: Any) -> Model:
    """What a front door is given as a model: its name, or what a user holds."""
    return load(model) if isinstance(model, str) else wrap(model)


def load(spec: str, weights: str | Path | None = None, trust: bool = False, fold: bool = False, **settings: Any) -> Model:
    """A model by name ("efficientnet-lite0"), by what holds or makes it ("pkg.mod:factory", with `weights="x.safetensors"`), by file or by address.

    "pkg.mod:name" is a model, an estimator or pipeline, a function without arguments that makes one, or a function of one argument, which is
    the model itself. "model.ubj", "model.json" (XGBoost), "model.txt" (LightGBM) and "model.skops" are read as their libraries write them; "model.pkl" and
    "model.joblib", which can run code, with `trust=True` only. "model.onnx" is run by ONNX Runtime (extra: onnx). "http://host/predict" is asked over HTTP: see `pellucid.backends.http`.

    Weights are read from safetensors, or from a torch file with `weights_only=True`; a file that could run code is
    opened with `trust=True` only, and every explanation then says so.
    `fold=True` folds BatchNorm into the layers before it: see `pel.wrap`.
    The factory's own module is imported and run, as Python always does.
    """
    if spec in BUILT_IN:
        if weights is not None:
            raise UsageError(f"{spec} brings its own weights; --weights goes with a factory, 'pkg.mod:factory'.")
        model: Model = _resolve(BUILT_IN[spec][0])()
        model.spec = spec
        return folding(model) if fold else model
    if spec.lower().startswith(("http://", "https://")):
        from .http import endpoint_model

        return endpoint_model(spec, **_without_weights(spec, weights, settings))
    if spec.lower().endswith(".onnx"):
        from .onnx import open_session

        return wrap(open_session(spec), spec=spec, fold=fold, **_without_weights(spec, weights, settings))
    if Path(spec).suffix.lower() in ESTIMATORS:
        from .model_files import open_model

        return open_model(Path(spec), trust, fold=fold, **_without_weights(spec, weights, settings))
    if ":" not in spec:
        raise UnknownName("model", spec, BUILT_IN, "Built-in names come from `pellucid list models`; your own is written 'pkg.mod:factory'.")
    made, trusted = _call(_resolve(spec), spec), ""
    if isinstance(made, nn.Module) and weights is not None:
        trusted = _fill(made, Path(weights), trust)
    if isinstance(made, nn.Module):
        made.eval()
    model = wrap(made, fold=fold, name=settings.pop("name", spec.rpartition(":")[2]), **settings)
    model.spec = spec
    if trusted:
        model.notes.append(trusted)
    return model


def _without_weights(spec: str, weights: Any, settings: dict[str, Any]) -> dict[str, Any]:
    if weights is not None:
        raise UsageError(f"{spec} brings its own weights; --weights goes with a factory, 'pkg.mod:factory'.")
    return settings


def _call(made: Any, spec: str) -> Any:
    """What a factory makes; a function of one argument is the model itself."""
    if isinstance(made, (nn.Module, Model)) or not (inspect.isfunction(made) or isinstance(made, type)):
        return made
    wanted = [p.name for p in inspect.signature(made).parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(wanted) == 1 and not isinstance(made, type):
        return made
    if wanted:
        raise UsageError(f"A factory takes no arguments; {spec} asks for {', '.join(wanted)}. Write one that returns the finished model.")
    return made()


def _resolve(spec: str) -> Callable[..., Any]:
    module, _, name = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UsageError(f"The model {spec!r} needs the Python module {missing.name!r}, which is not here. Check the spelling, run from its folder, or install it.") from None
    if not hasattr(found, name):
        raise UnknownName(f"factory in {module}", name, [n for n in vars(found) if not n.startswith("_")])
    return getattr(found, name)


def _fill(module: nn.Module, path: Path, trust: bool) -> str:
    """Loads weights; without `trust`, no code from the file is ever run. Gives the note that the trust deserves."""
    if not path.is_file():
        raise UsageError(f"There is no weights file {str(path)!r}.")
    try:
        state, note = _state(path, trust)
        module.load_state_dict(state)
        return note
    except (SafetensorError, pickle.UnpicklingError):
        raise UsageError(f"{path.name} cannot be read as weights without running code from it. Save it with safetensors, or say trust=True (--trust) if you made it yourself.") from None
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as e:
        raise ModelError(f"The weights in {path.name} do not fit {type(module).__name__}: {str(e).splitlines()[0]}") from None


def _state(path: Path, trust: bool) -> tuple[Any, str]:
    if path.suffix == ".safetensors":
        return load_file(path), ""
    try:
        return torch.load(path, map_location="cpu", weights_only=True), ""
    except pickle.UnpicklingError:
        if not trust:
            raise
    state = torch.load(path, map_location="cpu", weights_only=False)
    return state.state_dict() if isinstance(state, nn.Module) else state, f"{path.name} was allowed to run code when it was read (trust)"
