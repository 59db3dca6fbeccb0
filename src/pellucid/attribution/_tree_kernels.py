"""Shapley values of trees along their own paths, compiled by numba: one walk a tree and sixteen rows, no division, exact for any depth.

A leaf of value v, with d features that differ on its path, gives feature i the share v (o_i - z_i) times the integral over q in [0, 1] of
the product over the other features of q o_j + (1 - q) z_j: o_j says whether the row goes that way, z_j how often training rows did.
The product is a polynomial of degree d - 1, so that ceil(d / 2) Gauss-Legendre nodes give the integral exactly.
"""

import numpy as np

from ._tree_lanes import LANES, carry, dot, goes_left, hand_out, jit, jit_free, line, meet, weigh

CHUNK = 8
"""Blocks of LANES rows that one thread takes along: a tree's tables stay near while it does."""


@jit
def goes(v, i, threshold, category, missing_left, missing, words):  # type: ignore[no-untyped-def]
    """Whether value `v` goes left at node `i`: the one place that knows about kinds of splits."""
    strange = missing_left[i] != 0
    if category[i, 1] > 0:
        if not (v > -1.0 and v < 2147483647.0):
            return strange and (np.isnan(v) or category[i, 3] > 0)
        c = np.int64(v)
        word, bit = c >> 5, np.uint32(1) << np.uint32(c & 31)
        if word < category[i, 1] and words[category[i, 0] + word] & bit:
            return True
        known = category[i, 3] == 0 or (word < category[i, 3] and words[category[i, 2] + word] & bit != 0)
        return strange and not known
    if np.isnan(v) or (missing[i] == 2 and abs(v) <= 1e-35):
        return strange
    return v <= threshold[i]


@jit
def add_up(start, end, value, output, feature, threshold, category, missing_left, missing, words, x, out):  # type: ignore[no-untyped-def]
    """Adds what all trees answer to `out`, (rows, outputs)."""
    for r in range(len(x)):
        for t in range(len(start) - 1):
            i = start[t]
            while feature[i] >= 0:
                v = x[r, feature[i]]
                if category[i, 1] == 0 and missing[i] == 1:
                    left = v <= threshold[i] or (v != v and missing_left[i] != 0)
                else:
                    left = goes(v, i, threshold, category, missing_left, missing, words)
                i = i + 1 if left else end[i + 1]
            if value.shape[1] > 1:
                for c in range(value.shape[1]):
                    out[r, c] += value[i, c]
            else:
                out[r, output[t]] += value[i, 0]


@jit
def _ways(w, x, at, a, b, feature, threshold, category, missing_left, missing, words):  # type: ignore[no-untyped-def]
    """At every split of the tree [a, b): 1 for each lane that goes left."""
    for i in range(a, b):
        f, here = np.int64(feature[i]), at + (i - a) * LANES
        if f < 0:
            continue
        if category[i, 1] == 0 and missing[i] == 1:
            goes_left(w, (here, x + f * LANES), (threshold[i], np.float64(missing_left[i])))
        else:
            for k in range(LANES):
                w[here + k] = 1.0 if goes(w[x + f * LANES + k], i, threshold, category, missing_left, missing, words) else 0.0


@jit
def _close(w, j, lj, leaf, room, phi, players, level_above, parted, left_child, edge, value, tab, at, quad, nodes, first):  # type: ignore[no-untyped-def]
    """The subtree under the edge into `j` is done: its player gets its share, and what is above gets the subtree's sum."""
    outs, above, f = value.shape[1], np.int64(level_above[j]), np.int64(edge[j])
    keep, split = 0.0 if left_child[j] else 1.0, np.float64(parted[j])
    for c in range(outs):
        v = value[j, c] if leaf else 1.0
        to = phi + ((first + c) * players + f) * LANES
        for q in range(nodes):
            sum_ = room[0] + (lj * nodes + q) * LANES if leaf else room[1] + ((lj * outs + c) * nodes + q) * LANES
            same = room[2] + ((lj * outs + c) * nodes + q) * LANES
            if lj > 1:
                carry(w, (room[1] + (((lj - 1) * outs + c) * nodes + q) * LANES, sum_), (keep, v))
            if above > 0:
                carry(w, (room[2] + ((above * outs + c) * nodes + q) * LANES, sum_), (1.0, v))
            hand_out(w, (to, sum_, same, room[3] + lj * LANES), (v, split, -1.0 / (1.0 - quad[0, q]), tab[at + 2 * nodes + q]))


@jit
def _walk(w, a, b, room, phi, players, level, parent, left_child, level_above, parted, edge, feature, share, value, tab, table, quad, nodes, first):  # type: ignore[no-untyped-def]
    """One tree, LANES rows."""
    outs = value.shape[1]
    for q in range(nodes):
        w[room[0] + q * LANES : room[0] + (q + 1) * LANES] = quad[1, q]
    w[room[3] : room[3] + LANES] = 1.0
    for i in range(a + 1, b):
        d, above = np.int64(level[i]), np.int64(level_above[i])
        at, left = table + (i - a) * 3 * nodes, np.float64(left_child[i])
        own, upper = room[3] + d * LANES, room[3] + above * LANES
        meet(w, (own, upper, room[4] + (np.int64(parent[i]) - a) * LANES), (1.0 - left, 2.0 * left - 1.0))
        for q in range(nodes):
            here = room[0] + (d * nodes + q) * LANES
            weigh(w, (here, here - nodes * LANES, upper, own), (share[i], tab[at + q], tab[at + nodes + q]))
        if parted[i]:
            w[room[2] + d * outs * nodes * LANES : room[2] + (d + 1) * outs * nodes * LANES] = 0.0
        if feature[i] >= 0:
            continue
        until = level[i + 1] if i + 1 < b else 1
        j, lj = i, d
        while lj >= until:
            _close(w, j, lj, j == i, room, phi, players, level_above, parted, left_child, edge, value, tab, table + (j - a) * 3 * nodes, quad, nodes, first)
            j, lj = np.int64(parent[j]), lj - 1


@jit_free
def path_values(start, level, parent, left_child, level_above, parted, edge, share, value, output, nodes, table, tab, quads, depth, feature, threshold, category, missing_left, missing, words, x, out):  # type: ignore[no-untyped-def]
    """Adds the Shapley values of all trees to `out`, (rows, players, outputs)."""
    n, players, outputs = out.shape
    features = x.shape[1]
    outs, most = value.shape[1], quads.shape[2] * LANES
    widest = np.max(np.diff(start))
    room = np.cumsum(np.array([0, depth * most, depth * outs * most, depth * outs * most, depth * LANES, widest * LANES, CHUNK * features * LANES, CHUNK * outputs * players * LANES]))
    for chunk in range((n + CHUNK * LANES - 1) // (CHUNK * LANES)):
        w, r0 = np.zeros(room[7]), chunk * CHUNK * LANES
        m = min(n - r0, CHUNK * LANES)
        blocks = (m + LANES - 1) // LANES
        for k in range(blocks * LANES):
            for f in range(features):
                w[room[5] + (k // LANES * features + f) * LANES + k % LANES] = x[r0 + min(k, m - 1), f]
        for t in range(len(start) - 1):
            a, b = start[t], start[t + 1]
            first = np.int64(output[t]) if outs == 1 else 0
            for g in range(blocks):
                _ways(w, room[5] + g * features * LANES, room[4], a, b, feature, threshold, category, missing_left, missing, words)
                _walk(w, a, b, room, room[6] + g * outputs * players * LANES, players, level, parent, left_child, level_above, parted, edge, feature, share,
                      value, tab, table[t], quads[nodes[t]], np.int64(nodes[t]), first)
        for k in range(m):
            for f in range(players):
                for c in range(outputs):
                    out[r0 + k, f, c] += w[room[6] + ((k // LANES * outputs + c) * players + f) * LANES + k % LANES]


@jit
def _pairs(w, i, d, room, phi, players, edge_at, places, count, value, output, nodes):  # type: ignore[no-untyped-def]
    """What leaf `i` gives every pair of players on its path, and every player alone."""
    outs, sums, whole = value.shape[1], room[5], room[6]
    for x in range(count):
        l1 = np.int64(places[x])
        f1 = edge_at[l1]
        w[whole : whole + LANES] = 0.0
        for q in range(nodes):
            meet(w, (sums + q * LANES, room[0] + (d * nodes + q) * LANES, room[1] + (l1 * nodes + q) * LANES), (0.0, 1.0))
            carry(w, (whole, sums + q * LANES), (1.0, 1.0))
        for c in range(outs):
            k = c if outs > 1 else output
            carry(w, (phi + ((k * players + f1) * players + f1) * LANES, whole), (1.0, value[i, c]))
        for y in range(x):
            l2 = np.int64(places[y])
            f2 = edge_at[l2]
            w[whole : whole + LANES] = 0.0
            for q in range(nodes):
                dot(w, (whole, sums + q * LANES, room[1] + (l2 * nodes + q) * LANES), (0.5,))
            for c in range(outs):
                k = c if outs > 1 else output
                carry(w, (phi + ((k * players + min(f1, f2)) * players + max(f1, f2)) * LANES, whole), (1.0, value[i, c]))


@jit_free
def path_interactions(start, level, parent, left_child, level_above, edge, share, value, output, nodes, table, tab, quads, depth, places, place_at, distinct, feature, threshold,
                      category, missing_left, missing, words, x, out):  # type: ignore[no-untyped-def]
    """Adds the interactions of all trees to `out`, (rows, players, players, outputs): half of a pair's effect on either side, what is left on the diagonal."""
    n, players, _, outputs = out.shape
    features = x.shape[1]
    most, widest = quads.shape[2] * LANES, np.max(np.diff(start))
    room = np.cumsum(np.array([0, depth * most, depth * most, depth * LANES, widest * LANES, features * LANES, most, LANES, outputs * players * players * LANES]))
    for g in range((n + LANES - 1) // LANES):
        w, r0, edge_at = np.zeros(room[8]), g * LANES, np.empty(depth, np.int64)
        state, ways, rows, phi = room[2], room[3], room[4], room[7]
        rooms = np.array([0, room[1], state, ways, rows, room[5], room[6]])
        m = min(n - r0, LANES)
        for k in range(LANES):
            for f in range(features):
                w[rows + f * LANES + k] = x[r0 + min(k, m - 1), f]
        for t in range(len(start) - 1):
            a, b, q_n = start[t], start[t + 1], np.int64(nodes[t])
            _ways(w, rows, ways, a, b, feature, threshold, category, missing_left, missing, words)
            for q in range(q_n):
                w[q * LANES : (q + 1) * LANES] = quads[q_n, 1, q]
            w[state : state + LANES] = 1.0
            for i in range(a + 1, b):
                d, left, at = np.int64(level[i]), np.float64(left_child[i]), table[t] + (i - a) * 3 * q_n
                own, upper = state + d * LANES, state + np.int64(level_above[i]) * LANES
                edge_at[d] = edge[i]
                meet(w, (own, upper, ways + (np.int64(parent[i]) - a) * LANES), (1.0 - left, 2.0 * left - 1.0))
                for q in range(q_n):
                    here = (d * q_n + q) * LANES
                    weigh(w, (here, here - q_n * LANES, upper, own), (share[i], tab[at + q], tab[at + q_n + q]))
                    line(w, (room[1] + here, own), (-1.0 / (1.0 - quads[q_n, 0, q]), tab[at + 2 * q_n + q]))
                if feature[i] < 0:
                    _pairs(w, i, d, rooms, phi, players, edge_at, places[place_at[i] : place_at[i] + distinct[i]], distinct[i], value, np.int64(output[t]), q_n)
        _spread(w, phi, players, outputs, m, r0, out)


@jit
def _spread(w, phi, players, outputs, m, r0, out):  # type: ignore[no-untyped-def]
    """Pairs on both sides of the diagonal, which keeps what pairs do not take."""
    for c in range(outputs):
        for k in range(m):
            for f in range(players):
                out[r0 + k, f, f, c] += w[phi + ((c * players + f) * players + f) * LANES + k]
                for h in range(f + 1, players):
                    v = w[phi + ((c * players + f) * players + h) * LANES + k]
                    out[r0 + k, f, h, c] += v
                    out[r0 + k, h, f, c] += v
                    out[r0 + k, f, f, c] -= v
                    out[r0 + k, h, h, c] -= v
