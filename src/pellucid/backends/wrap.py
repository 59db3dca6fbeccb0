"""`pel.wrap`: what you hold becomes a Model."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..core.errors import UsageError
from ..core.model import Model, Preprocess
from ..modalities.image import open_image
from .estimator import estimator_model, is_estimator
from .function import FunctionModel
from .onnx import is_session, session_model
from .torch_module import TorchModel, wrap_module
from .trees import is_booster, net_columns, scores, with_trees


def wrap(
    net: Any, *, labels: Sequence[str] | None = None, preprocess: Preprocess | None = None, name: str | None = None, output: int | str | None = None,
    differentiable: bool | None = None, spec: str = "", fold: bool = False, takes: str | None = None, columns: Sequence[str] | None = None,
) -> Model:
    """A model that can be asked questions, from a module, a callable, a fitted estimator or pipeline, or an ONNX Runtime session.

    `labels` names the outputs; `preprocess` turns a picture into a batch and back; `output` says which part of
    a tuple or mapping targets read. A callable is given what it `takes`: "tensor", "array" (numpy), "images" (bytes, rows x height x width x 3),
    "texts" (a list of strings) or "frame" (a DataFrame); unless said, what you ask about. It answers with a tensor, an array, lists, or mappings from
    label to number; `columns` names those of a table. `differentiable=True` lets gradients through a callable on tensors. `fold=True` folds
    BatchNorm into the layers before it, in a copy: up to a tenth faster, outputs equal to about 1e-6, but where a network
    has kinks gradients move more (EfficientNet-Lite0 on a photo: 4e-3 of the map's norm), so that it has to be asked for.
    The object itself is never changed.
    """
    if isinstance(net, Model):
        return folding(net) if fold else net
    settings: dict[str, Any] = {"labels": labels, "preprocess": preprocess, "output": output, "spec": spec, "name": name or _name(net)}
    if isinstance(net, nn.Module):
        if takes not in (None, "tensor"):
            raise UsageError(f"An nn.Module takes tensors; got takes={takes!r}. Wrap a function that calls it: pel.wrap(lambda rows: ..., takes={takes!r}).")
        model: Model = wrap_module(net, **settings)
        model.columns = list(columns) if columns is not None else None
    elif is_session(net):
        model = session_model(net, columns=columns, **settings)
    elif is_booster(net):
        model = with_trees(FunctionModel(scores(net), takes="array", columns=columns or net_columns(net), **settings), net)
    elif is_estimator(net):
        model = with_trees(estimator_model(net, takes, columns=columns, **settings), net)
    elif callable(net):
        model = FunctionModel(net, bool(differentiable), takes or "auto", columns, **settings)
    else:
        raise UsageError(f"pel.wrap needs an nn.Module, a callable, an estimator with predict, or an ONNX session; got {type(net).__name__}.")
    model.open = open_image
    return folding(model) if fold else model


def _name(net: Any) -> str:
    """What a model is called where nobody says."""
    if isinstance(net, nn.Module):
        return type(net).__name__
    return str(getattr(net, "__name__", type(net).__name__))


def folding(model: Model) -> Model:
    """The model, which from now on has its BatchNorm folded."""
    if not isinstance(model, TorchModel):
        raise UsageError(f"Folding BatchNorm needs an nn.Module; {model.name} is a {type(model).__name__}. Leave fold out.")
    model.fold = True
    return model
