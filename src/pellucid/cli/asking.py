"""What every command about inputs begins with: the model that is named, the inputs as it takes them, and a bar while it works."""

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from ..core.errors import UnknownName, UsageError
from . import inputs
from .parser import interactive
from .words import parameters

if TYPE_CHECKING:
    from ..core.model import Model

ENDPOINT = ("batch_size", "timeout", "retries", "backoff", "max_calls", "send", "read", "token_env")
UNITS = ("token", "word", "sentence")
"""Maskers of texts by name, which go with every method."""


def model_of(args: argparse.Namespace) -> "Model":
    """The model that is named, with its settings."""
    from ..backends.load import load

    return load(args.model, args.weights, args.trust, args.fold, **settings(args))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What `load` is told beyond the model's name: what a function takes, as far as the inputs say."""
    takes = args.takes or ("texts" if inputs.kind_of(args) == "texts" else None)
    asked = parameters(args.endpoint, "--endpoint")
    for name in asked:
        if name not in ENDPOINT:
            raise UnknownName("setting of an endpoint", name, ENDPOINT, f"It takes {', '.join(ENDPOINT)}.")
    if asked and not args.model.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint goes with an address, --model http://host/predict; got {args.model}.")
    return ({"takes": takes} if takes else {}) | asked


def given(args: argparse.Namespace, model: "Model") -> inputs.Given:
    """The inputs as the model takes them."""
    kind = inputs.kind_of(args)
    takes = getattr(model, "takes", None)
    if kind == "pictures" and takes == "texts":
        return inputs.texts(args)
    if kind == "pictures":
        if model.preprocess is None and takes not in ("auto", "images"):
            raise UsageError(f"Pictures need a model with preprocessing; {model.name} has none. Let the factory return pel.wrap(net, preprocess=..., labels=...).")
        return inputs.pictures(args)
    if kind == "table":
        table = inputs.table(args, model)
        model.columns = table.columns
        return table
    return inputs.texts(args)


@contextlib.contextmanager
def bar() -> Any:
    """A progress bar where a person watches; nothing elsewhere."""
    if not interactive():
        yield None
        return
    from tqdm import tqdm

    bars: list[Any] = []

    def watch(step: Any) -> None:
        if not bars or bars[-1].desc.rstrip(": ") != step.stage or bars[-1].total != step.total or step.done < bars[-1].n:
            for bar in bars:
                bar.close()
            bars.append(tqdm(total=step.total, desc=step.stage, unit="row", leave=False, file=sys.stderr))
        bars[-1].update(step.done - bars[-1].n)

    try:
        yield watch
    finally:
        for bar in bars:
            bar.close()
