"""Metrics at equal parameters: ours beside Quantus and captum, in one run, one thread.

Each line: CPU seconds and forward rows of both, how many times faster ours is, and how many forward rows it takes over the floor
(the rows that the metric's definition needs). Ours runs first, then the peer, on the same network, rows and maps; explanations that a metric
asks again are input x gradient in both. A lower time can come from fewer rows, larger batches or cheaper bookkeeping: the columns tell which.

Quantus need not be installed: `pip install --target DIR quantus opencv-python-headless cachetools --no-deps`, then `PEERS=DIR python bench/metrics.py`.
What is missing is said.
"""

from __future__ import annotations

import argparse
import importlib
import os
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
from pellucid import metrics as M


class Counted(nn.Module):
    """A network that counts the rows it is asked."""

    rows = 0

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        Counted.rows += len(x)
        return self.inner(x)


@dataclass(frozen=True)
class Line:
    """One metric: ours, the peer's, and the fewest forward rows a row that its definition needs."""

    name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any] | None
    floor: float
    by: str = "Quantus"


@dataclass(frozen=True)
class Setting:
    """A network, rows, classes and maps."""

    name: str
    net: nn.Module
    x: Tensor
    y: Tensor
    e: Any


def small(rows: int) -> Setting:
    """A small convolutional network on 28 x 28 pictures."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10))
    return setting("small network, 28 x 28", net, torch.rand(rows, 1, 28, 28))


def photos(rows: int) -> Setting:
    """EfficientNet-Lite0 on photographs."""
    from subjects import PHOTOS, efficientnet, photo

    return setting("EfficientNet-Lite0, 224 x 224", efficientnet(), torch.cat([photo(p) for p in PHOTOS[:rows]]))


def setting(name: str, net: nn.Module, x: Tensor) -> Setting:
    """The rows with the network's own classes and the maps of input x gradient."""
    counted = Counted(net.eval().requires_grad_(False)).eval()
    with torch.no_grad():
        y = counted(x).argmax(1)
    return Setting(name, counted, x, y, pel.explain(counted, x, target=y, method="input-x-gradient", evidence="none"))


def again(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
    """Input x gradient for Quantus."""
    x = torch.as_tensor(inputs, dtype=torch.float32).detach().requires_grad_()
    with torch.enable_grad():
        out = model(x).gather(1, torch.as_tensor(targets).long()[:, None]).sum()
    return (x * torch.autograd.grad(out, x)[0]).detach().numpy()


def lines(s: Setting) -> list[Line]:
    """The metrics that both have, with the parameters of both."""
    quantus, captum = found("quantus"), found("captum.metrics")
    n = s.x.shape[-1] ** 2
    step, patch = n // 28, max(8, s.x.shape[-1] // 10) if n > 1000 else 2
    heat = s.e.values.sum(1, keepdim=True).numpy()
    given = {"model": s.net, "x_batch": s.x.numpy(), "y_batch": s.y.numpy(), "device": "cpu", "softmax": False}
    quiet = {"disable_warnings": True, "display_progressbar": False}

    def theirs(name: str, maps: np.ndarray, explain: bool = False, **more: Any) -> Callable[[], Any] | None:
        if quantus is None:
            return None
        metric = getattr(quantus, name)(**quiet, **more)
        return lambda: metric(**given, a_batch=maps, **({"explain_func": again} if explain else {}))

    shares = tuple(k / 10 for k in range(1, 10))
    whole = {"normalise": False, "abs": False}
    full, ten = s.e.values.numpy(), {"nr_samples": 10, "return_aggregate": False, **whole}
    noise = lambda x: (d := 0.1 * torch.randn_like(x), x - d)  # noqa: E731
    infidelity = None if captum is None else lambda: captum.infidelity(s.net, noise, s.x, s.e.values, target=s.y, n_perturb_samples=100)
    explain = lambda x, target: (torch.from_numpy(again(s.net, x[0] if isinstance(x, tuple) else x, target)),)  # noqa: E731
    sensitivity = None if captum is None else lambda: captum.sensitivity_max(explain, s.x, perturb_radius=0.02, n_perturb_samples=10, target=s.y)
    return [
        Line("pixel flipping, 28 steps", lambda: M.PixelFlipping(steps=28, fill="baseline")(s.e), theirs("PixelFlipping", heat, features_in_step=step, **whole), 29),
        Line("faithfulness correlation, 100 subsets", lambda: M.FaithfulnessCorrelation(size=224 / n)(s.e), theirs("FaithfulnessCorrelation", heat, return_aggregate=False, **whole), 101),
        Line("ROAD, 9 shares", lambda: M.Road(shares=shares, order="most")(s.e), theirs("ROAD", s.e.values.numpy(), percentages=[100 * p for p in shares], **whole), 9),
        Line("region perturbation, 100 patches", lambda: M.RegionPerturbation(patch=patch)(s.e), theirs("RegionPerturbation", heat, patch_size=patch, perturb_baseline="uniform", **whole), 101),
        Line("infidelity, 100 noises", lambda: M.Infidelity(perturb=noise)(s.e), infidelity, 101, "captum"),
        Line("max-sensitivity, 10 copies", lambda: M.MaxSensitivity(relative=False, keep=False)(s.e), theirs("MaxSensitivity", full, True, **ten, lower_bound=0.02), 10),
        Line("max-sensitivity, 10 copies", lambda: M.MaxSensitivity(relative=False, keep=False)(s.e), sensitivity, 10, "captum"),
        Line("relative input stability, 10 copies", lambda: M.RelativeInputStability()(s.e), theirs("RelativeInputStability", full, True, **ten), 10),
        Line("random logit", lambda: M.RandomLogit()(s.e), theirs("RandomLogit", s.e.values.numpy(), True, num_classes=10, return_aggregate=False, **whole), 1),
    ]


def found(name: str) -> Any:
    """A peer, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as why:
        sys.stderr.write(f"{name}: {why}\n")
        return None


def timed(work: Callable[[], Any]) -> tuple[float, int]:
    """CPU seconds and forward rows."""
    Counted.rows, start = 0, time.process_time()
    work()
    return time.process_time() - start, Counted.rows


def told(s: Setting) -> None:
    """Prints a table."""
    print(f"\n{s.name}, {len(s.x)} rows, {torch.get_num_threads()} thread(s)\n{'':38}{'peer':>9}{'ours s':>9}{'peer s':>9}{'faster':>8}{'rows':>8}{'peer':>8}{'floor':>8}{'over':>7}")
    ours, peers = 0.0, 0.0
    for line in lines(s):
        mine, rows = timed(line.ours)
        floor = line.floor * len(s.x)
        text = f"{line.name:38}{line.by:>9}{mine:9.2f}"
        if line.peer is None:
            print(f"{text}{'absent':>9}{'':8}{rows:8}{'':8}{floor:8.0f}{rows / floor:7.2f}")
            continue
        try:
            seconds, peer_rows = timed(line.peer)
        except Exception as why:  # noqa: BLE001 - a peer that breaks is a result
            print(f"{text}{'broke':>9}  {type(why).__name__}: {str(why)[:90]}")
            continue
        ours, peers = ours + mine, peers + seconds
        print(f"{text}{seconds:9.2f}{seconds / mine:8.1f}{rows:8}{peer_rows:8}{floor:8.0f}{rows / floor:7.2f}", flush=True)
    if peers:
        print(f"{'all that both could run':38}{'':9}{ours:9.2f}{peers:9.2f}{peers / ours:8.1f}")


def main() -> None:
    """Both networks, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[[], "small", "photos"], help="default: small")
    parser.add_argument("--rows", type=int, default=8)
    args = parser.parse_args()
    if "PEERS" in os.environ:
        sys.path.append(os.environ["PEERS"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in args.networks or ["small"]:
            told(small(args.rows) if name == "small" else photos(args.rows))


if __name__ == "__main__":
    main()
