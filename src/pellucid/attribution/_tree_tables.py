"""Shapley values of trees against a background, compiled by numba: patterns of each leaf counted once, or background rows followed where that is cheaper.

For a leaf with d features on its path every row is a pattern of d bits: does it meet the conditions on that feature? With the background's patterns
counted, and weighed by one Kronecker product a quadrature node with [[0, 1 - q], [q, 1]], a row's values are read off two tables of 2^d numbers:
-C[c] for a feature whose conditions it does not meet, A[c] - A[c ^ i] - C[c ^ i] for one that it meets, which is A[c] - (A + C)[c without i] for both. The cost does not grow with the background.
"""

import numpy as np

from ._tree_kernels import goes
from ._tree_lanes import jit, jit_free

ROWS = 64
"""Rows whose patterns are found together."""


@jit
def _patterns(a, b, level, parent, left_child, fresh, slot, feature, threshold, category, missing_left, missing, words, x, r0, n, ways, at, leaves):  # type: ignore[no-untyped-def]
    """The patterns of `n` rows at every leaf of the tree [a, b), in the leaves' order."""
    for i in range(a, b):
        f = feature[i]
        if f < 0:
            continue
        if category[i, 1] == 0 and missing[i] == 1:
            strange, edge = missing_left[i] != 0, threshold[i]
            for k in range(n):
                v = x[f, r0 + k]
                ways[i - a, k] = np.int32(1) if (v <= edge or (strange and v != v)) else np.int32(0)
        else:
            for k in range(n):
                ways[i - a, k] = np.int32(1) if goes(x[f, r0 + k], i, threshold, category, missing_left, missing, words) else np.int32(0)
    at[0, :n] = 0
    c = 0
    for i in range(a, b):
        d = level[i]
        if i > a:
            bit, p, left = np.int32(1) << np.int32(slot[i]), parent[i] - a, np.int32(left_child[i])
            new = bit if fresh[i] else np.int32(0)
            for k in range(n):
                seen = at[d - 1, k] | new
                at[d, k] = seen if ways[p, k] == left else seen & ~bit
        if feature[i] < 0:
            for k in range(n):
                leaves[c, k] = at[d, k]
            c += 1


@jit
def _weighed(counts, d, nodes, quads, h, big, both):  # type: ignore[no-untyped-def]
    """The tables A and A + C of a leaf from how often each pattern was counted."""
    n = 1 << d
    big[:n] = 0.0
    both[:n] = 0.0
    for x in range(nodes):
        q, weight = quads[nodes, 0, x], quads[nodes, 1, x]
        h[:n] = counts[:n]
        step = 1
        while step < n:
            for b in range(0, n, 2 * step):
                for k in range(b, b + step):
                    off, on = h[k], h[k + step]
                    h[k] = (1.0 - q) * on
                    h[k + step] = q * off + on
            step *= 2
        for k in range(n):
            big[k] += weight / q * h[k]
            both[k] += (weight / q + weight / (1.0 - q)) * h[k]


@jit_free
def count(chosen, start, level, parent, left_child, fresh, slot, distinct, by_width, quads, depth, feature, threshold,
          category, missing_left, missing, words, background, where, big, both):  # type: ignore[no-untyped-def]
    """Fills the tables A and A + C of the chosen trees; `where[i]` is where those of leaf i begin."""
    m = background.shape[1]
    for g in range(len(chosen)):
        a, b = start[chosen[g]], start[chosen[g] + 1]
        found = np.flatnonzero(feature[a:b] < 0) + a
        ways, at, leaves = np.empty((b - a, ROWS), np.int32), np.empty((depth, ROWS), np.int32), np.empty((len(found), ROWS), np.int32)
        most = 1 << np.max(distinct[found])
        counts, h = np.zeros((len(found), most)), np.empty(most)
        for r0 in range(0, m, ROWS):
            n = min(ROWS, m - r0)
            _patterns(a, b, level, parent, left_child, fresh, slot, feature, threshold, category, missing_left, missing, words, background, r0, n, ways, at, leaves)
            for c in range(len(found)):
                for k in range(n):
                    counts[c, leaves[c, k]] += 1.0 / m
        for c in range(len(found)):
            i = found[c]
            _weighed(counts[c], distinct[i], by_width[distinct[i]], quads, h, big[where[i] :], both[where[i] :])


@jit_free
def look_up(chosen, start, level, parent, left_child, fresh, slot, distinct, on_path, path_at, value, output, depth, feature, threshold,
            category, missing_left, missing, words, x, where, big, both, out):  # type: ignore[no-untyped-def]
    """Adds the values of the chosen trees for every row: one look at each leaf's tables."""
    n, outs = out.shape[0], value.shape[1]
    widest = np.max(np.diff(start))
    for g in range((n + ROWS - 1) // ROWS):
        r0 = g * ROWS
        m = min(ROWS, n - r0)
        ways, at, leaves = np.empty((widest, ROWS), np.int32), np.empty((depth, ROWS), np.int32), np.empty((widest, ROWS), np.int32)
        for t in chosen:
            a, b = start[t], start[t + 1]
            _patterns(a, b, level, parent, left_child, fresh, slot, feature, threshold, category, missing_left, missing, words, x, r0, m, ways, at, leaves)
            c = 0
            for i in range(a, b):
                if feature[i] >= 0:
                    continue
                d, o, p = distinct[i], where[i], path_at[i]
                for e in range(outs):
                    v, to = value[i, e], (e if outs > 1 else output[t])
                    for k in range(m):
                        seen = np.int64(leaves[c, k])
                        whole = big[o + seen]
                        for j in range(d):
                            out[r0 + k, on_path[p + j], to] += v * (whole - both[o + (seen & ~(np.int64(1) << j))])
                c += 1


@jit
def _shares(mine, theirs, d, chances, share):  # type: ignore[no-untyped-def]
    """Adds what a leaf gives each feature on its path when a row meets `mine` and a background row `theirs`."""
    own, other = mine & ~theirs, theirs & ~mine
    p, n = 0, 0
    for j in range(d):
        p += own >> j & 1
        n += other >> j & 1
    if p + n == 0:
        return
    up, down = chances[max(p - 1, 0), n], chances[p, max(n - 1, 0)]
    for j in range(d):
        share[j] += up * (own >> j & 1) - down * (other >> j & 1)


@jit_free
def follow(chosen, start, end, level, parent, left_child, fresh, slot, distinct, on_path, path_at, value, output, depth, feature, threshold,
           category, missing_left, missing, words, chances, x, background, out):  # type: ignore[no-untyped-def]
    """Adds the chosen trees' values by walking each with each row and the background rows for which a mixture of both can still come along."""
    for t in chosen:
        a, b, m, outs = start[t], start[t + 1], background.shape[1], value.shape[1]
        ways = np.empty((b - a, m), np.int8)
        for i in range(a, b):
            if feature[i] >= 0:
                for k in range(m):
                    ways[i - a, k] = 1 if goes(background[feature[i], k], i, threshold, category, missing_left, missing, words) else 0
        for r in range(out.shape[0]):
            alive, theirs = np.empty((depth, m), np.int32), np.empty((depth, m), np.int64)
            count, mine, share = np.zeros(depth, np.int64), np.zeros(depth, np.int64), np.empty(64)
            for k in range(m):
                alive[0, k], theirs[0, k] = k, 0
            count[0] = m
            i = a + 1
            while i < b:
                d, p, left = level[i], parent[i], left_child[i]
                bit = np.int64(1) << np.int64(slot[i])
                new = bit if fresh[i] else np.int64(0)
                seen = mine[d - 1] | new
                if goes(x[feature[p], r], p, threshold, category, missing_left, missing, words) != (left != 0):
                    seen &= ~bit
                mine[d], c = seen, 0
                for k in range(count[d - 1]):
                    row = alive[d - 1, k]
                    there = theirs[d - 1, k] | new
                    if ways[p - a, row] != left:
                        there &= ~bit
                    alive[d, c], theirs[d, c] = row, there
                    c += 1 if (seen | there) & bit != 0 else 0
                count[d] = c
                if c == 0:
                    i = end[i]
                    continue
                if feature[i] < 0:
                    share[: distinct[i]] = 0.0
                    for k in range(c):
                        _shares(seen, theirs[d, k], distinct[i], chances, share)
                    for e in range(outs):
                        to = e if outs > 1 else output[t]
                        for j in range(distinct[i]):
                            out[r, on_path[path_at[i] + j], to] += value[i, e] / m * share[j]
                i += 1
