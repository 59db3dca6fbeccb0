"""`pel.explain` and `pel.assess`: a question, a method, its evidence, in one call."""

from typing import Any

import torch
from torch import Tensor

from ..backends.load import model_of
from ..backends.text import posed, text_masker
from ..core import catalogue
from ..core.card import Card
from ..core.errors import UsageError
from ..core.evidence import Cost
from ..core.explanation import Explanation
from ..core.procedure import Method, Values
from ..core.progress import Watcher, watching
from ..core.provenance import describe
from ..core.question import Question, ask
from ..core.tree import Tree, each, leaves
from .advice import picked

LEVELS = ("none", "basic", "full")


def explain(
    model: Any, inputs: Any, *, method: str | Method = "auto", target: Any = None, at: Any = None, baseline: Any = None, evidence: str = "basic",
    ids: Any = None, seed: int = 0, batch_size: Any = None, progress: Watcher | None = None, **parameters: Any,
) -> Explanation:
    """Why did the model answer as it did?

    `model` is a Model, an nn.Module, a callable, an estimator or a name; `inputs` a batch (rows first), a tree of batches, a picture, texts or a DataFrame,
    whose `baseline` is a DataFrame too: the rows that absent cells are taken from.
    `target` None is the model's own prediction; a list of Targets asks every row once a target, next to each other, and
    shares the forward passes. `at` explains a layer instead of the input. `evidence` is "none",
    "basic" (128 forward rows a row, up to 512 where eight rows or fewer leave the verdict open, and one more explanation)
    or "full" (twice the masks, a second way to hide, and noise on the input). Other keywords are the method's parameters.
    """
    if evidence not in LEVELS:
        raise UsageError(f"evidence needs to be one of {', '.join(LEVELS)}; got {evidence!r}.")
    model, inputs, baseline = posed(model_of(model), inputs, baseline, text_masker(parameters.get("masker", getattr(method, "masker", None))))
    q = ask(model, inputs, target, at, baseline, ids, seed, batch_size)
    chosen, reason = _method(method, q, parameters)
    with watching(progress):
        e = chosen(q)
        if reason:
            e = _noted(e, reason)
        return e if evidence == "none" else _with_evidence(e, chosen, evidence)


def assess(model: Any, inputs: Any, values: Any, target: Any = None, *, at: Any = None, evidence: str = "basic", seed: int = 0, progress: Watcher | None = None) -> Explanation:
    """Can a map that was made elsewhere be trusted? The same evidence, for values shaped like the input or (B, H, W)."""
    q = ask(model_of(model), inputs, target, at, None, None, seed, None)
    with watching(progress):
        found = Values(_fitted(values, q), notes=("the values were made elsewhere",))
        card = Card(title="made elsewhere", paper="")
        e = Explanation(values=found.values, method="elsewhere", parameters={}, total=q.target_values(), cost=Cost(), question=q, **describe(q, found, card))
        return _with_evidence(e, None, evidence)


def _with_evidence(e: Explanation, method: Method | None, level: str) -> Explanation:
    from ..metrics._evidence import gather

    q = e.question.unplanned()
    try:
        return e.with_(evidence=gather(q, e, method, level))
    finally:
        q.close()


def _method(method: str | Method, q: Question, parameters: dict[str, Any]) -> tuple[Method, str]:
    if isinstance(method, Method):
        if parameters:
            raise UsageError(f"Parameters go into the method itself; got {', '.join(parameters)} beside a {type(method).__name__}.")
        return method, ""
    if not isinstance(method, str):
        raise UsageError(f"method needs a name or a Method; got {type(method).__name__}.")
    name, reason = (advice.method, advice.reason) if method == "auto" and (advice := picked(q, bool({"masker", "budget", "tol"} & set(parameters)))) else (method, "")
    known = catalogue.entries("methods").get(name)
    if text_masker(parameters.get("masker")) is not None and known is not None and "masker" not in [f.name for f in known.fields]:
        parameters = {k: v for k, v in parameters.items() if k != "masker"}  # the question is about its pieces already
    return catalogue.make("methods", name, **parameters), reason


def _noted(e: Explanation, note: str) -> Explanation:
    return e.with_(provenance={**e.provenance, "notes": [note, *e.provenance["notes"]]})


def _fitted(values: Any, q: Question) -> Tree:
    """Values as a tensor like the point; (H, W) and (B, H, W) maps get the channel axis."""
    point = q.point
    if not isinstance(point, Tensor):
        return each(lambda v: torch.as_tensor(v).detach(), values)
    v = torch.as_tensor(values).detach()
    if point.ndim == 4:
        v = v[None, None] if v.ndim == 2 else v[:, None] if v.ndim == 3 and len(v) == len(point) and v.shape[1:] == point.shape[2:] else v
    fits = v.shape == point.shape or (point.ndim == 4 and v.ndim == 4 and len(v) == len(point) and v.shape[1] == 1)
    if not fits:
        raise UsageError(f"assess needs values shaped like the input, {tuple(point.shape)}, or one map a row; got {tuple(v.shape)}.")
    if not all(torch.isfinite(t).all() for t in leaves(v)):
        raise UsageError("assess needs finite values; these hold NaN or infinity.")
    return v
