"""How an explanation came about: versions, hashes, names of axes, predictions."""

import datetime
import platform
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .card import Card
from .hashing import hashed
from .question import Question
from .tree import leaves

if TYPE_CHECKING:
    from .estimator import Fitted
    from .procedure import Values

TOP = 5


def describe(q: Question, found: "Values", card: Card) -> dict[str, Any]:
    """The fields of an explanation that say what was asked, of what, and with what."""
    values = found.values
    return {
        "point": q.point, "target": q.target_names(), "at": found.at or q.at, "baseline": _baseline(q) if card.baseline else "none", "seed": q.seed, "ids": q.ids,
        "axes": axes_of(values, "column" if q.places else q.model.axis) if isinstance(values, Tensor) else (), "names": names(q, values), "picture": picture(q),
        "predictions": predictions(q), "provenance": provenance(q, found),
    }


def _baseline(q: Question) -> str:
    b = q.baseline
    return repr(b) if isinstance(b, (int, float)) else str(b) if isinstance(b, str) or hasattr(b, "n") else f"tensor {input_hash(b)}"


def axes_of(values: Tensor, feature: str = "column") -> tuple[str, ...]:
    """Names of the axes, by their number; the features of a row may be columns, or the words of a text."""
    known = {1: ("row",), 2: ("row", feature), 3: ("row", "position", "channel"), 4: ("row", "channel", "height", "width"), 5: ("row", "channel", "depth", "height", "width")}
    return known.get(values.ndim, ("row", *(f"axis {i}" for i in range(1, values.ndim))))


def names(q: Question, values: Any) -> dict[str, list[str]]:
    """The columns' (or words') names, where the values are a table's and all rows share them."""
    told = q.model.features(q.x) if not q.places and isinstance(values, Tensor) and values.ndim == 2 else None
    return {q.model.axis: list(told[0])} if told and len(set(told)) == 1 and len(told[0]) == values.shape[1] else {}


def picture(q: Question) -> Tensor | None:
    """(B, H, W, 3) bytes: the input as people see it."""
    images = [t for t in leaves(q.x) if isinstance(t, Tensor) and t.is_floating_point() and t.ndim == 4 and t.shape[1] in (1, 3)]
    if len(images) != 1:
        return None
    if q.model.preprocess is not None:
        return q.model.preprocess.inverse(images[0])
    x = images[0].detach().float().cpu()
    low, high = (f(x.flatten(1), 1).reshape(-1, 1, 1, 1) for f in (torch.amin, torch.amax))
    return ((x - low) / (high - low).clamp(min=1e-12) * 255).round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).contiguous()


def predictions(q: Question) -> tuple[tuple[tuple[str, float], ...], ...]:
    """The most probable classes of each row with their probabilities; nothing where the output is no row of classes."""
    out = q.own_outputs()
    if q.resolved_target().reads is not None or out.ndim != 2 or out.shape[1] < 2 or not q.model.chances:
        return ()
    p, index = _chances(out.float()).topk(min(TOP, out.shape[1]), dim=1)
    labels = q.model.labels
    name = lambda i: labels[i].split(",")[0] if labels and i < len(labels) else f"class {i}"  # noqa: E731
    return tuple(tuple((name(i), float(v)) for i, v in zip(ids.tolist(), ps, strict=True)) for ids, ps in zip(index, p, strict=True))


def _chances(out: Tensor) -> Tensor:
    """Probabilities as they are, logits through softmax: rows of no negative number that sum to one are probabilities."""
    return out if bool((out >= 0).all()) and bool(((out.sum(1) - 1).abs() < 1e-4).all()) else out.softmax(1)


def provenance(q: Question, found: "Values | Fitted") -> dict[str, Any]:
    """Versions, hashes and notes."""
    from .. import __version__

    notes = [n for n in (q.chosen, *q.model.notes, *found.notes, *q.engine.notes) if n]
    return {
        "pellucid": __version__, "torch": torch.__version__, "python": platform.python_version(), "device": str(q.model.device), "threads": torch.get_num_threads(),
        "model": q.model.name, "spec": q.model.spec, "model_hash": q.model.digest(), "input_hash": input_hash((q.x, _parts(q))), "notes": list(dict.fromkeys(notes)),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _parts(q: Question) -> tuple[Tensor, ...]:
    """What rows of presence are about, as bytes: their ones are the same for every text and table."""
    return (torch.frombuffer(bytearray(repr(q.model.features(q.x)).encode()), dtype=torch.uint8),) if q.model.absent else ()


def input_hash(x: Any) -> str:
    """A short hash of all tensors."""
    return hashed(t for t in leaves(x) if isinstance(t, Tensor))
