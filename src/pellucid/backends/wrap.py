"""`pel.wrap`: what you hold becomes a Model."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..core.errors import UsageError
from ..core.model import Model, Preprocess
from ..modalities.image import open_image
from .function import FunctionModel
from .torch_module import wrap_module


def wrap(
    net: Any, *, labels: Sequence[str] | None = None, preprocess: Preprocess | None = None, name: str | None = None, output: int | str | None = None,
    differentiable: bool | None = None, spec: str = "",
) -> Model:
    """A model that can be asked questions, from a module or a callable.

    `labels` names the outputs; `preprocess` turns a picture into a batch and back; `output` says which part of
    a tuple or mapping targets read; `differentiable=True` lets gradients through a plain callable.
    The object itself is never changed.
    """
    if isinstance(net, Model):
        return net
    settings = {"labels": labels, "preprocess": preprocess, "output": output, "spec": spec}
    if isinstance(net, nn.Module):
        model: Model = wrap_module(net, name=name or type(net).__name__, **settings)
    elif callable(net):
        model = FunctionModel(net, bool(differentiable), name=name or getattr(net, "__name__", type(net).__name__), **settings)
    else:
        raise UsageError(f"pel.wrap needs an nn.Module or a callable on tensors; got {type(net).__name__}.")
    model.open = open_image
    return model
