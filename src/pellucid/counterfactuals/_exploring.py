"""The search for one row: from data rows that reach the goal, from single and paired changes and from mixtures of them, back towards the row."""

import itertools
from collections.abc import Generator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..modalities.actions import Cells
from ._asking import Pool, together

Flags: TypeAlias = NDArray[np.bool_]
STARTS = 6
"""Points that are polished, and two more for each counterfactual that is wanted."""
FRACTIONS = 8
"""Points of one round of a line search, which narrows nine times."""


def explore(pool: Pool, rows: Cells, short: Cells, n: int) -> Generator[Cells, Cells, None]:
    """Fills the pool of a row with points that reach the goal. `rows` (N, P) are rows of data, `short` (N,) how far each is from the goal."""
    here = yield from pool.ask(pool.own[None])
    if here[0] <= 0:
        return
    whole = pool.left
    yield from neighbours(pool, rows, short)
    yield from singles(pool, whole // 6)
    yield from ratios(pool)
    yield from pairs(pool, whole // 8)
    if len(pool.found()[0]) < 4 * n:
        yield from evolve(pool, rows, whole // (6 if len(pool.found()[0]) else 2))
    last = min(pool.left // 3, 150 * n)
    pool.left -= last
    yield from together(*(polish(pool, z) for z in starts(pool, STARTS + 2 * n)))
    yield from shrink(pool)
    pool.left += last
    yield from together(*(polish(pool, z, 5) for z in chosen(pool, n)))


def neighbours(pool: Pool, rows: Cells, short: Cells, most: int = 24) -> Generator[Cells, Cells, None]:
    """The data rows that reach the goal, brought back to what is allowed: the cheapest, and some from further away."""
    good = rows[short <= 0]
    z = pool.allowed(good if len(good) else rows[np.argsort(short, kind="stable")[: 4 * most]])
    if len(z):
        price = pool.price(z)
        order = np.argsort(price, kind="stable")
        far = order[most:][:: max(1, len(order) // (most // 2))][: most // 2]
        yield from pool.ask(z[np.concatenate([order[:most], far])])


def singles(pool: Pool, most: int) -> Generator[Cells, Cells, None]:
    """Every column alone, at numbers spread like the data and at every word."""
    units = pool.within.units
    each = int(np.clip(most // max(len(units), 1), 2, 24))
    made = [pool.put(pool.own, u, pool.within.options(unit, pool.own, each)) for u, unit in enumerate(units)]
    z = pool.allowed(np.concatenate(made))
    if len(z) > most:
        z = z[np.sort(pool.draw.permutation(len(z))[:most])]
    yield from pool.ask(z)


def one_step(pool: Pool) -> tuple[Cells, Cells, list[int]]:
    """The points asked so far that change one unit, what they gain for their price, and the unit."""
    here = pool.seen[pool.own.tobytes()]
    z, short = np.array(pool.points), np.array(pool.short)
    moved = pool.within.moves(z, pool.own) > 0
    only = (moved.sum(1) == 1) & np.isfinite(short)
    gain = (here - short[only]) / pool.price(z[only])
    return z[only], gain, [int(u) for u in moved[only].argmax(1)]


def ratios(pool: Pool) -> Generator[Cells, Cells, None]:
    """Adds the change that gains most for its price, then the next, until the goal is reached: of linear models the cheapest way."""
    z, gain, unit = one_step(pool)
    order = [int(i) for i in np.argsort(-gain, kind="stable") if gain[i] > 0]
    paths = []
    for flavour in (1, 0):  # by gain for the price, and by gain alone
        rank = order if flavour else sorted(order, key=lambda i: -gain[i] * float(pool.price(z[i])[0]))
        now, used, path = pool.own.copy(), set[int](), []
        for i in rank:
            if unit[i] not in used:
                where = list(pool.within.units[unit[i]])
                full = _furthest(pool, z, gain, unit, i) if flavour else z[i]
                used.add(unit[i])
                now[where] = full[where]
                path.append(now.copy())
        paths += path
    if paths:
        yield from pool.ask(pool.allowed(np.array(paths)))


def _furthest(pool: Pool, z: Cells, gain: Cells, unit: list[int], i: int) -> Cells:
    """Of the same column and direction, the change that gains most in all."""
    price = pool.price(z)
    mine = [k for k in range(len(z)) if unit[k] == unit[i]]
    return np.asarray(z[max(mine, key=lambda k: gain[k] * price[k])])


def pairs(pool: Pool, most: int) -> Generator[Cells, Cells, None]:
    """Two changes at once, the promising ones first."""
    z, gain, unit = one_step(pool)
    order = [int(i) for i in np.argsort(-gain, kind="stable")]
    by_size = [int(i) for i in np.argsort(-gain * pool.price(z), kind="stable")] if len(z) else []
    few = list(dict.fromkeys(itertools.chain.from_iterable(zip(order, by_size, strict=True))))[:40]
    made = []
    for i, k in itertools.combinations(few, 2):
        if unit[i] != unit[k]:
            where = list(pool.within.units[unit[k]])
            both = z[i].copy()
            both[where] = z[k][where]
            made.append(both)
    if made:
        yield from pool.ask(pool.allowed(np.array(made[:most])))


def evolve(pool: Pool, rows: Cells, most: int, size: int = 40) -> Generator[Cells, Cells, None]:
    """Mixtures of what came nearest, of data rows and of the row itself, for some generations."""
    units = pool.within.units
    stop = max(0, pool.left - most)
    for _ in range(max(1, most // size)):
        if pool.left <= stop:
            return
        z, short = np.array(pool.points), np.array(pool.short)
        price = pool.price(z)
        rank = np.lexsort((price, np.maximum(short, 0)))[:size]
        parents = z[rank]
        pick = rows[pool.draw.integers(len(rows), size=size)]
        a, b = parents[pool.draw.integers(len(parents), size=size)], parents[pool.draw.integers(len(parents), size=size)]
        choice = pool.draw.choice(4, p=[0.4, 0.3, 0.1, 0.2], size=(size, len(units)))
        child = a.copy()
        for u, unit in enumerate(units):
            where = list(unit)
            for k, source in ((1, b), (2, pick), (3, np.broadcast_to(pool.own, a.shape))):
                mine = choice[:, u] == k
                child[np.ix_(mine, where)] = source[np.ix_(mine, where)]
        before = pool.left
        yield from pool.ask(pool.allowed(child))
        if pool.left == before and len(pool.points) > size:
            return


def starts(pool: Pool, most: int) -> Cells:
    """Points that reach the goal, cheap ones first, at most three for each set of columns."""
    z, _ = pool.found()
    moved = pool.within.moves(z, pool.own) > 0 if len(z) else np.empty((0, 0), bool)
    count: dict[bytes, int] = {}
    kept: list[int] = []
    for i, m in enumerate(moved):
        key = m.tobytes()
        count[key] = count.get(key, 0) + 1
        if count[key] <= 3:
            kept.append(i)
    near, far = kept[: most - most // 4], kept[most - most // 4 :]
    return z[near + far[:: max(1, len(far) // max(1, most // 4))][: most // 4]]


def shrink(pool: Pool, size: int = 60) -> Generator[Cells, Cells, None]:
    """Draws points that change few columns and are cheaper than the best so far; those that reach the goal are polished, and so on until the budget is spent."""
    idle = 0
    while pool.left > size and idle < 8:
        z, price = pool.found()
        if not len(z):
            return
        made = inside(pool, z[0], float(price[0]), size)
        short = yield from pool.ask(made)
        good = made[short <= 0]
        idle = 0 if len(good) else idle + 1
        cheap = good[np.argsort(pool.price(good), kind="stable")[:3]] if len(good) else good
        yield from together(*(polish(pool, g) for g in cheap))


def inside(pool: Pool, best: Cells, price: float, size: int) -> Cells:
    """Points cheaper than `price`: of one to four columns, some of them those that the best point changes, each with a share of what may be spent."""
    units, draw = pool.within.units, pool.draw
    changed = np.isin(np.arange(len(units)), pool.changed(best))
    rank = draw.random((size, len(units))).argsort(1).argsort(1)
    mine = (rank < draw.integers(1, 3, (size, 1))) | (changed & (draw.random((size, len(units))) < 0.4))
    mine &= mine.cumsum(1) <= 4
    room = np.maximum(price - pool.sparsity * mine.sum(1), 0) * draw.choice([1.0, 1.0, 0.7, 0.4], size)
    part = draw.exponential(size=mine.shape) * mine
    part *= (room / np.maximum(part.sum(1), 1e-300))[:, None]
    side, along = draw.choice([-1.0, 1.0], mine.shape), draw.random(mine.shape) < 0.7
    out = np.repeat(pool.own[None], size, 0)
    for u in np.flatnonzero(mine.any(0)):
        unit, rows = units[u], np.flatnonzero(mine[:, u])
        j = unit[0]
        if pool.within.numeric(unit) and pool.own[j] == pool.own[j]:
            best_way = np.sign(best[j] - pool.own[j])
            way = np.where(along[rows, u] & changed[u], best_way, side[rows, u])
            out[rows, j] += way * part[rows, u] * pool.within.scale[j] / pool.within.cost[j]
        elif len(options := pool.within.options(unit, pool.own, 8)):
            out[rows[:, None], np.array(unit)] = options[draw.integers(len(options), size=len(rows))]
    made = pool.allowed(out)
    return np.asarray(made[pool.price(made) < price])


# -- back towards the row ------------------------------------------------------------------------------------------------


def polish(pool: Pool, z: Cells, rounds: int = 2) -> Generator[Cells, Cells, Cells]:
    """Fewer columns, then shorter ways; once more where that let another column go."""
    for _ in range(2):
        before = float(pool.price(z)[0])
        z = yield from sparser(pool, z)
        z = yield from shorter(pool, z, rounds)
        if not pool.left or float(pool.price(z)[0]) > 0.999 * before:
            break
    return z


def sparser(pool: Pool, z: Cells) -> Generator[Cells, Cells, Cells]:
    """Takes columns back to the row's own cells as long as the goal is reached, the dearest first."""
    for _ in range(len(pool.within.units)):
        units = pool.changed(z)
        if len(units) < 2 or not pool.left:
            break
        alone = np.array([_back(pool, z, [u]) for u in units])
        short = yield from pool.ask(alone)
        free = [u for u, s in zip(units, short, strict=True) if s <= 0]
        if not free:
            break
        cost = pool.within.moves(z, pool.own)
        free.sort(key=lambda u: -cost[u])
        some = np.array([_back(pool, z, free[: k + 1]) for k in range(len(free))])
        short = yield from pool.ask(some)
        good = [k for k, s in enumerate(short) if s <= 0 and k < len(units) - 1]
        if not good:
            break
        z = some[good[-1]]
    return z


def _back(pool: Pool, z: Cells, units: list[int]) -> Cells:
    out = z.copy()
    for u in units:
        where = list(pool.within.units[u])
        out[where] = pool.own[where]
    return out


def shorter(pool: Pool, z: Cells, rounds: int) -> Generator[Cells, Cells, Cells]:
    """Moves each number back towards the row's own as far as the goal is still reached: first those that matter least for what they cost."""
    units = [u for u in pool.changed(z) if pool.within.numeric(pool.within.units[u]) and not np.isnan(pool.own[pool.within.units[u][0]])]
    if len(units) > 1:
        cost = pool.within.moves(z, pool.own)
        places = [pool.within.units[u][0] for u in units]
        part = np.repeat(z[None], len(units), 0)
        part[range(len(units)), places] += (pool.own[places] - z[places]) / FRACTIONS
        here = yield from pool.ask(z[None])
        short = yield from pool.ask(pool.allowed(part))
        lost = {u: (s - here[0]) / cost[u] for u, s in zip(units, short, strict=True)}
        units.sort(key=lambda u: (lost[u], -cost[u]))
    for u in units:
        z = yield from _between(pool, z, u, rounds)
    return z


def _between(pool: Pool, z: Cells, u: int, rounds: int) -> Generator[Cells, Cells, Cells]:
    j = pool.within.units[u][0]
    missed, reached = pool.own[j], z[j]
    for _ in range(rounds):
        steps = missed + (reached - missed) * np.linspace(0, 1, FRACTIONS + 2)[1:-1]
        tried = pool.allowed(pool.put(z, u, steps[:, None]))
        short = yield from pool.ask(tried)
        good = np.flatnonzero(short <= 0)
        last = tried[good[0] - 1, j] if len(good) and good[0] else missed if len(good) else tried[-1, j]
        if len(good):
            z, reached = tried[good[0]], tried[good[0], j]
        if last == missed and not len(good) or last == reached:
            break
        missed = last
    return z


# -- what is shown -------------------------------------------------------------------------------------------------------


def chosen(pool: Pool, n: int) -> Cells:
    """Up to `n` points: the cheapest, then those that change other columns, by how different they are for their price."""
    z, price = pool.found()
    if not len(z):
        return z
    moves = pool.within.moves(z, pool.own)
    moved = moves > 0
    first: dict[bytes, int] = {}
    for i, m in enumerate(moved):
        first.setdefault(m.tobytes(), i)
    best = [i for i in first.values() if not any(_more(moved[i], moved[k]) and price[k] <= price[i] for k in first.values() if k != i)]
    kept = [best[0]]
    while len(kept) < min(n, len(z)):
        rest = [i for i in (best if len(best) > len(kept) else range(len(z))) if i not in kept]
        kept.append(max(rest, key=lambda i: min(_apart(moved, moves, z, i, k) for k in kept) / (price[i] + 1e-12)))
    return z[sorted(kept, key=lambda i: (price[i], i))]


def _more(a: Flags, b: Flags) -> bool:
    return bool((a | b == a).all() and (a != b).any())


def _apart(moved: Flags, moves: Cells, z: Cells, i: int, k: int) -> float:
    """How different two points are: mostly by which columns they change, a little by how far."""
    both, either = (moved[i] & moved[k]).sum(), (moved[i] | moved[k]).sum()
    far = float(np.abs(moves[i] - moves[k]).sum() + (z[i] != z[k]).sum() * 1e-3)
    return float(1 - both / max(either, 1) + 0.05 * far / (1 + far))
