"""A comparison: several methods on the same rows of one model, with every number that a ranking rests on."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ..core.card import Card
from ..core.catalogue import entries
from ..core.estimator import Fitted
from ..core.evidence import Cost
from ..metrics._verdict import Interval, interval
from .ranking import Ranking, ranking

OWN = {"mask-fidelity-elsewhere": ("In this place, not elsewhere (z)", "higher"), "mask-fidelity-beyond": ("Beyond what the input alone shows", "higher"),
       "network-dependence": ("Another network, another map", "lower")}  # fmt: skip
"""Scores that come along with others: their titles, and which way is better."""
CONTROLS = {"random": "a random map", "edges": "an edge map", "centre": "a blob in the centre", "position": "the order of the words", "length": "the length of the words",
            "rarity": "the rarity of the words", "size": "the size of the cells"}  # fmt: skip
TAKEN_OUT = ("edges", "centre", "position", "length", "rarity", "size")
"""Controls that "beyond" takes out of every map, and that have nothing left there themselves."""


@dataclass(frozen=True)
class Compared:
    """One line of a comparison: a method or a control, its scores a row on every metric, its verdict and its cost."""

    name: str
    method: str
    parameters: dict[str, Any]
    control: bool
    scores: dict[str, tuple[float | None, ...]]
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    checks: Cost = field(default_factory=Cost)
    """What testing it took, beside what all methods share."""
    why: str = ""
    """Why there are no values, where the method does not apply."""


@dataclass(frozen=True)
class Shown:
    """One row as it is drawn: the picture, and each method's map as a share of its own largest magnitude."""

    name: str
    target: str
    agreement: float
    maps: dict[str, Tensor]
    picture: Tensor | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Fitted):
    """Which method explains this model best, at what cost, and where do the methods disagree?

    Scores stay apart: every metric ranks by itself, and nothing is added up. `agreement` is (K, K), the mean rank correlation of maps over rows,
    `names` its lines; `alike` how well the methods agree on each row, controls left out.
    """

    lines: tuple[Compared, ...] = ()
    metrics: tuple[str, ...] = ()
    ids: tuple[Any, ...] = ()
    groups: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    agreement: Tensor | None = None
    alike: tuple[float | None, ...] = ()
    shown: tuple[Shown, ...] = ()
    shared: Cost = field(default_factory=Cost)
    """What all methods share: the answers under masks."""

    @property
    def methods(self) -> tuple[Compared, ...]:
        """The lines that are methods."""
        return tuple(c for c in self.lines if not c.control)

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """One a metric that has a better and a worse; controls take no part in the ranks."""
        able = [c for c in self.methods if not c.why]
        kept = {m: {c.name: c.scores[m] for c in able if any(v is not None for v in c.scores.get(m, ()))} for m in self.metrics if better(m)}
        return tuple(ranking(m, better(m), scores, self.groups) for m, scores in kept.items() if len(scores) > 1)

    def interval(self, line: Compared, metric: str) -> Interval | None:
        """The mean of a line's scores with its 95 % interval over independent rows."""
        known = [(v, g) for v, g in zip(line.scores.get(metric, ()), self.groups, strict=False) if v is not None and math.isfinite(v)]
        return interval([v for v, _ in known], [g for _, g in known]) if known else None

    def beaten_by(self, metric: str) -> tuple[str, ...]:
        """The controls that do as well as the best method on a metric: reason to doubt what it ranks."""
        means = {c.name: (i.mean, c.control) for c in self.lines if (i := self.interval(c, metric))}
        taken = TAKEN_OUT if metric == "mask-fidelity-beyond" else ()
        means = {name: found for name, found in means.items() if name not in taken}
        own = [v for v, control in means.values() if not control]
        if not own or not better(metric):
            return ()
        lower = better(metric) == "lower"
        best = min(own) if lower else max(own)
        return tuple(name for name, (v, control) in means.items() if control and (v <= best if lower else v >= best))

    def most_disputed(self, most: int = 5) -> list[dict[str, Any]]:
        """The rows on which the methods' maps differ most: their agreement, and the two methods that differ most on average."""
        known = sorted((a, i) for i, a in enumerate(self.alike) if a is not None and math.isfinite(a))
        return [{"row": self.ids[i], "agreement": a} for a, i in known[:most]]

    def findings(self) -> tuple[str, ...]:
        """What a reader should take home, most important first."""
        return (*(r.words() for r in self.rankings[:1]), *_bad(self), *_controls(self), *_disagree(self))

    def table(self) -> list[dict[str, Any]]:
        """A line a method and a control: every metric with its 95 % interval over rows and its mean rank, the verdict, and the cost a row."""
        return [self._line(c) for c in self.lines]

    def _line(self, c: Compared) -> dict[str, Any]:
        out: dict[str, Any] = {"method": c.name, "control": c.control, "verdict": c.verdict or None}
        ranks = {r.metric: r.ranks for r in self.rankings}
        for m in self.metrics:
            i = self.interval(c, m)
            out |= {m: i and i.mean, f"{m} low": _finite(i and i.low), f"{m} high": _finite(i and i.high), f"{m} rank": ranks.get(m, {}).get(c.name)}
        n = max(len(self.ids), 1)
        return out | {"forward rows a row": c.cost.forward_rows / n, "backward rows a row": c.cost.backward_rows / n, "seconds a row": c.cost.seconds / n, "note": c.why}

    def disagreement(self) -> list[dict[str, Any]]:
        """The matrix of mean rank correlations between maps as rows of a table."""
        a = self.agreement
        return [] if a is None else [{"method": n, **{m: float(a[i, j]) for j, m in enumerate(self.names)}} for i, n in enumerate(self.names)]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data: the table, all scores row by row, tests, agreement, findings."""
        lines = [{"method": c.name, "scores": {m: list(v) for m, v in c.scores.items()}, "verdicts": list(c.verdicts), "reasons": list(c.reasons),
                  "parameters": {k: repr(v) for k, v in c.parameters.items()}} for c in self.lines]  # fmt: skip
        more = {"ids": [str(i) for i in self.ids], "metrics": list(self.metrics), "lines": lines, "rankings": [r.to_dict() for r in self.rankings], "agreement": self.disagreement()}
        return _strict({**super().to_dict(), **more, "disputed": self.most_disputed(), "findings": list(self.findings()), "shared_cost": vars(self.shared)})


def card(metric: str) -> Card | None:
    """A metric's card; None for a score that came along with another."""
    entry = entries("metrics").get(metric)
    return entry.card if entry else None


def title(metric: str) -> str:
    """A metric's title in words."""
    found = card(metric)
    return found.title if found else OWN[metric][0] if metric in OWN else metric


def better(metric: str) -> str:
    """Which way a metric is better: "higher", "lower", or "" where neither is."""
    found = card(metric)
    return found.better if found else OWN[metric][1] if metric in OWN else ""


def _bad(c: Comparison) -> tuple[str, ...]:
    named = [m.name for m in c.methods if m.verdict == "contradicted"]
    failed = [f"{m.name} could not be compared: {m.why}" for m in c.methods if m.why]
    return (*([f"Contradicted by the model: {', '.join(named)}."] if named else []), *failed)


def _controls(c: Comparison) -> tuple[str, ...]:
    told: dict[str, list[str]] = {}
    for m in c.metrics:
        for name in c.beaten_by(m):
            told.setdefault(name, []).append(m)
    return tuple(f"No method beats {CONTROLS.get(name, name)}, which knows nothing of the model, on {', '.join(on)}: these scores rank little here." for name, on in told.items())


def _disagree(c: Comparison) -> tuple[str, ...]:
    own = [i for i, n in enumerate(c.names) if n in {m.name for m in c.methods}]
    if c.agreement is None or len(own) < 2:
        return ()
    pairs = [(float(c.agreement[i, j]), c.names[i], c.names[j]) for i in own for j in own if i < j and math.isfinite(float(c.agreement[i, j]))]
    if not pairs:
        return ()
    (low, a, b), mean = min(pairs), sum(p[0] for p in pairs) / len(pairs)
    word = "agree" if mean > 0.7 else "agree in part" if mean > 0.4 else "disagree"
    disputed = c.most_disputed(1)
    where = f", most on {row_name(disputed[0]['row'])} ({disputed[0]['agreement']:.2f})" if disputed and len(c.ids) > 1 else ""
    return (f"The methods {word}: mean rank correlation of their maps {mean:.2f}, least between {a} and {b} ({low:.2f}){where}.",)


def row_name(row: Any) -> str:
    """A row as people read it."""
    return f"row {row}" if isinstance(row, int) else str(row)


def _finite(v: float | None) -> float | None:
    return v if v is not None and math.isfinite(v) else None


def _strict(v: Any) -> Any:
    """Plain data whose numbers JSON can hold."""
    if isinstance(v, dict):
        return {str(k): _strict(w) for k, w in v.items()}
    if isinstance(v, (list, tuple)):
        return [_strict(w) for w in v]
    return None if isinstance(v, float) and not math.isfinite(v) else v
