"""What a metric says: the mean over rows with its interval, in one sentence."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import NotApplicable
from ..core.evidence import minus
from ..core.procedure import Scores


@dataclass(frozen=True)
class Interval:
    """The mean of the rows that could be tested, and where the mean over all such rows lies at 95 %."""

    mean: float
    low: float
    high: float
    rows: int

    def words(self) -> str:
        """The interval in words; one row has none."""
        if self.rows < 2:
            return f"{self.mean:.3g} (one row, no interval)"
        return f"{self.mean:.3g} (95 % interval {self.low:.3g} to {self.high:.3g} over {self.rows} rows)"


def interval(values: Tensor) -> Interval:
    """Student's interval over the rows that are not NaN. Rows of one photo or patient are not independent: it is then too narrow."""
    from scipy import stats

    kept = values[~values.isnan()].double()
    n = len(kept)
    mean = float(kept.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    half = float(stats.t.ppf(0.975, n - 1)) * float(kept.std()) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def told(values: Tensor, words: str, better: str = "higher", why: str = "") -> Scores:
    """Scores with their sentence; `why` says what it means that a row could not be tested."""
    values = values.detach().double().cpu()
    known = ~values.isnan()
    if not known.any():
        raise NotApplicable(why or f"{words}: no row could be tested.")
    aim = {"higher": " Higher is better.", "lower": " Lower is better."}.get(better, "")
    left = int((~known).sum())
    lost = f" {left} of {len(values)} rows could not be tested{f': {why}' if why else ''}." if left else ""
    return Scores(values, minus(f"{words}: {interval(values).words()}.{aim}{lost}"))


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """(B,) Pearson correlations of the last axis; NaN where one of them does not vary."""
    a, b = a.double(), b.double()
    a0, b0 = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    na, nb = a0.norm(dim=-1), b0.norm(dim=-1)
    still = (na <= 1e-9 * a.norm(dim=-1)) | (nb <= 1e-9 * b.norm(dim=-1)) | (na == 0) | (nb == 0)
    return torch.where(still, math.nan, ((a0 * b0).sum(-1) / (na * nb).clamp_min(1e-300)).clamp(-1, 1))


def ranked(v: Tensor) -> Tensor:
    """Ranks along the last axis, ties at their mean: in one sweep over all rows."""
    from scipy import stats

    return torch.from_numpy(stats.rankdata(v.double().cpu().numpy(), axis=-1))
