"""The rule: what the numbers of one row, and of many rows, add up to."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.card import param

SUPPORTED, DOUBTFUL, CONTRADICTED = "supported", "doubtful", "contradicted"
PICTURES, TABLES, TEXTS, SEQUENCES = "picture", "table", "text", "sequence"
CALIBRATED = (PICTURES, TABLES, TEXTS)
"""What the thresholds were measured on: bench/verdicts.py prints the rates."""


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Every threshold of the verdict, measured on photographs, tables and texts with planted good and bad maps."""

    gini: float = param(1e-6, "below this inequality a map is constant", ge=0)
    blind: float = param(0.94, "above this rank correlation with a far class's map, the map ignores the class", ge=-1, le=1)
    near_blind: float = param(0.9, "above this rank correlation with a far class's map, the map hardly depends on the class", ge=-1, le=1)
    network: float = param(0.3, "above this rank correlation with permuted networks' maps, the map hardly depends on what was learnt", ge=-1, le=1)
    network_blind: float = param(0.5, "above this rank correlation with permuted networks' maps, the map ignores what was learnt", ge=-1, le=1)
    ceiling: float = param(0.3, "below this best possible fidelity, hiding parts cannot test any map", ge=0, le=1)
    low: float = param(0.1, "below this share of the ceiling, hiding what the map marks does not lower the answer", ge=-1, le=1)
    share: float = param(0.3, "share of the ceiling that a supported map reaches", ge=0, le=1)
    z: float = param(1.3, "standard deviations by which a supported map beats itself moved elsewhere", ge=0)
    add: float = param(0.1, "fidelity that a supported map keeps once what the input alone shows (edges and centre; length, rarity, position; size) is taken out", ge=-1, le=1)
    feature_z: float = param(1.6, "the same as z for columns and words, whose values are shuffled", ge=0)
    feature_share: float = param(0.5, "the same as share for columns and words, whose ceiling is a linear fit of all of them", ge=0, le=1)
    rival: float = param(0.2, "lead in fidelity of another class from which the map is said to fit it too; no vote", ge=0, le=1)
    converged: float = param(0.9, "rank correlation with the map of half the work that a converged map reaches", ge=-1, le=1)
    noise: float = param(0.1, "largest mean standard error of a converged map, as a share of its range", ge=0, le=1)

    def of(self, kind: str) -> "Cuts":
        """Those for one kind of input."""
        return self if kind == PICTURES else replace(self, z=self.feature_z, share=self.feature_share)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The numbers of one row; None where a check was not applicable. Without r there is no z and no ceiling."""

    target: str
    finite: bool = True
    gini: float = 1.0
    r: float | None = None
    z: float = 0.0
    add: float | None = None
    ceiling: float = 0.0
    blind: float | None = None
    network: float | None = None
    converged: float | None = None
    noise: float | None = None
    kind: str = PICTURES
    beside: str = "edges or the centre"
    """What a look at the input alone gives, in words: the controls behind `add`."""
    untested: str = ""
    empty: str = ""


@dataclass(frozen=True)
class Judged:
    """A verdict and why."""

    verdict: str
    reasons: tuple[str, ...]


def judge(f: Facts, cuts: Cuts) -> Judged:
    """One row's verdict: what contradicts the map, else what makes it doubtful, else that it is supported."""
    cuts = cuts.of(f.kind)
    broken = _broken(f, cuts)
    if broken:
        return Judged(CONTRADICTED, (broken,))
    if f.r is None:
        return Judged(DOUBTFUL, (f.untested or "No check of this map against the model was applicable.", *_weak_method(f, cuts)))
    if f.ceiling < cuts.ceiling:
        return Judged(DOUBTFUL, (f"Hiding parts barely moves {f.target} in a way any map could show (ceiling {f.ceiling:.2f}).", *_weak_method(f, cuts)))
    if f.r < cuts.low * f.ceiling:
        return Judged(CONTRADICTED, (_lowers_nothing(f, f.r),))
    doubts = (*_weak_map(f, f.r, cuts), *_weak_method(f, cuts))
    return Judged(DOUBTFUL, doubts) if doubts else Judged(SUPPORTED, (_supports(f),))


def open_to_doubt(f: Facts, cuts: Cuts, z: float = 0.3, r: float = 0.07) -> bool:
    """Whether more masks could change the verdict: a number within its own noise of a cut."""
    cuts = cuts.of(f.kind)
    if _broken(f, cuts) or f.r is None:
        return False
    near = min(abs(f.r - cuts.low * f.ceiling), abs(f.r - cuts.share * f.ceiling)) < r
    return near or abs(f.z - cuts.z) < z


def _broken(f: Facts, cuts: Cuts) -> str:
    """Why the map is worthless whatever the masks say; nothing where it is not."""
    if not f.finite:
        return "The map holds NaN or infinite values."
    if f.gini < cuts.gini:
        return f.empty or "The map is empty or constant."
    if f.blind is not None and f.blind > cuts.blind:
        return f"The same map for every class ({f.blind:.2f}): it shows the input, not the decision."
    if f.network is not None and f.network > cuts.network_blind:
        return f"The same map for a network with permuted weights ({f.network:.2f}): it shows the input, not what was learnt."
    return ""


def _lowers_nothing(f: Facts, r: float) -> str:
    does = "raises" if r < -0.1 else "does not lower"
    return f"Hiding what it marks {does} {f.target} (r {r:.2f} of a possible {f.ceiling:.2f})."


def _weak_map(f: Facts, r: float, cuts: Cuts) -> tuple[str, ...]:
    """What the masks leave open."""
    doubts = []
    if f.z < cuts.z:
        doubts.append(f"Cannot be told from chance on this row (z {f.z:.1f}; r {r:.2f} of a possible {f.ceiling:.2f}): try more rows, or RISE.")
    if f.add is not None and f.add < cuts.add:
        doubts.append(f"No better than {f.beside} (add {f.add:.2f}).")
    if r < cuts.share * f.ceiling:
        doubts.append(f"Explains little of what hiding parts does (r {r:.2f} of a possible {f.ceiling:.2f}).")
    if f.kind not in CALIBRATED:
        doubts.append("The thresholds of this rule were measured on photographs, tables and texts only.")
    return tuple(doubts)


def _weak_method(f: Facts, cuts: Cuts) -> tuple[str, ...]:
    """What the method's own runs leave open."""
    doubts = []
    if f.blind is not None and f.blind > cuts.near_blind:
        doubts.append(f"Hardly changes with the class ({f.blind:.2f}).")
    if f.network is not None and f.network > cuts.network:
        doubts.append(f"Hardly changes when the network's weights are permuted ({f.network:.2f}).")
    if f.converged is not None and f.converged < cuts.converged:
        doubts.append(f"Not converged: half the work gives another map (rank correlation {f.converged:.2f}).")
    if f.noise is not None and f.noise > cuts.noise:
        doubts.append(f"Not converged: its standard error is {f.noise:.0%} of its range.")
    return tuple(doubts)


def _supports(f: Facts) -> str:
    more = f", and more than {f.beside} explain (add {f.add:.2f})" if f.add is not None else ""
    changes = f" Changes with the class ({f.blind:.2f})." if f.blind is not None else ""
    return f"Hiding what this map marks lowers {f.target} more than the same map elsewhere (z {f.z:.1f}){more}.{changes}"


def judge_rows(facts: Sequence[Facts], judged: Sequence[Judged], groups: Sequence[object], cuts: Cuts, seed: int = 0) -> Judged:
    """The verdict on a method over many rows: means with intervals, never the share of supported rows alone."""
    if len(facts) == 1:
        return judged[0]
    verdicts = {j.verdict for j in judged}
    count = ", ".join(f"{sum(j.verdict == v for j in judged)} {v}" for v in (SUPPORTED, DOUBTFUL, CONTRADICTED))
    said = f"Rows: {count}."
    enough = len(set(groups)) >= 4 and all(f.r is not None and f.kind in CALIBRATED for f in facts)
    if len(verdicts) == 1 and verdicts <= {SUPPORTED, CONTRADICTED}:
        return Judged(verdicts.pop(), (said, *([_means(facts, groups, seed).words] if enough else []), *_common(judged)))
    if enough:
        return _by_means(facts, _means(facts, groups, seed), cuts, said)
    few = f"Only {len(set(groups))} independent rows: at least 4 are needed to judge by their mean."
    return Judged(DOUBTFUL, (said, *([few] if len(set(groups)) < 4 else []), *_common(judged)))


@dataclass(frozen=True)
class Interval:
    """A mean over rows and its 95 % interval over their groups."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Means:
    """The two numbers of many rows that decide."""

    z: Interval
    add: Interval

    @property
    def words(self) -> str:
        """Both with their intervals."""
        return f"Mean z {self.z}, mean add {self.add}, 95 % intervals."


def _means(facts: Sequence[Facts], groups: Sequence[object], seed: int) -> Means:
    z, add = [f.z for f in facts], [f.add if f.add is not None else 0.0 for f in facts]
    return Means(interval(z, groups, seed), interval(add, groups, seed))


def _by_means(facts: Sequence[Facts], means: Means, cuts: Cuts, said: str) -> Judged:
    blind, network = (_mean([v for v in column if v is not None] or [0.0]) for column in ([f.blind for f in facts], [f.network for f in facts]))
    words, cuts = (said, means.words), cuts.of(facts[0].kind)
    if blind > cuts.blind or network > cuts.network_blind:
        return Judged(CONTRADICTED, (*words, "The same maps for every class or network: they show the input, not the decision."))
    if means.z.high < 1:
        return Judged(CONTRADICTED, (*words, "Over these rows the map does no better than the same map elsewhere."))
    if means.z.mean >= cuts.z and means.z.low > 0 and means.add.low > 0 and blind <= cuts.near_blind and network <= cuts.network:
        return Judged(SUPPORTED, (*words, f"Over these rows the map beats itself elsewhere, and {facts[0].beside}."))
    return Judged(DOUBTFUL, (*words, "Over these rows the evidence is not one-sided."))


def _common(judged: Sequence[Judged], most: int = 3) -> tuple[str, ...]:
    """The commonest reasons of the rows, once each."""
    return tuple(reason for reason, _ in Counter(r for j in judged for r in j.reasons).most_common(most))


def interval(values: Sequence[float], groups: Sequence[object], seed: int = 0) -> Interval:
    """The mean of group means: a t interval below 20 groups, else a bootstrap over groups."""
    names = list(dict.fromkeys(groups))
    means = torch.tensor([_mean([v for v, g in zip(values, groups, strict=True) if g == n]) for n in names], dtype=torch.float64)
    k, mean = len(means), float(means.mean())
    if k < 2:
        return Interval(mean, -math.inf, math.inf)
    if k < 20:
        from scipy.special import stdtrit  # a fifth of a second, which one row does without

        half = float(stdtrit(k - 1, 0.975) * means.std() / math.sqrt(k))
        return Interval(mean, mean - half, mean + half)
    low, high = _bootstrap(means, seed)
    return Interval(mean, low, high)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _bootstrap(means: Tensor, seed: int, draws: int = 2000) -> tuple[float, float]:
    pick = torch.randint(len(means), (draws, len(means)), generator=torch.Generator().manual_seed(seed))
    again = means[pick].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(again[0]), float(again[1])
