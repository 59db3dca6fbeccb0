"""Values of players by their definition: every coalition is asked."""

import itertools
import math

import numpy as np


def size_weight(index, k, n):
    """What a coalition of k among n - 1 others counts."""
    if index == "shapley":
        return math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n)
    beta = lambda a, b: math.gamma(a) * math.gamma(b) / math.gamma(a + b)  # noqa: E731
    return 0.5 ** (n - 1) if index == "banzhaf" else beta(k + 1, n - 1 - k + 4) / beta(4, 1)


def enumerated(trees, z, worth, index="shapley"):
    """(values, interactions halved on either side) by the definition."""
    n, coalitions = trees.players, list(itertools.product([0, 1], repeat=trees.players))
    v = {s: worth(np.array(s, bool)) for s in coalitions}
    phi, pairs = np.zeros((len(z), n, trees.outputs)), np.zeros((len(z), n, n, trees.outputs))
    with_ = lambda s, *who: tuple(1 if i in who else x for i, x in enumerate(s))  # noqa: E731
    for s in coalitions:
        for i in (i for i in range(n) if not s[i]):
            phi[:, i] += size_weight(index, sum(s), n) * (v[with_(s, i)] - v[s])
            for j in (j for j in range(n) if not s[j] and j != i):
                weight = math.factorial(sum(s)) * math.factorial(n - sum(s) - 2) / math.factorial(n - 1) / 2
                pairs[:, i, j] += weight * (v[with_(s, i, j)] - v[with_(s, i)] - v[with_(s, j)] + v[s])
    for i in range(n):
        pairs[:, i, i] = phi[:, i] - pairs[:, i].sum(1)
    return phi, pairs


def by_paths(trees, z):
    """The worth of a coalition where absent features split as training rows did."""

    def below(i, present):
        if trees.feature[i] < 0:
            return np.tile(trees.value[i], (len(z), 1))
        left, right = below(i + 1, present), below(trees.end[i + 1], present)
        if present[trees.owner[trees.feature[i]]]:
            return np.where(trees.goes_left(z[:, trees.feature[i]], np.full(len(z), i))[:, None], left, right)
        return trees.share[i + 1] * left + trees.share[trees.end[i + 1]] * right

    def worth(present):
        out = np.tile(trees.base, (len(z), 1))
        for t, k in enumerate(trees.output):
            found = below(trees.start[t], present)
            if found.shape[1] > 1:
                out += found
            else:
                out[:, k] += found[:, 0]
        return out

    return worth


def by_rows(trees, z, background):
    return lambda present: np.stack([trees.sums(np.where(present[trees.owner], row, background)).mean(0) for row in z])
