"""White-box methods between the machine's limit and the peers, on EfficientNet-Lite0 with its real weights.

`rules`: each backward rule against one plain forward and backward of the same rows. `rows`: what every gradient and CAM method counts
against what it cannot do without, and its time beside that of captum or grad-cam. `channels`: the methods that ask once a channel.
Every round runs floor, ours and peer one after the other; medians of the rounds' ratios are printed, and peak memory beside.
grad-cam imports cv2, ttach and torchvision; what it uses of them here is one resize, so they are stubbed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator

import torch
from engine import CORES, Bench, quiet, seconds
from subjects import efficientnet, photo
from torch import Tensor, nn

import pellucid as pel

WARM = 4
"""Questions from which the planner learns before anything is measured, as the floor's setting is measured before."""
LAYER = "_blocks.15._bn2"
"""320 channels on 7 x 7: the last block."""

RULES: list[tuple[str, str, dict[str, object], float]] = [
    ("LRP-0", "lrp", {"composite": "lrp-0"}, 1.6),
    ("LRP epsilon", "lrp", {"composite": "epsilon"}, 1.6),
    ("DeepLIFT", "deep-lift", {}, 2.3),
    ("LRP z+", "lrp", {"composite": "z-plus"}, 3.5),
    ("LRP gamma", "lrp", {"composite": "gamma"}, 6.0),
    ("LRP alpha2-beta1", "lrp", {"composite": "alpha2-beta1"}, 6.0),
    ("guided backprop", "guided-backprop", {}, float("nan")),
]

COUNTED: list[tuple[str, dict[str, object], int, int]] = [
    ("saliency", {}, 1, 1),
    ("input-x-gradient", {}, 1, 1),
    ("guided-backprop", {}, 1, 1),
    ("deconvnet", {}, 1, 1),
    ("integrated-gradients", {"steps": 50}, 50, 50),
    ("smooth-grad", {"samples": 50}, 50, 50),
    ("expected-gradients", {"samples": 50}, 50, 50),
    ("full-grad", {}, 1, 1),
    ("grad-cam", {}, 1, 1),
    ("grad-cam-plus-plus", {}, 1, 1),
    ("hi-res-cam", {}, 1, 1),
    ("element-wise-cam", {}, 1, 1),
    ("x-grad-cam", {}, 1, 1),
    ("layer-cam", {}, 1, 1),
    ("eigen-cam", {}, 1, 0),
    ("eigen-grad-cam", {}, 1, 1),
    ("kpca-cam", {}, 1, 0),
    ("fem", {}, 1, 0),
    ("shapley-cam", {}, 1, 2),
]


# -- measuring -----------------------------------------------------------------------------------------------------


class Peak:
    """Resident memory above what it was, sampled while something runs."""

    def __enter__(self) -> Peak:
        self.before, self.most, self.going = _resident(), 0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.going:
            self.most = max(self.most, _resident())
            threading.Event().wait(0.005)

    def __exit__(self, *_: object) -> None:
        self.going = False
        self.thread.join()
        self.megabytes = max(0, self.most - self.before) / 2**20


def _resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def ratio(rounds: int, floor: Callable[[], object], **runs: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """(floor in seconds, each run over the floor of its round), medians; all are run once before."""
    for run in (floor, *runs.values()):
        run()
    took: dict[str, list[float]] = {"floor": []}
    for _ in range(rounds):
        took["floor"].append(seconds(floor))
        for name, run in runs.items():
            took.setdefault(name, []).append(seconds(run))
    return statistics.median(took["floor"]), {n: statistics.median(t / f for t, f in zip(took[n], took["floor"], strict=True)) for n in runs}


# -- rules ---------------------------------------------------------------------------------------------------------


def rules(bench: Bench, rounds: int) -> None:
    """Each rule against one plain forward and backward of the same rows."""
    print("Backward rules over one plain forward and backward of the same rows (floor: frozen network, best of chunk x layout x threads;")
    print(f"ours: as users get it, chunk, layout and threads chosen by the planner, which {WARM} questions before taught)")
    for rows in (1, 8):
        x = photo("chelsea") * torch.linspace(0.3, 1, rows)[:, None, None, None] if rows > 1 else photo("chelsea")
        arm = bench.arms("backward", rows == 1)[0]
        for title, method, parameters, goal in RULES:
            made = pel_method(method, parameters)
            if made is None:
                print(f"{title:<18}{rows} rows: not in the catalogue")
                continue

            def ours(made: object = made, x: Tensor = x) -> pel.Explanation:
                return pel.explain(bench.model, x, method=made, target=bench.target, evidence="none")

            for _ in range(WARM):
                plan = ours().cost.plan
            floor, took = ratio(rounds, lambda rows=rows, arm=arm: bench.sweep("backward", rows, arm), ours=ours)
            with Peak() as plain:
                bench.sweep("backward", rows, arm)
            with Peak() as peak:
                ours()
            met = "" if goal != goal else f" (goal {goal})"
            memory = f"extra peak {peak.megabytes:.0f} MB, floor {plain.megabytes:.0f} MB"
            print(f"{title:<18}{rows} rows: floor {1e3 * floor:7.1f} ms ({arm}) | ours {took['ours']:.2f}x{met} ({plan}) | {memory}", flush=True)
    gru(rounds)


def gru(rounds: int) -> None:
    """A recurrent network, whose fused kernel is written out for the rules."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.out = nn.GRU(64, 128, 2, batch_first=True), nn.Linear(128, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x)[0][:, -1])

    torch.manual_seed(0)
    net, x = Two().eval().requires_grad_(False), torch.randn(32, 40, 64)

    def floor() -> object:
        z = x.clone().requires_grad_()
        return torch.autograd.grad(net(z)[:, 1].sum(), z)

    model = pel.wrap(net)
    for title, method, parameters, _ in RULES[:4]:
        made = pel_method(method, parameters)
        if made is not None:
            _, took = ratio(rounds, floor, ours=lambda made=made: pel.explain(model, x, method=made, target=1, evidence="none", batch_size=32))
            print(f"two-layer GRU, 40 steps, 32 rows, {title}: {took['ours']:.2f}x (goal 6)", flush=True)


def pel_method(name: str, parameters: dict[str, object]) -> object:
    """A method of the catalogue with parameters, or None where either is unknown."""
    from pellucid.core import catalogue

    with contextlib.suppress(pel.UnknownName, pel.UsageError, TypeError):
        return catalogue.make("methods", name, **parameters)
    return None


# -- rows ----------------------------------------------------------------------------------------------------------


def rows(bench: Bench, rounds: int) -> None:
    """Counted rows against what a method cannot do without, and seconds beside the peers'."""
    print("\nRows counted over rows needed, and time beside the peer's (one photo)")
    peers = peer_calls(bench)
    for name, parameters, forward, backward in COUNTED:
        made = pel_method(name, parameters)
        if made is None:
            print(f"{name:<22} not in the catalogue")
            continue

        def ours(made: object = made) -> pel.Explanation:
            return pel.explain(bench.model, bench.x, method=made, target=bench.target, evidence="none")

        cost = ours().cost
        counted = f"{cost.forward_rows}/{forward} forward, {cost.backward_rows}/{backward} backward"
        worst = max(cost.forward_rows / forward, cost.backward_rows / backward if backward else 1.0)
        told = f"{name:<22} rows {counted:<36} = {worst:.2f}x"
        if name in peers:
            took, over = ratio(rounds, ours, peer=peers[name])
            told += f" | ours {1e3 * took:.0f} ms, peer {over['peer']:.2f}x ours"
        print(told, flush=True)


def peer_calls(bench: Bench) -> dict[str, Callable[[], object]]:
    """What captum and grad-cam do for the same question."""
    from captum import attr

    x, y, net = bench.x, bench.target, bench.plain
    calls = {
        "saliency": quiet(lambda: attr.Saliency(net).attribute(x, target=y)),
        "input-x-gradient": quiet(lambda: attr.InputXGradient(net).attribute(x.clone().requires_grad_(), target=y)),
        "guided-backprop": quiet(lambda: attr.GuidedBackprop(net).attribute(x, target=y)),
        "deconvnet": quiet(lambda: attr.Deconvolution(net).attribute(x, target=y)),
        "integrated-gradients": quiet(lambda: attr.IntegratedGradients(net).attribute(x, target=y, n_steps=50)),
        "smooth-grad": quiet(lambda: attr.NoiseTunnel(attr.Saliency(net)).attribute(x, target=y, nt_samples=50, abs=False)),
        "expected-gradients": quiet(lambda: attr.GradientShap(net).attribute(x, baselines=torch.zeros_like(x), target=y, n_samples=50)),
    }
    with grad_cam_package() as cams:
        if cams is None:
            print("grad-cam is not installed: pip install --no-deps grad-cam==1.5.5")
            return calls
        names = {
            "grad-cam": "GradCAM", "grad-cam-plus-plus": "GradCAMPlusPlus", "hi-res-cam": "HiResCAM", "element-wise-cam": "GradCAMElementWise", "x-grad-cam": "XGradCAM",
            "layer-cam": "LayerCAM", "eigen-cam": "EigenCAM", "eigen-grad-cam": "EigenGradCAM", "kpca-cam": "KPCA_CAM", "fem": "FEM", "shapley-cam": "ShapleyCAM", "full-grad": "FullGrad",
        }
        for ours, theirs in names.items():
            if hasattr(cams, theirs):
                calls[ours] = peer_cam(bench, cams, theirs)
    return calls


def peer_cam(bench: Bench, cams: types.ModuleType, name: str) -> Callable[[], object]:
    """One of grad-cam's classes on the last block of a network of its own: it hooks what it is given."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = efficientnet()

    def run() -> object:
        with getattr(cams, name)(model=net, target_layers=[net.get_submodule(LAYER)]) as cam:
            return cam(input_tensor=bench.x, targets=[ClassifierOutputTarget(bench.target)])

    return quiet(run)


class Nothing:
    """Stands in for what is built and never used."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


@contextlib.contextmanager
def grad_cam_package() -> Iterator[types.ModuleType | None]:
    """grad-cam, what it imports needlessly stubbed."""
    import numpy as np

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        big = torch.nn.functional.interpolate(torch.from_numpy(np.ascontiguousarray(image)).double()[None, None], size=size[::-1], mode="bilinear")
        return big[0, 0].numpy().astype(image.dtype)

    for name in ("cv2", "ttach", "torchvision", "torchvision.transforms"):
        stub = types.ModuleType(name)
        stub.__path__ = []
        stub.__getattr__ = lambda attribute: Nothing  # whatever is asked for
        sys.modules.setdefault(name, stub)
    sys.modules["cv2"].resize = resize
    try:
        import pytorch_grad_cam
    except ImportError:
        yield None
    else:
        yield pytorch_grad_cam


# -- channels ------------------------------------------------------------------------------------------------------


def channels(bench: Bench, rounds: int) -> None:
    """Ablation-CAM and Score-CAM on the 320 channels of the last block; seconds on the clock and of the processor, which other work does not stretch."""
    print("\nMethods that ask once a channel (320 channels)")
    with grad_cam_package() as cams:
        for name, theirs, goal, threads in (("ablation-cam", "AblationCAM", 20, {1, CORES}), ("score-cam", "ScoreCAM", 1.5, {CORES})):
            made = pel_method(name, {})
            if made is None:
                print(f"{name:<14} not in the catalogue")
                continue

            def ours(made: object = made) -> pel.Explanation:
                return pel.explain(bench.model, bench.x, method=made, target=bench.target, at=LAYER, evidence="none")

            e = ours()
            print(f"{name:<14} {e.cost.forward_rows} forward rows, {e.cost.backward_rows} backward", flush=True)
            for n in sorted(threads) if cams is not None else ():
                torch.set_num_threads(n)
                mine, over, busy = against(rounds, ours, peer_cam(bench, cams, theirs))
                print(f"{name:<14} {n} threads: ours {mine:.2f} s, grad-cam {over:.1f}x slower, {busy:.1f}x in processor time (goal {goal})", flush=True)
    torch.set_num_threads(CORES)


def against(rounds: int, ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float, float]:
    """(our seconds, the peer's over ours, the same of processor time), medians of interleaved rounds after one of each."""
    took: list[tuple[float, float, float, float]] = []
    for _ in range(rounds + 1):
        marks = [(time.perf_counter(), time.process_time())]
        for run in (ours, peer):
            run()
            marks.append((time.perf_counter(), time.process_time()))
        (a, i), (b, j), (c, k) = marks
        took.append((b - a, c - b, j - i, k - j))
    return statistics.median(t[0] for t in took[1:]), statistics.median(t[1] / t[0] for t in took[1:]), statistics.median(t[3] / t[2] for t in took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=("rules", "rows", "channels", []), help="all unless said")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bench = Bench(given.rounds)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.rounds} rounds")
    for name in given.sections or ("rules", "rows", "channels"):
        {"rules": rules, "rows": rows, "channels": channels}[name](bench, given.rounds)


if __name__ == "__main__":
    main()
