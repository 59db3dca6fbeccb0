"""Models for the command line to load: `e2e.nets:small`, and every way in which one can go wrong."""

import os
import signal
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.backends import wrap
from pellucid.core.model import Model
from pellucid.modalities.image import ImagePreprocess

LABELS = ["cat", "dog", "cup", "daisy", "palace"]


class Net(nn.Module):
    """A small convolutional net on 32 x 32 pictures; `after` has the last word on what it gives."""

    def __init__(self, after: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(8, len(LABELS))
        self.after = after

    def forward(self, x: Tensor) -> Any:
        out = self.head(self.body(x).mean((2, 3)))
        return out if self.after is None else self.after(x, out)


def _model(after: Any = None) -> Model:
    return wrap(Net(after).eval(), labels=LABELS, preprocess=ImagePreprocess(32, 0.5, 0.5), name="small net")


def small() -> Model:
    return _model()


def without_preprocessing() -> nn.Module:
    return Net()


def needs_an_argument(width: int) -> nn.Module:
    return Net()


def gives_nan() -> Model:
    return _model(lambda x, out: out * float("nan"))


def gives_a_tuple() -> Model:
    return _model(lambda x, out: (out, x))


def gives_a_word() -> Model:
    return _model(lambda x, out: "cat")


def _raise(x: Tensor, out: Tensor) -> Tensor:
    raise RuntimeError("the net is tired")


def raises() -> Model:
    return _model(_raise)


def wants_another_size() -> Model:
    return wrap(nn.Sequential(nn.Flatten(), nn.Linear(7, 5)).eval(), preprocess=ImagePreprocess(32, 0.5, 0.5), name="another size")


CALLS: list[int] = []


def _press_ctrl_c(x: Tensor, out: Tensor) -> Tensor:
    """Ctrl-C in the middle of the work: at the twelfth forward pass."""
    CALLS.append(len(x))
    if len(CALLS) == 12:
        os.kill(os.getpid(), signal.SIGINT)
    return out


def interrupted() -> Model:
    CALLS.clear()
    return _model(_press_ctrl_c)
