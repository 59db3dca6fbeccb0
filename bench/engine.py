"""Where do we stand between the machine's limit and captum, on EfficientNet-Lite0 with its real weights?

Every round runs floor, ours and captum one after the other, so that other work on the machine hits all alike; the tables give medians.
The floor is plain torch: parameters frozen, the best chunk x threads x layout that was measured, inference mode where no gradient is due.
"""

from __future__ import annotations

import argparse
import functools
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import planner as planner_bench
import torch
from subjects import PHOTOS, efficientnet, freeze, photo
from torch import Tensor, nn

import pellucid as pel

CORES = torch.get_num_threads()
SECTIONS = ("saliency", "grad-cam", "ig", "smooth-grad", "occlusion", "error", "memory", "planner")


@dataclass(frozen=True)
class Arm:
    """One way of running rows."""

    size: int
    channels_last: bool
    threads: int

    def __str__(self) -> str:
        return f"{self.size}{' cl' if self.channels_last else ''} t{self.threads}"


class Bench:
    """The network three ways (frozen, as the user has it, as a Model), one photo, and what was measured."""

    def __init__(self, rounds: int, window: int = 16) -> None:
        self.rounds, self.window, self.stride = rounds, window, window // 2
        self.frozen, self.plain = freeze(efficientnet()), efficientnet()
        self.last = freeze(efficientnet()).to(memory_format=torch.channels_last)
        self.model = pel.wrap(self.plain, name="efficientnet-lite0")
        self.x = photo("chelsea")
        self.target = self.label(self.x)
        self.layer = ""

    def label(self, x: Tensor) -> int:
        with torch.inference_mode():
            return int(self.frozen(x).argmax())

    def fresh(self) -> pel.Model:
        return pel.wrap(self.plain, name="efficientnet-lite0")

    # -- the floor -------------------------------------------------------------------------------------------------

    def forward(self, z: Tensor, arm: Arm) -> Tensor:
        with torch.inference_mode():
            return self._net(arm)(_laid(z, arm))[:, self.target]

    def backward(self, z: Tensor, arm: Arm) -> Tensor:
        z = _laid(z, arm).detach().requires_grad_()
        return torch.autograd.grad(self._net(arm)(z)[:, self.target].sum(), z)[0]

    def cam(self, z: Tensor, arm: Arm) -> Tensor:
        """What Grad-CAM cannot do without: one forward, and the gradient at the layer only."""
        net, held = self._net(arm), []

        def hold(module: nn.Module, args: object, out: Tensor) -> Tensor:
            held.append(out.detach().requires_grad_())
            return held[0]

        handle = net.get_submodule(self.layer).register_forward_hook(hold)
        try:
            y = net(_laid(z, arm))[:, self.target].sum()
        finally:
            handle.remove()
        return torch.autograd.grad(y, held[0])[0]

    def _net(self, arm: Arm) -> nn.Module:
        return self.last if arm.channels_last else self.frozen

    def sweep(self, stage: str, rows: int, arm: Arm) -> None:
        torch.set_num_threads(arm.threads)
        scale = torch.linspace(0.02, 1, rows)[:, None, None, None]
        for i in range(0, rows, arm.size):
            getattr(self, stage)(self.x * scale[i : i + arm.size], arm)
        torch.set_num_threads(CORES)

    @functools.cache  # noqa: B019 - one Bench a process
    def arms(self, stage: str, one: bool) -> tuple[Arm, ...]:
        """The four fastest arms, by the best of three turns over all of them."""
        sizes = (1,) if one else (2, 4, 6, 8, 16)
        every = [Arm(c, cl, t) for c in sizes for cl in (False, True) for t in sorted({1, CORES})]
        seen: dict[Arm, list[float]] = {arm: [] for arm in every}
        for _ in range(3):
            for arm in every:
                rows = max(arm.size, 1 if one else 8)
                seen[arm].append(seconds(lambda arm=arm, rows=rows: self.sweep(stage, rows, arm)) / rows)
        return tuple(sorted(every, key=lambda arm: min(seen[arm]))[:4])


def _laid(z: Tensor, arm: Arm) -> Tensor:
    return z.contiguous(memory_format=torch.channels_last) if arm.channels_last else z


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def quiet(run: Callable[[], object]) -> Callable[[], object]:
    def inner() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return inner


def best_of(ways: dict[str, Callable[[], object]]) -> tuple[str, Callable[[], object]]:
    """The fastest of several settings, each run once."""
    took = {name: seconds(run) for name, run in ways.items()}
    name = min(took, key=took.__getitem__)
    return name, ways[name]


# -- time against the floor and captum -----------------------------------------------------------------------------


def compare(bench: Bench, title: str, stage: str, rows: int, ours: Callable[[pel.Model], object], default: Callable[[], object], tuned: dict[str, Callable[[], object]]) -> None:
    """One row of the table: medians and ratios over the floor."""
    arms = bench.arms(stage, rows == 1)
    setting, best = best_of(tuned) if tuned else ("the only setting", default)
    ours(bench.model)  # warm: a question like it was asked before
    took: dict[str, list[float]] = {}
    for _ in range(bench.rounds):
        for arm in arms:
            took.setdefault(str(arm), []).append(seconds(lambda arm=arm: bench.sweep(stage, rows, arm)))
        took.setdefault("warm", []).append(seconds(lambda: ours(bench.model)))
        took.setdefault("cold", []).append(seconds(lambda: ours(bench.fresh())))
        took.setdefault("tuned", []).append(seconds(best))
        took.setdefault("default", []).append(seconds(default))
    arm = min(map(str, arms), key=lambda a: statistics.median(took[a]))
    floor = statistics.median(took[arm])
    print(f"{title:<18}{rows:>4} {stage:<9} floor {1e3 * floor:>8.1f} ms ({arm})", end="")
    for name in ("warm", "cold", "default", "tuned"):
        ratio = statistics.median(t / f for t, f in zip(took[name], took[arm], strict=True))
        label = {"warm": "ours", "cold": "ours, first question", "default": "captum default", "tuned": f"captum {setting}"}[name]
        print(f" | {label} {1e3 * statistics.median(took[name]):.0f} ms = {ratio:.2f}x", end="")
    gain = statistics.median(d / w for d, w in zip(took["default"], took["warm"], strict=True))
    print(f" | captum default / ours {gain:.2f}", flush=True)


def ask(bench: Bench, method: str, **parameters: object) -> Callable[[pel.Model], object]:
    return lambda model: pel.explain(model, bench.x, method=method, target=bench.target, evidence="none", **parameters)


def saliency(bench: Bench) -> None:
    from captum.attr import Saliency

    compare(bench, "Saliency", "backward", 1, ask(bench, "saliency"), quiet(lambda: Saliency(bench.plain).attribute(bench.x, target=bench.target)), {})


def grad_cam(bench: Bench) -> None:
    from captum.attr import LayerGradCam

    bench.layer = str(pel.explain(bench.model, bench.x, method="grad-cam", target=bench.target, evidence="none").at)
    cam = LayerGradCam(bench.plain, bench.plain.get_submodule(bench.layer))
    compare(bench, "Grad-CAM", "cam", 1, ask(bench, "grad-cam"), quiet(lambda: cam.attribute(bench.x, target=bench.target, relu_attributions=True)), {})


def ig(bench: Bench) -> None:
    from captum.attr import IntegratedGradients

    def captum(**more: object) -> Callable[[], object]:
        return quiet(lambda: IntegratedGradients(bench.plain).attribute(bench.x, target=bench.target, n_steps=50, **more))

    tuned = {f"internal_batch_size {b}": captum(internal_batch_size=b) for b in (2, 4, 8)}
    compare(bench, "IG-50", "backward", 50, ask(bench, "integrated-gradients", steps=50), captum(), tuned)


def smooth_grad(bench: Bench) -> None:
    from captum.attr import NoiseTunnel, Saliency

    spread = 0.15 * float(bench.x.max() - bench.x.min())

    def captum(**more: object) -> Callable[[], object]:
        tunnel = NoiseTunnel(Saliency(bench.plain))
        return quiet(lambda: tunnel.attribute(bench.x, target=bench.target, nt_samples=50, stdevs=spread, abs=False, **more))

    tuned = {f"nt_samples_batch_size {b}": captum(nt_samples_batch_size=b) for b in (2, 4, 8)}
    compare(bench, "SmoothGrad-50", "backward", 50, ask(bench, "smooth-grad", samples=50), captum(), tuned)


def occlusion(bench: Bench) -> None:
    from captum.attr import Occlusion

    def captum(per: int) -> Callable[[], object]:
        shapes = {"sliding_window_shapes": (3, bench.window, bench.window), "strides": (3, bench.stride, bench.stride)}
        return quiet(lambda: Occlusion(bench.plain).attribute(bench.x, target=bench.target, perturbations_per_eval=per, **shapes))

    windows = (-(-(224 - bench.window) // bench.stride) + 1) ** 2
    tuned = {f"perturbations_per_eval {b}": captum(b) for b in (2, 4, 8)}
    title = f"Occlusion {bench.window}/{bench.stride}"
    compare(bench, title, "forward", windows + 1, ask(bench, "occlusion", window=bench.window, stride=bench.stride), captum(1), tuned)


# -- error of the map at equal rows --------------------------------------------------------------------------------


def integral(bench: Bench, x: Tensor, nodes: np.ndarray, weights: np.ndarray) -> Tensor:
    """Integrated gradients from zero by plain torch, summed in float64."""
    total, arm = torch.zeros_like(x, dtype=torch.float64), Arm(4, True, CORES)
    for i in range(0, len(nodes), arm.size):
        t = torch.tensor(nodes[i : i + arm.size], dtype=torch.float32)[:, None, None, None]
        w = torch.tensor(weights[i : i + arm.size])[:, None, None, None]
        total += (w * bench.backward(x * t, arm).double()).sum(0, keepdim=True)
    return x.double() * total


def uniform(n: int) -> tuple[np.ndarray, np.ndarray]:
    return (np.arange(n) + 0.5) / n, np.full(n, 1 / n)


def gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def error(bench: Bench, photos: tuple[str, ...], reference: int) -> None:
    """Relative L2 distance to the reference; auto nodes beside uniform ones at the same rows."""
    print(f"\nError of the IG map, relative L2 to {reference} midpoint nodes")
    for name in photos:
        x = photo(name)
        bench.target = bench.label(x)
        truth = integral(bench, x, *uniform(reference))

        def off(found: Tensor, truth: Tensor = truth) -> float:
            return float((found.double() - truth).norm() / truth.norm())

        e = pel.explain(bench.model, x, method="integrated-gradients", steps="auto", target=bench.target, evidence="none")
        rows = e.cost.backward_rows
        probes = max(0, e.cost.forward_rows - rows)
        fair = rows + round(probes / 2.5)  # a forward row costs about 0.4 of a gradient row
        print(
            f"{name:<10} auto {off(e.values):.3f} ({rows} gradient rows + {probes} forward rows) | uniform {rows}: {off(integral(bench, x, *uniform(rows))):.3f}"
            f" | uniform {fair} (equal time): {off(integral(bench, x, *uniform(fair))):.3f} | uniform 96: {off(integral(bench, x, *uniform(96))):.3f}"
            f" | Gauss-Legendre 50 (captum's default): {off(integral(bench, x, *gauss(50))):.3f}",
            flush=True,
        )
    bench.target = bench.label(bench.x)


# -- memory --------------------------------------------------------------------------------------------------------


def child(steps: int) -> None:
    """Peak memory of one process that answers one question."""
    model, x = pel.wrap(efficientnet(), name="efficientnet-lite0"), photo("chelsea")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pel.explain(model, x, method="integrated-gradients", steps=steps, target=285, evidence="none")
    print("peak", before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def memory(many: int) -> None:
    peaks = {}
    for steps in (50, many):
        done = subprocess.run([sys.executable, __file__, "--child", str(steps)], capture_output=True, text=True, check=True)
        before, after = (int(v) / 1024 for v in done.stdout.split("peak")[-1].split())
        peaks[steps] = after
        print(f"IG-{steps:<5} peak {after:.0f} MiB, {after - before:.0f} MiB of them above the loaded model", flush=True)
    print(f"IG-{many} / IG-50: {peaks[many] / peaks[50]:.2f}")


# -- the command ---------------------------------------------------------------------------------------------------


def run(sections: list[str], rounds: int, quick: bool) -> None:
    print(f"torch {torch.__version__}, {CORES} threads, medians of {rounds} interleaved rounds")
    bench = Bench(rounds, 32 if quick else 16)
    timed = {"saliency": saliency, "grad-cam": grad_cam, "ig": ig, "smooth-grad": smooth_grad, "occlusion": occlusion}
    for name in sections:
        if name in timed:
            timed[name](bench)
    if "error" in sections:
        error(bench, PHOTOS[:2] if quick else PHOTOS, 400 if quick else 1200)
    if "memory" in sections:
        print("\nPeak memory, one process a question")
        memory(150 if quick else 500)
    if "planner" in sections:
        print()
        planner_bench.table(["efficientnet", "minilm"] if quick else list(planner_bench.LADDERS), [50, 200], rounds, ["forward", "backward"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=f"any of {', '.join(SECTIONS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="as many threads as the machine has, if not given")
    parser.add_argument("--quick", action="store_true", help="two rounds, two photos, a coarser reference, larger windows")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        CORES = planner_bench.CORES = options.threads
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.child:
        child(options.child)
    else:
        run(options.sections, 2 if options.quick else options.rounds, options.quick)
