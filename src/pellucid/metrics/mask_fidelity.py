"""Mask fidelity: does hiding what the map marks lower the answer, here and not elsewhere?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.card import Card, param
from ..core.evidence import Cost, Reading
from ..core.explanation import Explanation
from ..core.procedure import Metric, Scores
from ..core.target import Label, Probability, of_row
from . import _fidelity as fidelity
from ._controls import controls, told_apart
from ._mask_pool import generator
from ._pool import Pool
from ._subject import Rows, Subject, known, live, mean_of, scores
from ._verdict import Cuts

TITLE = "Hiding what it marks"
MEANING = "Correlation, over random masks, between the attribution kept and the answer; the kept area is held fixed."


@dataclass(frozen=True)
class Tested:
    """One row's numbers; `why` says why there are none. `rival` is a class that the map fits better, `lead` by how much."""

    r: float | None = None
    z: float | None = None
    add: float | None = None
    ceiling: float | None = None
    masks: int = 0
    rival: str = ""
    lead: float = 0.0
    curve: tuple[Tensor, Tensor] | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class MaskFidelity(Metric):
    """Does hiding what the map marks lower the answer?

    How: random soft masks hide parts of the input (blurred). r is the correlation, over masks, between the attribution that is kept
    and the answer, how much is kept at all held fixed. z compares r with the same map moved about; `add` is what is left of r
    once an edge map and a centred blob are taken out; the ceiling is what the best map of 7 x 7 cells could reach.
    Misleads when: the answer hangs on interactions, on colour, or on details finer than a mask's cells; a prior that happens to be right passes.
    """

    card = Card(title="Hiding what it marks", paper="", cost="128 forward rows a row, up to 512 where eight rows or fewer leave the verdict open; shared by all maps", random=True)
    masks: int = param(128, "random masks at first", ge=16, unit="masks")
    most: int = param(512, "masks drawn where the verdict is within its own noise", ge=16, unit="masks")
    elsewhere: int = param(299, "moved maps that a map is compared with", ge=19)

    def score(self, e: Explanation) -> Scores:
        """r, a row."""
        s = live(e)
        if not s.grid.kind:
            return Scores(scores((), "not applicable", s.grid.why))
        found, cost = self.measure(s, Pool(s.q, s.grid))
        first = readings(s, found, cost, Cuts())[0]
        return Scores(scores(first.rows, first.verdict, first.sentence), first.sentence)

    def measure(self, s: Subject, pool: Pool, unsettled: Callable[[int, Tested], bool] = lambda row, tested: False) -> tuple[list[Tested], Cost]:
        """Tests every row, with more masks where its verdict is `unsettled`."""
        maps, known_by = s.maps(), _controls(s)
        found = [Tested()] * s.size
        rows, n, cost = list(range(s.size)), self.masks, Cost()
        while rows:
            cost = cost + pool.grow(rows, n)
            for i in rows:
                found[i] = self._row(pool, i, n, maps[i], known_by[i])
            n += self.masks
            rows = [i for i in rows if n <= self.most and unsettled(i, found[i])]
        return found, cost

    def _row(self, pool: Pool, i: int, n: int, heat: Tensor, known_by: tuple[Tensor, ...]) -> Tested:
        answers, masks = pool.answers(i, n), pool.masks(n)
        if not torch.isfinite(answers).all():
            return Tested(masks=n, why="With parts hidden, the model's answers are not finite.")
        small = masks.small(i)
        gen = generator(pool.q.seed, pool.q.ids[i], "elsewhere")
        away = fidelity.moved(heat, self.elsewhere, gen) if heat.ndim == 2 else fidelity.shuffled(heat, self.elsewhere, gen)
        plain = fidelity.fit(small, answers)
        chance = fidelity.against(plain, heat, away)
        add = float(fidelity.fit(small, answers, known_by).correlate(heat.flatten()[None])[0]) if known_by else None
        rival, lead = self._rival(pool, i, small, heat, chance.r)
        return Tested(chance.r, chance.z, add, fidelity.ceiling(masks.cells(i), answers), n, rival, lead, plain.curve(heat))

    def _rival(self, pool: Pool, i: int, small: Tensor, heat: Tensor, r: float) -> tuple[str, float]:
        """Which of the five next classes fits the map best, and by how much better than the target (negative: worse)."""
        own = of_row(pool.target, i)
        if not (pool.whole and isinstance(own, (Label, Probability)) and isinstance(own.index, int)):
            return "", -1.0
        order = pool.own[i].argsort(descending=True).tolist()
        rest = [c for c in order[:6] if c != own.index][:5]
        fits = [float(fidelity.fit(small, pool.answers(i, len(small), type(own)(c))).correlate(heat.flatten()[None])[0]) for c in rest]
        best = max(range(len(rest)), key=lambda k: fits[k]) if rest else -1
        return (Label(rest[best]).text(pool.q.model.labels), fits[best] - r) if rest else ("", -1.0)


def _controls(s: Subject) -> list[tuple[Tensor, ...]]:
    """Maps that know nothing of the model, a row."""
    every = controls(s.q, s.grid).values()
    return [tuple(m[i] for m in every) for i in range(s.size)]


def readings(s: Subject, found: list[Tested], cost: Cost, cuts: Cuts, fill: str = "blur") -> tuple[Reading, ...]:
    """r, z and what is left after the controls, as three readings of one pool."""
    r, z, add, ceiling = (tuple(getattr(t, k) for t in found) for k in ("r", "z", "add", "ceiling"))
    if all(v is None for v in r):
        return (missing(found[0].why),)
    fewest, most = min(t.masks for t in found), max(t.masks for t in found)
    tail = f"{most if fewest == most else f'{fewest} to {most}'} masks{' a row' if len(found) > 1 else ''}, {fill}"
    out = (_fidelity(s, found, r, mean_of(ceiling), tail, cost, cuts), _place(z, cuts))
    return (*out, _beyond(add, cuts, told_apart(s.q, s.grid))) if known(add) else out


def _fidelity(s: Subject, found: list[Tested], rows: Rows, top: float, tail: str, cost: Cost, cuts: Cuts) -> Reading:
    r, name = mean_of(rows), s.row_name()
    if top < cuts.ceiling:
        verdict, words = "doubtful", f"Hiding parts barely moves {name} in a way any map could show (ceiling {top:.2f}; {tail})."
    elif r < cuts.low * top:
        verdict, words = "bad", f"Hiding what it marks {'raises' if r < -0.1 else 'does not lower'} {name} (r {r:.2f} of a possible {top:.2f}; {tail})."
    else:
        verdict = "good" if r >= cuts.share * top else "doubtful"
        words = f"Hiding what this map marks lowers {name} (r {r:.2f} of a possible {top:.2f}; {tail})."
    i = max(range(len(found)), key=lambda k: found[k].lead)
    if found[i].rival and found[i].lead > cuts.rival:
        words += f" {f'On row {i} it' if len(found) > 1 else 'It'} also fits {found[i].rival}: to tell the two apart, ask for Contrast(a, b)."
    curve = next((t.curve for t in found if t.curve is not None), None)
    return Reading("mask-fidelity", TITLE, r, rows, "r", verdict, words, MEANING, cost, _drawn(curve, s.e.target[0]) if curve else None)


def _drawn(curve: tuple[Tensor, Tensor], name: str) -> dict[str, Any]:
    """The first row's answers, from the masks that keep least of the map to those that keep most."""
    x, y = (t.tolist() for t in curve)
    return {"x": x, "y": y, "xlabel": "masks, by how much of the map they keep", "ylabel": f"{name}, in standard deviations"}


def _place(rows: Rows, cuts: Cuts) -> Reading:
    z = mean_of(rows)
    good = z >= cuts.z
    words = f"The same map moved elsewhere does {'worse' if good else 'about as well'} (z {z:.1f})."
    meaning = "How many standard deviations r lies above that of the same map shifted, turned and mirrored (features: shuffled)."
    return Reading("mask-fidelity-elsewhere", "In this place, not elsewhere", z, rows, "z", "good" if good else "doubtful", words, meaning)


def _beyond(rows: Rows, cuts: Cuts, beside: str) -> Reading:
    add = mean_of(rows)
    good = add >= cuts.add
    words = f"{'Says more than' if good else 'No better than'} {beside} (add {add:.2f})."
    meaning = f"r that is left once {beside} are taken out: what a look at the input alone does not explain."
    return Reading("mask-fidelity-beyond", "Beyond what the input alone shows", add, rows, "r", "good" if good else "doubtful", words, meaning)


def missing(why: str) -> Reading:
    """Why hiding parts could not test this map."""
    return Reading("mask-fidelity", TITLE, None, (), "r", "not applicable", why, MEANING)


def second_opinion(found: list[Tested], first: list[Tested], cost: Cost) -> Reading:
    """The same test with the mean colour as what hides; it has no vote."""
    r, z, before = tuple(t.r for t in found), tuple(t.z for t in found), tuple(t.z for t in first)
    title, meaning = "With another way of hiding", "The same test with parts replaced by the picture's mean colour."
    if not (known(z) and known(before)):
        return Reading("mask-fidelity-mean", title, None, (), "z", "not applicable", "The second way of hiding gives no finite answers.", meaning, cost)
    agrees = (mean_of(z) > 0) == (mean_of(before) > 0)
    words = f"With the mean colour instead of a blur: r {mean_of(r):.2f}, z {mean_of(z):.1f}; the two fills {'agree' if agrees else 'disagree'} in sign."
    return Reading("mask-fidelity-mean", title, mean_of(z), z, "z", "fact", words, meaning, cost)
