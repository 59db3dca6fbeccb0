"""`pel.wrap`: what you hold becomes a Model."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..core.errors import UsageError
from ..core.model import Model, Preprocess
from ..modalities.image import open_image
from .function import FunctionModel
from .torch_module import TorchModel, wrap_module


def wrap(
    net: Any, *, labels: Sequence[str] | None = None, preprocess: Preprocess | None = None, name: str | None = None, output: int | str | None = None,
    differentiable: bool | None = None, spec: str = "", fold: bool = False,
) -> Model:
    """A model that can be asked questions, from a module or a callable.

    `labels` names the outputs; `preprocess` turns a picture into a batch and back; `output` says which part of
    a tuple or mapping targets read; `differentiable=True` lets gradients through a plain callable. `fold=True` folds
    BatchNorm into the layers before it, in a copy: up to a tenth faster, outputs equal to about 1e-6, but where a network
    has kinks gradients move more (EfficientNet-Lite0 on a photo: 4e-3 of the map's norm), so that it has to be asked for.
    The object itself is never changed.
    """
    if isinstance(net, Model):
        return folding(net) if fold else net
    settings = {"labels": labels, "preprocess": preprocess, "output": output, "spec": spec}
    if isinstance(net, nn.Module):
        model: Model = wrap_module(net, name=name or type(net).__name__, **settings)
    elif callable(net):
        model = FunctionModel(net, bool(differentiable), name=name or getattr(net, "__name__", type(net).__name__), **settings)
    else:
        raise UsageError(f"pel.wrap needs an nn.Module or a callable on tensors; got {type(net).__name__}.")
    model.open = open_image
    return folding(model) if fold else model


def folding(model: Model) -> Model:
    """The model, which from now on has its BatchNorm folded."""
    if not isinstance(model, TorchModel):
        raise UsageError(f"Folding BatchNorm needs an nn.Module; {model.name} is a {type(model).__name__}. Leave fold out.")
    model.fold = True
    return model
