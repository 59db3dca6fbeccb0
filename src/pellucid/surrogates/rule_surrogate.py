"""A short list of rules in the place of a model."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.card import Card, param
from ..core.estimator import Estimator, Fitted
from ..core.question import Question
from ._answers import Answers, Fidelity, Floats, answers_of, crossed, folds_of, wilson
from ._conditions import Coding, Condition, merged
from ._tree import Rows

Mask = NDArray[np.bool_]
WORTH = 0.005
"""A rule is taken while it explains at least this share of all that the answers vary."""
GROWN_ON = 2_000
"""Rows that the trees which propose rules are grown on, at most; rules are chosen on all."""


@dataclass(frozen=True)
class Rule:
    """One rule: where its condition holds and that of no rule above, the model answers `answer`. The last one, without a condition, speaks for all else.

    `coverage` is the share of held-out rows it speaks for and `support` their number; `precision` the share of them that it is right about,
    with its 95% interval: of the class it names, or no farther from its number than `near` standard deviations of all answers.
    """

    text: str
    answer: str
    value: tuple[float, ...]
    support: int
    coverage: float
    precision: float
    low: float
    high: float
    fitted: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleList(Fitted):
    """Rules in the place of a model, read from the top; the first that holds answers."""

    rules: tuple[Rule, ...] = ()
    labels: tuple[str, ...] = ()
    name: str = ""
    within: str = ""
    """What counts as right, where answers are numbers."""
    fidelity: Fidelity | None = None

    def table(self) -> list[dict[str, Any]]:
        return [{
            "if": r.text or "else", "answer": r.answer, "coverage": r.coverage, "support": r.support,
            "precision": r.precision, "low": r.low, "high": r.high, "rows fitted on": r.fitted,
        } for r in self.rules]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "fidelity": self.fidelity.to_dict() if self.fidelity else None}


@dataclass(frozen=True, kw_only=True)
class RuleSurrogate(Estimator):
    """Which few "if ... then ..." sentences give nearly the model's answers, how often is each right, and for how many rows does it speak?

    How: sequential covering. Small random trees, grown on the rows that no rule speaks for yet, propose conditions and every part of them; the one whose rows differ most
    from the rest, less what varies among them, becomes the next rule. Fidelity is R2, or agreement, over folds of rows no rule was chosen on; the list that is
    shown was chosen without the first fold, and every rule's coverage and precision are measured there.
    Units: coverage and precision are shares of held-out rows; intervals are Wilson's, 95%.
    Misleads when: the fidelity is low; a rule is read without those above it (it speaks only for rows that they leave); precise rules speak for few rows, and
    the last line may speak for many that it is wrong about.
    Source: Fürnkranz 1999 (separate-and-conquer rule learning); Friedman and Popescu 2008 (rules from ensembles of trees), arXiv:0811.1679.
    """

    card = Card(title="Rule surrogate", paper="Fürnkranz 1999, doi:10.1023/A:1006524209794; arXiv:0811.1679", cost="1 forward row a row of data", random=True)
    rules: int = param(8, "how many rules at most, the last line not counted", ge=1, le=50)
    conditions: int = param(3, "how many conditions a rule may have", ge=1, le=5)
    leaf: float = param(0.02, "the fewest rows a rule may speak for, as a share of all", ge=0, le=0.5)
    trees: int = param(10, "trees that propose conditions for each rule", ge=1)
    near: float = param(0.5, "how far an answer may lie from a rule's and count as right", ge=0, unit="standard deviations of all answers")
    folds: int = param(5, "parts that the rows are cut into to judge the rules", ge=2)

    def fit(self, q: Question) -> RuleList:
        a = answers_of(q)
        coding = Coding.of(a.columns, a.codes)
        matrix = coding.matrix(a.codes)
        fidelity, made = crossed(a, lambda rows: Chosen.on(self, a, coding, matrix, rows, q.seed), self.folds, q.seed)
        held = np.flatnonzero(folds_of(a.codes, self.folds, q.seed) == 0)
        reach = self.near * float(a.y.std())
        within = "" if a.labels else f"right: within {reach:.3g} of the rule's answer ({self.near:g} standard deviations)"
        told = tuple(measured(made[0], a, held, i, reach) for i in range(len(made[0].answers)))
        chosen = f"the rules were chosen on {len(a.y) - len(held):,} rows and measured on the other {len(held):,}"
        return RuleList(rules=told, labels=a.labels, name=a.name, within=within, fidelity=fidelity, notes=(fidelity.sentence, chosen))


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rules chosen on some rows: conditions for each, and the mean answers, that of all other rows last."""

    rules: tuple[tuple[Condition, ...], ...]
    answers: Floats
    fitted: tuple[int, ...]
    codes: Floats

    @classmethod
    def on(cls, s: RuleSurrogate, a: Answers, coding: Coding, matrix: Any, rows: Rows, seed: int) -> "Chosen":
        left, least = rows, max(2, int(np.ceil(s.leaf * len(rows))))
        total = _spread(a.y[rows])
        rules, answers, fitted = list[tuple[Condition, ...]](), list[Floats](), list[int]()
        while len(rules) < s.rules and len(left) >= 2 * least and _spread(a.y[left]) > 1e-9 * total:
            found = best(proposals(s, a, coding, matrix, left, seed + len(rules), least), a, left, least, WORTH * total)
            if found is None:
                break
            inside = holds(found, a.codes[left])
            rules.append(found)
            answers.append(a.y[left[inside]].mean(0))
            fitted.append(int(inside.sum()))
            left = left[~inside]
        answers.append(a.y[left].mean(0) if len(left) else a.y[rows].mean(0))
        return cls(tuple(rules), np.stack(answers), (*fitted, len(left)), a.codes)

    def which(self, rows: Rows) -> NDArray[np.int64]:
        """(len(rows),) the rule that speaks for each row; the last for what no condition holds of."""
        out = np.full(len(rows), len(self.rules))
        for i in reversed(range(len(self.rules))):
            out[holds(self.rules[i], self.codes[rows])] = i
        return out

    def predict(self, rows: Rows) -> Floats:
        """(len(rows), K) the answers of the rules."""
        out: Floats = self.answers[self.which(rows)]
        return out


def holds(rule: tuple[Condition, ...], codes: Floats) -> Mask:
    """(n,) where all conditions hold."""
    out = np.ones(len(codes), dtype=bool)
    for c in rule:
        out &= c.holds(codes)
    return out


def proposals(s: RuleSurrogate, a: Answers, coding: Coding, matrix: Any, rows: Rows, seed: int, least: int) -> list[tuple[Condition, ...]]:
    """Every set of conditions on a path of small random trees, and every part of it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    some = rng.choice(rows, GROWN_ON, replace=False) if len(rows) > GROWN_ON else rows
    least = max(1, int(least * len(some) / len(rows)))
    forest = RandomForestRegressor(s.trees, max_depth=s.conditions, min_samples_leaf=least, max_features=0.5, random_state=seed).fit(matrix[some], a.y[some].squeeze())
    trees = [DecisionTreeRegressor(max_depth=s.conditions, min_samples_leaf=least, random_state=seed).fit(matrix[some], a.y[some]), *forest.estimators_]
    out: dict[tuple[Condition, ...], None] = {}
    for tree in trees:
        inside = np.asarray(tree.decision_path(matrix[some]).todense(), dtype=bool)
        for path in paths(tree.tree_, inside, a.codes[some], coding):
            for n in range(1, len(path) + 1):
                out.update(dict.fromkeys(itertools.combinations(path, n)))
    return list(out)


def paths(t: Any, inside: Mask, codes: Floats, coding: Coding) -> Iterator[tuple[Condition, ...]]:
    """The merged conditions that lead to each node but the root."""
    stack: list[tuple[int, tuple[Condition, ...]]] = [(0, ())]
    while stack:
        at, told = stack.pop()
        left, right = int(t.children_left[at]), int(t.children_right[at])
        if told:
            yield merged(told)
        if left >= 0:
            here = inside[:, at]
            ways = coding.split(int(t.feature[at]), inside[here, left], codes[here])
            stack += [(right, (*told, ways[1])), (left, (*told, ways[0]))]


def best(proposed: list[tuple[Condition, ...]], a: Answers, rows: Rows, least: int, worth: float) -> tuple[Condition, ...] | None:
    """The rule whose rows differ most from the mean of what is left, less what varies among them; of equals the shortest.

    What varies among a rule's rows is lost for good, what varies among the others may still be explained: so precise rules come first.
    """
    y, codes = a.y[rows], a.codes[rows]
    single: dict[Condition, Mask] = {}
    for c in itertools.chain.from_iterable(proposed):
        if c not in single:
            single[c] = c.holds(codes)
    mean, top, found = y.mean(0), worth, None
    square = (y**2).sum(1)
    for rule in sorted(proposed, key=len):
        mask = single[rule[0]]
        for c in rule[1:]:
            mask = mask & single[c]
        n = int(mask.sum())
        if n < least or n > len(rows) - 1:
            continue
        own = (mask @ y) / n
        between, inside = n * float(((own - mean) ** 2).sum()), float(mask @ square) - n * float((own**2).sum())
        score = between - max(inside, 0.0)
        if score > top * (1 + 1e-9):
            top, found = score, rule
    return found


def measured(c: Chosen, a: Answers, held: Rows, i: int, reach: float) -> Rule:
    """A rule with what it is worth on held-out rows."""
    mine = held[c.which(held) == i]
    value = c.answers[i]
    right = a.classes[mine] == value.argmax() if a.labels else np.abs(a.y[mine, 0] - value[0]) <= reach
    share = float(right.mean()) if len(mine) else float("nan")
    low, high = wilson(share, len(mine)) if len(mine) else (0.0, 1.0)
    text = " and ".join(k.text for k in c.rules[i]) if i < len(c.rules) else ""
    said = a.labels[int(value.argmax())] if a.labels else f"{value[0]:.4g}".replace("-", "−")
    return Rule(text, said, tuple(map(float, value)), len(mine), len(mine) / len(held), share, low, high, c.fitted[i])


def _spread(y: Floats) -> float:
    return float(((y - y.mean(0)) ** 2).sum())
