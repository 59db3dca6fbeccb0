"""Occlusion of a VGG-like network: what only the reach of each window costs, beside every window whole, and beside captum.

Random weights: neither speed nor exactness asks for others. Every round runs incremental, plain and captum one after the other; medians
are printed, on the clock and in processor time, which other work on the machine does not stretch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import pellucid as pel

CORES = torch.get_num_threads()
WIDTHS = {
    "vgg-11": (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "vgg-16": (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}
"""Channels of each convolution; 0 is a pooling."""


def vgg(kind: str) -> nn.Module:
    """Convolutions of 3 x 3 with BatchNorm, pools of 2 x 2, and a head on the mean."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    before = 3
    for width in WIDTHS[kind]:
        layers += [nn.MaxPool2d(2)] if not width else [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        before = width or before
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000)).eval()


def took(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    clock, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - busy


def table(kind: str, window: int, rounds: int, captum: bool) -> None:
    """One line: the three roads, and how far the two maps of ours lie apart."""
    net, x = vgg(kind), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    model = pel.wrap(net, name=kind)

    def ours(incremental: str) -> pel.Explanation:
        return pel.explain(model, x, method="occlusion", target=1, window=window, stride=window // 2, incremental=incremental, evidence="none")

    roads: dict[str, Callable[[], object]] = {"auto": lambda: ours("auto"), "never": lambda: ours("never")}
    if captum:
        roads["captum"] = lambda: theirs(net, x, window)
    inside, plain = ours("auto"), ours("never")  # this warms both
    apart = float((inside.values - plain.values).abs().max() / plain.total.abs().max())
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in roads}
    for _ in range(rounds):
        for name, run in roads.items():
            seen[name].append(took(run))
    said = [n for n in inside.provenance["notes"] if "window" in n]
    print(f"{kind} window {window}, {inside.cost.forward_rows} rows ({plain.cost.forward_rows} plain), maps {apart:.1e} of the answer apart; {said}")
    for name in list(roads)[1:]:
        clock, busy = (statistics.median(b[k] / a[k] for a, b in zip(seen["auto"], seen[name], strict=True)) for k in (0, 1))
        mine, other = (statistics.median(t[0] for t in seen[n]) for n in ("auto", name))
        print(f"  incremental {mine:.2f} s, {'plain' if name == 'never' else name} {other:.2f} s: {clock:.2f}x, {busy:.2f}x in processor time", flush=True)


def theirs(net: nn.Module, x: Tensor, window: int) -> object:
    """Captum's, four windows at a time."""
    from captum.attr import Occlusion

    with torch.inference_mode():
        return Occlusion(net).attribute(x, target=1, sliding_window_shapes=(3, window, window), strides=(3, window // 2, window // 2), perturbations_per_eval=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--kinds", nargs="*", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--windows", nargs="*", type=int, default=[32, 16])
    parser.add_argument("--no-captum", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds")
    for kind in given.kinds:
        for window in given.windows:
            table(kind, window, given.rounds, not given.no_captum)


if __name__ == "__main__":
    main()
