"""Where a column's effect is looked at, and which rows of the data lie near."""

import numpy as np

from ..modalities.columns import Column
from ._rows import Floats, Places

WORDS = 30
"""Words of a column that are shown, the most frequent ones."""


def grid(c: Column, cells: Floats, most: int) -> tuple[Floats, str]:
    """The codes of a column at which it is looked at, "missing" last where there are gaps, and what was left out.

    How: every value where they are few, or words; else cells of the data in the middle of `most` equally full bins, so that nothing is asked about
    that never occurred, and outliers do not stretch the picture.
    """
    known, told = cells[~np.isnan(cells)], ""
    values, counts = np.unique(known, return_counts=True)
    if not c.ordered and len(values) > WORDS:
        values, told = np.sort(values[np.argsort(-counts, kind="stable")[:WORDS]]), f"{c.name}: the {WORDS} most frequent of {len(values)} values"
    elif c.ordered and len(values) > most:
        values = np.unique(np.quantile(known, (np.arange(most) + 0.5) / most, method="inverted_cdf"))
    return np.append(values, np.nan) if len(known) < len(cells) else values, told


def near(at: Floats, cells: Floats, ordered: bool) -> Places:
    """(rows,) which point of a grid each cell lies nearest to; -1 where there is none: a word that is not shown, a gap without a point."""
    own = at[~np.isnan(at)]
    order = np.argsort(own, kind="stable")
    known, filled = own[order], np.nan_to_num(cells)
    right = np.clip(np.searchsorted(known, filled), 0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    place = np.where(np.abs(filled - known[left]) <= np.abs(known[right] - filled), left, right)
    place = order[place if ordered else np.where(known[right] == filled, right, 0)]
    place = place if ordered else np.where(own[place] == filled, place, -1)
    return np.where(np.isnan(cells), len(at) - 1 if len(own) < len(at) else -1, place)


def counted(place: Places, n: int) -> Places:
    """(n,) how many rows lie at each place."""
    return np.bincount(place[place >= 0], minlength=n)
