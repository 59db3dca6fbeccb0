"""If-then rules that hold a row's answer in place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.card import Card, param
from ..core.errors import NotApplicable, UsageError
from ..core.estimator import Estimator, Fitted
from ..core.points import Points
from ..core.question import Question
from ..core.rows import row_seed
from ..modalities.columns import Column, columns_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
TESTED = 3
"""Rules of one length that are put to the test."""
CUTS = 10
"""Quantiles at which a column of numbers may be cut, beside the cuts of a small tree."""


@dataclass(frozen=True)
class Predicate:
    """What one column holds: a number above or up to a cut, a word, or nothing."""

    column: int
    kind: str
    """Either "above", "up to", "is", "missing" or "known"."""
    value: float = 0.0

    def holds(self, cells: Floats) -> Mask:
        """(n,) where a column's cells agree."""
        if self.kind in ("missing", "known"):
            return np.asarray(np.isnan(cells) == (self.kind == "missing"))
        with np.errstate(invalid="ignore"):
            return np.asarray(cells > self.value if self.kind == "above" else cells <= self.value if self.kind == "up to" else cells == self.value)

    def words(self, c: Column) -> str:
        """As people read it."""
        return f"{c.name} is {self.kind}" if self.kind in ("missing", "known") else f"{c.name} {'is' if self.kind == 'is' else '>' if self.kind == 'above' else '≤'} {c.word(self.value)}"


@dataclass(frozen=True)
class Anchor:
    """The rule of one row. Where it holds, `precision` of what was drawn has the row's answer; surely at least `low` of it (but for a chance of `delta`)."""

    row: int
    conditions: tuple[str, ...]
    answer: str
    precision: float
    low: float
    draws: int
    """Fresh draws that the precision was measured on."""
    coverage: float
    coverage_low: float
    coverage_high: float
    reached: bool
    """Whether `low` is at least what was asked for."""
    asked: int
    """Model rows that were asked for this row."""

    def text(self) -> str:
        """The rule as a sentence."""
        if not self.conditions:
            return f"The answer is {self.answer} for almost every row: nothing needs to hold." if self.reached else f"No rule was found that holds the answer {self.answer}."
        return f"If {' and '.join(self.conditions)}, the answer is {self.answer}."


@dataclass(frozen=True, kw_only=True, eq=False)
class AnchorRules(Fitted):
    """A rule for each row that was asked about."""

    anchors: tuple[Anchor, ...] = ()
    threshold: float = 0.95
    within: str = ""
    """What counts as the same answer, where answers are numbers."""

    def table(self) -> list[dict[str, Any]]:
        return [{"row": a.row, "rule": a.text(), "precision": a.precision, "at least": a.low, "draws": a.draws, "coverage": a.coverage, "reached": a.reached, "rows": a.asked} for a in self.anchors]


@dataclass(frozen=True, kw_only=True)
class Anchors(Estimator):
    """Which few facts about a row are enough for its answer, whatever else changes?

    How: a rule grows by the predicate that keeps most of the answer, several rules side by side. What a rule leaves open is drawn from rows of the data; columns that break it
        take cells from rows that keep it. Predicates are words, "is missing" and "is known", and numbers above or up to a cut (quantiles, and those of a small tree on the answers).
        A rule is accepted where, on draws that no choice was made on, the exact binomial (Clopper-Pearson) bound of its precision reaches `threshold`; of those of the same length the widest.
    Units: precision is a share of draws, coverage a share of rows of the data.
    Misleads when: columns depend on each other (draws mix rows, and hold combinations that never occur); coverage is small: the rule then tells little but the row itself.
    Source: Ribeiro, Singh and Guestrin 2018, AAAI, 10.1609/aaai.v32i1.11491, section 3; Clopper and Pearson 1934, 10.1093/biomet/26.4.404.
    """

    card = Card(title="Anchors", paper="Ribeiro, Singh and Guestrin 2018, doi:10.1609/aaai.v32i1.11491", cost="each row of data once, at most budget forward rows a row", random=True, scope="local")

    rows: tuple[int, ...] = param((0,), "rows of the data that are explained, by their numbers")
    threshold: float = param(0.95, "share of draws that a rule has to hold the answer for", ge=0.5, le=0.999)
    delta: float = param(0.05, "chance that a rule's precision is less than its bound", ge=1e-6, le=0.5)
    longest: int = param(6, "conditions in a rule at most", ge=1, le=20)
    beam: int = param(4, "rules that grow side by side", ge=1)
    draws: int = param(400, "fresh draws on which a rule is tested", ge=50, unit="rows")
    budget: int = param(15000, "model rows that may be asked for a row", ge=500, unit="rows")
    near: float = param(0.5, "where answers are numbers: how far from the row's own still counts as the same", ge=0, unit="standard deviations")

    def fit(self, q: Question) -> AnchorRules:
        """A rule for each row."""
        if q.places or not isinstance(q.x, Tensor):
            raise NotApplicable(f"{self.name} reads rows of a table; ask at the input.")
        columns = columns_of(q)
        rows = [self.rows] if isinstance(self.rows, int) else list(self.rows)
        for r in rows:
            if not isinstance(r, int) or not 0 <= r < q.size:
                raise UsageError(f"{self.name} needs rows by their numbers, 0 to {q.size - 1}; got {r!r}.")
        if q.size < 2:
            raise UsageError(f"{self.name} needs rows of data that other cells are drawn from; got one row.")
        data, out = q.x.detach().cpu().double().numpy(), q.own_outputs()
        found = tuple(self._anchor(q, r, columns, data, out) for r in rows)
        lost = sum(not a.reached for a in found)
        notes = (f"no rule of at most {self.longest} conditions was sure to hold for {self.threshold:.0%} in {lost} of {len(found)} rows; the most precise one is shown",) if lost else ()
        number = out[0].numel() == 1
        return AnchorRules(anchors=found, threshold=self.threshold, within=f"within {self.near:g} standard deviations of the row's answer" if number else "", notes=notes)

    def _anchor(self, q: Question, row: int, columns: tuple[Column, ...], data: Floats, out: Tensor) -> Anchor:
        alike = _likeness(out, row, self.near)
        draw = np.random.default_rng(row_seed(q.seed, q.ids[row], 0))
        sampler = Sampler(q.take(torch.tensor([row])), data, alike, draw, self.budget)
        known = predicates(columns, data, data[row], np.asarray(alike(out)))
        rule, hits, n = self._search(sampler, known, np.asarray(alike(out)))
        low = bound(hits, n, self._share)
        cover = int(_hold(rule, data).sum())
        near_low, near_high = bound(cover, len(data), 0.025), 1 - bound(len(data) - cover, len(data), 0.025)
        words = tuple(p.words(columns[p.column]) for p in sorted(rule, key=lambda p: (p.column, p.kind)))
        return Anchor(row, words, _answer(q, out[row]), hits / n if n else float("nan"), low, n, cover / len(data), near_low, near_high, low >= self.threshold, sampler.asked)

    @property
    def _share(self) -> float:
        """The chance of being wrong that one of all tests may have."""
        return self.delta / (1 + TESTED * self.longest + self.longest)

    def _search(self, sampler: "Sampler", known: list[Predicate], same: Mask) -> tuple[tuple[Predicate, ...], int, int]:
        """The widest rule of the shortest length that passes its test, with the hits and draws of the test; the most precise one where none passes."""
        best: tuple[tuple[Predicate, ...], int, int] = ((), *sampler.test((), self.draws))
        if bound(best[1], best[2], self._share) >= self.threshold:
            return best
        beams: list[tuple[Predicate, ...]] = [()]
        for _ in range(self.longest):
            grown = self._grown(sampler, beams, known, same)
            if not grown or sampler.left < self.draws:
                break
            passed = []
            for rule in grown[:TESTED]:
                tried = (rule, *sampler.test(rule, self.draws))
                best = max(best, tried, key=lambda t: t[1] / max(t[2], 1))
                if bound(tried[1], tried[2], self._share) >= self.threshold:
                    passed.append(tried)
            if passed:
                return self._pruned(sampler, max(passed, key=lambda t: (sampler.cover(t[0]), t[1])))
            beams = grown[: self.beam]
        return best

    def _grown(self, sampler: "Sampler", beams: list[tuple[Predicate, ...]], known: list[Predicate], same: Mask) -> list[tuple[Predicate, ...]]:
        """Rules with one predicate more, the most promising first: judged on draws that keep the shorter rule."""
        scores: dict[tuple[Predicate, ...], tuple[float, float]] = {}
        for rule in beams:
            z, hit = (sampler.data, same) if not rule else sampler.drawn(rule, self.draws)
            for p in known:
                if p in rule or any(p.column == o.column and p.kind == o.kind for o in rule):
                    continue
                longer = tuple(sorted((*rule, p), key=lambda o: (o.column, o.kind)))
                mine = p.holds(z[:, p.column])
                if mine.any() and longer not in scores:
                    n, k = int(mine.sum()), int(hit[mine].sum())
                    sure = (k + 1) / (n + 2) - 0.5 / np.sqrt(n + 4)
                    scores[longer] = (round(min(sure, self.threshold + 0.03), 2), sampler.cover(longer))
        return sorted(scores, key=lambda r: (-scores[r][0], -scores[r][1]))

    def _pruned(self, sampler: "Sampler", passed: tuple[tuple[Predicate, ...], int, int]) -> tuple[tuple[Predicate, ...], int, int]:
        """The same less predicates that are not needed."""
        for p in passed[0]:
            shorter = tuple(o for o in passed[0] if o != p)
            if not shorter or sampler.left < self.draws:
                continue
            tried = (shorter, *sampler.test(shorter, self.draws))
            if bound(tried[1], tried[2], self._share) >= self.threshold:
                passed = tried
        return passed


class Sampler:
    """Draws what a rule leaves open, and asks whether the answer stays."""

    def __init__(self, q: Question, data: Floats, alike: Any, draw: np.random.Generator, budget: int) -> None:
        self.q, self.data, self.alike, self.draw, self.left, self.asked = q, data, alike, draw, budget, 0

    def cover(self, rule: Sequence[Predicate]) -> float:
        """The share of data rows that keep a rule."""
        return float(_hold(rule, self.data).mean())

    def drawn(self, rule: Sequence[Predicate], n: int) -> tuple[Floats, Mask]:
        """(n, P) rows of data that are made to keep a rule, and whether each has the answer."""
        n = min(n, self.left)
        z = self.data[self.draw.integers(len(self.data), size=n)].copy()
        for j in sorted({p.column for p in rule}):
            mine = [p for p in rule if p.column == j]
            keep = np.flatnonzero(_hold(mine, self.data))
            wrong = np.flatnonzero(~_hold(mine, z))
            z[wrong, j] = self.data[keep[self.draw.integers(len(keep), size=len(wrong))], j]
        self.left -= n
        self.asked += n
        if not n:
            return z, np.zeros(0, bool)
        flat = torch.from_numpy(z).to(self.q.x.dtype)
        out = self.q.outputs(Points(n, lambda s, rows: flat[s.cpu()].to(self.q.x.device)))[:, 0]
        return z, np.asarray(self.alike(out))

    def test(self, rule: Sequence[Predicate], n: int) -> tuple[int, int]:
        """Hits and draws, all of them fresh."""
        _, hit = self.drawn(rule, n)
        return int(hit.sum()), len(hit)


def predicates(columns: Sequence[Column], data: Floats, own: Floats, same: Mask) -> list[Predicate]:
    """What is true of a row, column by column."""
    out: list[Predicate] = []
    tree = _tree_cuts(columns, data, same)
    for j, c in enumerate(columns):
        if np.isnan(own[j]):
            out.append(Predicate(j, "missing"))
            continue
        if np.isnan(data[:, j]).any():
            out.append(Predicate(j, "known"))
        if not c.ordered:
            out.append(Predicate(j, "is", float(own[j])))
        else:
            real = data[~np.isnan(data[:, j]), j]
            cuts = np.unique([*np.quantile(real, np.linspace(0, 1, CUTS + 1)[1:-1], method="lower"), *tree.get(j, [])])
            out += [Predicate(j, "above", float(v)) if own[j] > v else Predicate(j, "up to", float(v)) for v in cuts if (own[j] > v or (real > v).any())]
    return out


def _tree_cuts(columns: Sequence[Column], data: Floats, same: Mask) -> dict[int, list[float]]:
    """Where a small tree on the answers cuts the columns of numbers."""
    if same.all() or not same.any():
        return {}
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=24, random_state=0).fit(data.astype(np.float32), same).tree_
    out: dict[int, list[float]] = {}
    for j, cut in zip(tree.feature, tree.threshold, strict=True):
        if j >= 0 and columns[j].ordered:
            out.setdefault(int(j), []).append(float(np.floor(cut)) if columns[j].kind == "whole" else float(cut))
    return out


def _hold(rule: Sequence[Predicate], rows: Floats) -> Mask:
    """(n,) which rows keep a rule."""
    out = np.ones(len(rows), bool)
    for p in rule:
        out &= p.holds(rows[:, p.column])
    return out


def _likeness(out: Tensor, row: int, near: float) -> Any:
    """What says of outputs whether they are the same answer as the row's."""
    own = out[row].detach().cpu().double()
    if own.numel() == 1:
        room = near * float(out.detach().cpu().double().std())
        return lambda o: ((o.detach().cpu().double().reshape(len(o)) - own.reshape(())).abs() <= room).numpy()
    if own.ndim != 1:
        raise NotApplicable("Anchors need a model that gives a number, or one for each class.")
    return lambda o: (o.detach().cpu().argmax(1) == int(own.argmax())).numpy()


def _answer(q: Question, out: Tensor) -> str:
    out = out.reshape(-1)
    k = int(out.argmax())
    return f"about {float(out[0]):.4g}" if len(out) == 1 else str(q.model.labels[k]) if q.model.labels else f"class {k}"


def bound(hits: int, n: int, delta: float) -> float:
    """The exact lower bound of a share: below it lies the truth with a chance of at most `delta` (Clopper and Pearson)."""
    if not hits or not n:
        return 0.0
    from scipy.stats import beta

    return float(beta.ppf(delta, hits, n - hits + 1))
