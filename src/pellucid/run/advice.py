"""Which method fits a question, why, and what it cannot show: the walk behind `pel.advise` and `method="auto"`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core import catalogue
from ..core.card import Needs, placed
from ..core.errors import UnknownName, UsageError
from ..core.progress import Watcher
from ..core.question import Question, ask
from ..core.tree import leaves

GAMES = ("shapley", "permutation-shapley")
"""The methods for a model of which nothing but its answers is known, the first that there is."""
QUESTIONS = ("decision", "representation", "model")
"""Why this answer? What has a layer learnt? What matters over all inputs?"""
COSTS = {"fast": 4, "moderate": 300, "any": 10**9}
"""Rows that an explanation of one row may ask, forwards and back."""
ATTENTION = re.compile(r"attention|multihead", re.I)


@dataclass(frozen=True)
class Pick:
    """A method and the reason for it."""

    method: str
    reason: str


@dataclass(frozen=True)
class Step:
    """One question of the walk, and how it was answered."""

    asked: str
    answer: str


@dataclass(frozen=True)
class Advised:
    """A method that fits: why, what it cannot show, and about what one row costs."""

    method: str
    reason: str
    cannot: str
    cost: str
    rows: int
    place: str


@dataclass(frozen=True)
class Tuned:
    """Parameters that did best on a few rows, and what every setting reached."""

    parameters: dict[str, Any]
    metric: str
    rows: int
    tried: tuple[dict[str, Any], ...]
    note: str


@dataclass(frozen=True)
class Advice:
    """Methods in the order to try them, how they were arrived at, and parameters where they were tuned."""

    steps: tuple[Step, ...]
    methods: tuple[Advised, ...]
    tuned: Tuned | None = None

    @property
    def best(self) -> str:
        """The first method."""
        return self.methods[0].method

    def table(self) -> list[dict[str, Any]]:
        """A line a method."""
        return [asdict(m) for m in self.methods]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"steps": [asdict(s) for s in self.steps], "methods": self.table(), "tuned": asdict(self.tuned) if self.tuned else None}

    def __str__(self) -> str:
        walk = "\n".join(f"{s.asked} {s.answer}" for s in self.steps)
        picks = "\n".join(f"\n{k}. {m.method}: {m.reason}\n   Costs {m.cost}.\n   Cannot show: {m.cannot}" for k, m in enumerate(self.methods, 1))
        tuned = f"\n\nTuned by {self.tuned.metric}: {', '.join(f'{k}={v}' for k, v in self.tuned.parameters.items()) or 'the defaults'}. {self.tuned.note}" if self.tuned else ""
        return f"{walk}\n{picks}{tuned}"


def picked(q: Question, game: bool = False) -> Pick:
    """What `method="auto"` takes; `game` where players, a budget or a tolerance were named."""
    best = candidates(q, "decision", "any", game)[0]
    return Pick(best[0], f"auto: {best[0].replace('-', ' ') if best[0] == 'integrated-gradients' else best[0]}, {best[1]}")


def candidates(q: Question, question: str, cost: str, game: bool = False) -> list[tuple[str, str, int]]:
    """(method, reason, rows a row) of what applies, the best first."""
    found = [c for c in (_decision(q, game) if question == "decision" else _inside(q) if question == "representation" else _whole(q)) if c[0] in catalogue.entries("methods")]
    return [c for c in found if c[2] <= COSTS[cost]] or sorted(found, key=lambda c: c[2])[:1]


def _decision(q: Question, game: bool) -> list[tuple[str, str, int]]:
    can, picture = q.model.can, not q.places and any(getattr(t, "ndim", 0) == 4 for t in leaves(q.x))
    shap = next(n for n in GAMES if n in catalogue.entries("methods"))
    why = "since the parameters are those of a game" if Needs.GRADIENT in can else "since the model gives values only"
    games = [(shap, f"{why}; its values sum to the change of the answer, and each carries its error", 500), ("kernel-shap", "a few hundred answers give all players' shares, whatever the model", 300),
             ("feature-ablation", "one answer a player, the cheapest there is for a model that only answers", 30)]  # fmt: skip
    if Needs.TREES in can and not game:
        return [("tree-shap", "since the model is a sum over trees, whose Shapley values are exact and cheap", 1), *games]
    if Needs.GRADIENT not in can or game:
        return games
    start = "complete, fine-grained and best supported by evidence among the fast methods on photos" if picture else "complete against the baseline and checked for convergence"
    out = [("integrated-gradients", start, 100)]
    if picture and _has(q, "Conv"):
        out += [("grad-cam", "one backward pass shows the region; coarse, and rarely contradicted", 2)]
    if _has(q, ATTENTION.pattern):
        out += [("attn-lrp", "follows the answer back through attention in one pass", 2)]
    asks = [("rise", "asks answers only, and so tests what gradients cannot see", 4000)]
    return [*out, ("input-x-gradient", "one backward pass; exact where the model is linear", 2), *(asks if picture else []), *games]


def _inside(q: Question) -> list[tuple[str, str, int]]:
    if Needs.MODULES not in q.model.can:
        raise UsageError(f'question="representation" looks inside a network; {q.model.name} has no layers that can be seen. Ask question="decision".')
    maps = [("deep-feature-factorization", "divides a layer into a few parts and shows where each is, and what it does to the answer", 6)] if _has(q, "Conv") else []
    return [*maps, ("conductance", "which units of a layer carry the answer from the baseline to here", 100), ("activations", "what a layer holds, as it is", 2)]


def _whole(q: Question) -> list[tuple[str, str, int]]:
    return [("permutation-importance", "how much answers change when a column is taken from other rows; give the data as rows and as baseline", 100), *_decision(q, False)]


def _has(q: Question, kind: str) -> bool:
    return Needs.MODULES in q.model.can and any(re.search(kind, i.kind, re.I) for i in q.model.layers(q.x))


def advise(
    model: Any, inputs: Any, *, question: str = "decision", cost: str = "any", target: Any = None, at: Any = None, baseline: Any = None, masker: Any = None, tune: str | None = None,
    samples: int = 4, seed: int = 0, progress: Watcher | None = None,
) -> Advice:
    """Which method should answer this, why, and what can it not show?

    `question` is "decision" (why this answer?), "representation" (what is inside?) or "model" (what matters over all inputs?); `cost` "fast" (a pass or two a row), "moderate" or "any".
    `tune` names a metric: the first method's parameters are then tried on up to `samples` rows, and the cheapest of those within noise of the best is told.
    """
    for word, given, known in (("question", question, QUESTIONS), ("cost", cost, tuple(COSTS))):
        if given not in known:
            raise UnknownName(word, str(given), known, f"It takes {', '.join(known)}.")
    from ..backends.load import model_of
    from ..backends.text import posed, text_masker

    wrapped = model_of(model)
    posed_model, x, start = posed(wrapped, inputs, baseline, text_masker(masker))
    q = ask(posed_model, x, target, at, start, None, seed)
    try:
        found = candidates(q, question, cost)
        steps = _walk(q, question, cost, len(found))
        advice = Advice(steps, tuple(_told(*c) for c in found[:4]))
    finally:
        q.close()
    if tune is None:
        return advice
    asked = {"target": target, "at": at, "baseline": baseline, "seed": seed, "progress": progress}
    return Advice(advice.steps, advice.methods, tuned(wrapped, inputs, advice.best, tune, samples, {**asked, **({"masker": masker} if masker is not None else {})}))


def _walk(q: Question, question: str, cost: str, count: int) -> tuple[Step, ...]:
    can = q.model.can
    design = "It is a sum over trees: its Shapley values can be had exactly." if Needs.TREES in can else "No: it has to be explained from outside, and each explanation has to be tested."
    reads = [(Needs.TREES, "its trees can be read"), (Needs.MODULES, "its layers and gradients can be used"), (Needs.GRADIENT, "its gradients can be used")]
    kind = next((words for need, words in reads if need in can), "it only answers: any method has to ask")
    why = {"decision": "Explain a decision.", "representation": "Explore representations.", "model": "Explain the model over many inputs."}[question]
    return (Step("Explain a decision or explore representations?", why), Step("Interpretable by design?", design), Step("Any model, or this architecture?", f"{q.model.name}: {kind}."),
            Step("What may it cost?", f"{cost.capitalize()}: {count} method{'s' * (count != 1)} fit."))  # fmt: skip


def _told(name: str, reason: str, rows: int) -> Advised:
    entry = catalogue.entries("methods")[name]
    misleads = re.search(r"Misleads when: (.*?)(?:\n[A-Z][a-z]+: |\Z)", entry.doc, re.S)
    limit = " ".join(misleads[1].split()) if misleads else "whether the model is right about the world."
    return Advised(name, reason, limit, entry.card.cost, rows, placed("methods", entry.card).words())


def settings(name: str, most: int = 6) -> list[dict[str, Any]]:
    """The default and what lies beside it: half and twice of the first counts, other choices, one at a time."""
    out: list[dict[str, Any]] = [{}]
    for f in catalogue.entries("methods")[name].fields:
        if f.choices and isinstance(f.default, str):
            out += [{f.name: c} for c in f.choices if c != f.default]
        elif isinstance(f.default, (int, float)) and not isinstance(f.default, bool) and f.default and f.default == f.default:
            out += [{f.name: v} for v in (type(f.default)(f.default / 2), f.default * 2) if (f.ge is None or v >= f.ge) and (f.le is None or v <= f.le)]
    return out[: most + 1]


def tuned(model: Any, inputs: Any, name: str, metric: str, samples: int, asked: dict[str, Any]) -> Tuned:
    """The cheapest setting whose mean score is within a standard error of the best."""
    from .compare import chunked, compare
    from .comparison import better

    if metric not in catalogue.entries("metrics"):
        raise UnknownName("metric", metric, catalogue.entries("metrics"), "`pellucid list metrics` shows them all.")
    if not better(metric):
        raise UsageError(f"tune needs a metric with a better and a worse; {metric} has neither.")
    rows = next(iter(chunked(inputs, samples).parts))
    labelled = {", ".join(f"{k}={v}" for k, v in s.items()) or "defaults": s for s in settings(name)}
    found = compare(model, rows, methods={k: (name, s) for k, s in labelled.items()}, metrics=[metric], controls=False, pictures=0, chunk=max(samples, 1), **asked)
    scores = {c.name: [v for v in c.scores.get(metric, ()) if v is not None] for c in found.lines}
    return _best(labelled, scores, {c.name: c.cost.forward_rows + c.cost.backward_rows for c in found.lines}, metric, -1 if better(metric) == "lower" else 1, len(found.ids))


def _best(labelled: Mapping[str, dict[str, Any]], scores: Mapping[str, Sequence[float]], rows: dict[str, int], metric: str, sign: int, n: int) -> Tuned:
    known = {k: sign * sum(v) / len(v) for k, v in scores.items() if v}
    if not known:
        raise UsageError(f"tune could not score any setting by {metric}. Take another metric.")
    top = max(known, key=lambda k: known[k])
    own = [sign * v for v in scores[top]]
    noise = (sum((v - known[top]) ** 2 for v in own) / max(len(own) - 1, 1) / len(own)) ** 0.5
    chosen = min((k for k, v in known.items() if v >= known[top] - noise), key=lambda k: (rows[k], -known[k]))
    tried = tuple({"setting": k, "score": sign * known[k], "rows": rows[k] / max(n, 1)} for k in known)
    note = f"Chosen on {n} row{'s' * (n != 1)}, so test it on others: a setting is best where it was chosen."
    return Tuned(labelled[chosen], metric, n, tried, note)
