"""Threads share the work on compiled trees: two of them tell what one does. The quick suite has one thread."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

numba = pytest.importorskip("numba")

from pellucid.attribution._tree_values import against, along_paths, interactions  # noqa: E402 - they import numba
from pellucid.backends._sklearn_trees import read  # noqa: E402

ROWS = np.random.default_rng(0).normal(size=(700, 6)).round(1)


@pytest.mark.slow
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread is all there is")
def test_two_threads_tell_what_one_does():
    trees = read(RandomForestRegressor(n_estimators=5, max_depth=6, random_state=0).fit(ROWS, ROWS[:, 0] * ROWS[:, 1] + ROWS[:, 2]))[0]
    ways = [lambda: along_paths(trees, ROWS), lambda: interactions(trees, ROWS)]
    ways += [lambda form=form: against(trees, ROWS, ROWS[:60], form=form) for form in ("tables", "direct")]
    before = numba.get_num_threads()
    try:
        for way in ways:
            one, two = ((numba.set_num_threads(n), way())[1] for n in (1, 2))
            assert np.abs(one).max() > 0.1
            np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-12)
    finally:
        numba.set_num_threads(before)
