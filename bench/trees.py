"""Exact values of trees: ours beside shap, xgboost's and lightgbm's own and woodelf, one thread, process time; medians of interleaved rounds.

Every explanation of ours counts reading the model; shap's counts its constructor. A peer that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_breast_cancer, make_friedman1
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from pellucid.attribution._tree_values import ROOM, against, along_paths, interactions
from pellucid.backends._boosted_trees import read as read_booster
from pellucid.backends._sklearn_trees import read as read_sklearn
from pellucid.core.ensemble import Ensemble

HAVE = {name: importlib.util.find_spec(name) is not None for name in ("shap", "xgboost", "lightgbm", "woodelf")}


def read(net: object) -> Ensemble:
    """The model's trees."""
    return (read_sklearn(net) or read_booster(net))[0]  # type: ignore[index]


def spent(run: Callable[[], object]) -> float:
    """Process time: other work on the machine does not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(title: str, rows: int, ours: Callable[[], object], peers: dict[str, Callable[[], object]], rounds: int) -> None:
    """One line: milliseconds a row and ratios."""
    took: dict[str, list[float]] = {}
    ours()  # compiled, if it was not
    for _ in range(rounds):
        for name, run in {"ours": ours, **peers}.items():
            took.setdefault(name, []).append(spent(run))
    own = statistics.median(took["ours"])
    print(f"{title:<46}{rows:>6} rows  ours {1e3 * own:9.2f} ms", end="")
    for name in peers:
        ratio = statistics.median(t / o for t, o in zip(took[name], took["ours"], strict=True))
        print(f" | {name} {1e3 * statistics.median(took[name]):.1f} ms = {ratio:.1f}x", end="")
    print(flush=True)


def models() -> dict[str, tuple[object, np.ndarray]]:
    """Forests of depth 8, 12 and unlimited, and boosted trees."""
    x, y = make_friedman1(3000, 20, random_state=0)
    xb, yb = load_breast_cancer(return_X_y=True)
    found: dict[str, tuple[object, np.ndarray]] = {
        "forest of 100, depth 8": (RandomForestRegressor(100, max_depth=8, random_state=0, n_jobs=1).fit(x[:1000], y[:1000]), x),
        "forest of 20, depth 12": (RandomForestRegressor(20, max_depth=12, random_state=0).fit(x[:1000], y[:1000]), x),
        "forest of 100, unlimited, two classes": (RandomForestClassifier(100, random_state=0).fit(xb, yb), xb),
    }
    if HAVE["xgboost"]:
        import xgboost

        found["xgboost 100, depth 6"] = (xgboost.XGBRegressor(n_estimators=100, max_depth=6, n_jobs=1).fit(x, y), x)
    if HAVE["lightgbm"]:
        import lightgbm

        found["lightgbm 100, 31 leaves"] = (lightgbm.LGBMRegressor(n_estimators=100, verbose=-1, n_jobs=1).fit(x, y), x)
    return found


def own(net: object) -> dict[str, Callable[[np.ndarray], Callable[[], object]]]:
    """What the library itself offers."""
    module = type(net).__module__
    if module.startswith("xgboost"):
        import xgboost

        return {"xgboost's own": lambda z: lambda: net.get_booster().predict(xgboost.DMatrix(z), pred_contribs=True)}  # type: ignore[attr-defined]
    if module.startswith("lightgbm"):
        return {"lightgbm's own": lambda z: lambda: net.predict(z, pred_contrib=True)}  # type: ignore[attr-defined]
    return {}


def shap_values(net: object, z: np.ndarray, background: np.ndarray | None = None, pairs: bool = False) -> Callable[[], object]:
    """shap's explainer, built anew as ours reads anew."""
    import shap

    def run() -> object:
        data = None if background is None else shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.TreeExplainer(net, data=data, feature_perturbation="tree_path_dependent" if data is None else "interventional")
        return explainer.shap_interaction_values(z) if pairs else explainer.shap_values(z, check_additivity=False)

    return run


def woodelf_values(net: object, z: np.ndarray, background: np.ndarray | None) -> Callable[[], object]:
    """woodelf's explainer."""
    import pandas
    import woodelf

    frame = lambda rows: pandas.DataFrame(rows, columns=[f"f{i}" for i in range(rows.shape[1])])  # noqa: E731

    return lambda: woodelf.WoodelfExplainer(net, frame(background)).shap_values(frame(z))


FRESH = """
import time, numpy as np, sys
from sklearn.ensemble import RandomForestRegressor
from pellucid.attribution._tree_values import against, along_paths, interactions
from pellucid.backends._sklearn_trees import read
rng = np.random.default_rng(0)
x = rng.normal(size=(4000, 8))
trees = read(RandomForestRegressor(40, max_depth=8, random_state=0).fit(x[:800], x[:800, 0] * x[:800, 1]))[0]
z = trees.rows(x)
for name, run in (("paths", lambda: along_paths(trees, z[:1])), ("pairs", lambda: interactions(trees, z[:1])), ("background", lambda: against(trees, z[:1], z[:50], form="tables")),
                  ("background, followed", lambda: against(trees, z[:1], z[:50], form="direct"))):
    start = time.process_time()
    run()
    print(f"  {name}: {time.process_time() - start:.2f} s")
start = time.perf_counter()
along_paths(trees, z)
print(f"  4,000 rows: {time.perf_counter() - start:.3f} s of the clock")
"""
"""What a new process waits for, and how long many rows take it."""


def compiling() -> None:
    """The first call ever, the first call of a process with what was kept, and two threads beside one."""
    with tempfile.TemporaryDirectory() as kept:
        for told, threads in (("first call ever", "1"), ("first call of a process, kept", "1"), ("with two threads", "2")):
            print(f"{told}:", flush=True)
            subprocess.run([sys.executable, "-c", FRESH], check=True, env={**os.environ, "NUMBA_CACHE_DIR": kept, "NUMBA_NUM_THREADS": threads})


def main() -> None:
    """All tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="one round, and none of what takes a peer minutes")
    args = options.parse_args()
    rounds = 1 if args.quick else args.rounds
    warnings.simplefilter("ignore")
    print("one thread, process time, medians of", rounds, "rounds; not installed:", ", ".join(k for k, v in HAVE.items() if not v) or "none")
    compiling()
    print(f"tables of patterns hold at most {ROOM / 2**20:.0f} MB at once; a tree whose own would be larger is followed row by row")
    for title, (net, x) in models().items():
        trees = read(net)
        n = 500 if "forest" in title else 2000
        z = x[:n]
        start = time.process_time()
        read(net)
        print(f"{title}: reading {1e3 * (time.process_time() - start):.0f} ms")
        peers = {"shap": shap_values(net, z)} if HAVE["shap"] and not own(net) else {}
        compare(f"{title}, along paths", len(z), lambda net=net, z=z: along_paths(t := read(net), t.rows(z)), peers | {k: f(z) for k, f in own(net).items()}, rounds)
        few = {"shap": shap_values(net, x[:1])} if HAVE["shap"] else {}
        compare(f"{title}, one row, read before", 1, lambda trees=trees, x=x: along_paths(trees, trees.rows(x[:1])), few, rounds)
        if HAVE["shap"]:
            compare(f"{title}, pairs", 200, lambda net=net, x=x: interactions(t := read(net), t.rows(x[:200])), {"shap": shap_values(net, x[:200], pairs=True)}, 1 if "8" in title else rounds)
        back = x[:100]
        peers = {"shap": shap_values(net, x[:200], back)} if HAVE["shap"] else {}
        compare(f"{title}, background of 100", 200, lambda net=net, x=x, back=back: against(t := read(net), t.rows(x[:200]), t.rows(back)), peers, rounds)
        if "xgboost" in title and not args.quick:
            peers = {"shap": shap_values(net, x[:2000], x[:1000])} if HAVE["shap"] else {}
            if HAVE["woodelf"]:
                peers["woodelf"] = woodelf_values(net, x[:2000], x[:1000])
            compare(f"{title}, background of 1,000", 2000, lambda net=net, x=x: against(t := read(net), t.rows(x[:2000]), t.rows(x[:1000])), peers, 1)


if __name__ == "__main__":
    main()
