"""What does the planner cost? Total time over the best fixed chunk, cold (nothing known) and warm (a question later).

The planner's runs and those of the fixed chunks are interleaved, so that other work on the machine hits all alike. A fixed chunk
uses the better layout and number of threads for its size. Every ratio is the median over rounds of planner / best fixed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from subjects import SUBJECTS, Subject
from torch import Tensor

from pellucid.core.planner import Plan, Planner, Step

LADDERS = {"efficientnet": (1, 2, 4, 6, 8, 16), "minilm": (4, 8, 16, 32, 64), "mlp": (50, 200, 512, 2048, 8192), "gru": (50, 200, 512, 1024, 2048)}
GOALS = {("efficientnet", 200): (1.25, 1.10), ("minilm", 200): (1.25, 1.10), ("efficientnet", 50): (1.35, None), ("minilm", 50): (1.35, None)}


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    subject: str
    stage: str
    rows: int
    best: Step
    seconds: float
    cold: float
    warm: float
    cold_range: tuple[float, float]
    warm_range: tuple[float, float]
    plan: str


def worker(subject: Subject, stage: str, n: int) -> Callable[[int, int, Step], None]:
    run: Callable[[Tensor], Tensor] = getattr(subject, stage)
    index = torch.arange(n) % len(subject.rows)

    def work(start: int, stop: int, step: Step) -> None:
        z = subject.rows[index[start:stop]]
        run(z.contiguous(memory_format=torch.channels_last) if step.channels_last else z)

    return work


def fixed(work: Callable[[int, int, Step], None], n: int, arm: Step) -> float:
    """Seconds for all rows in chunks of one size, with no planner at all."""
    torch.set_num_threads(arm.threads)
    started = CLOCK()
    for i in range(0, n, arm.size):
        work(i, min(i + arm.size, n), arm)
    return CLOCK() - started


def planned(planner: Planner, work: Callable[[int, int, Step], None], n: int, subject: Subject) -> tuple[float, str]:
    torch.set_num_threads(CORES)
    started = CLOCK()
    steps = planner.run("bench", n, work, numel=subject.rows[0].numel(), layouts=subject.layouts)
    return CLOCK() - started, str(Plan(steps))


def finalists(work: Callable[[int, int, Step], None], name: str, n: int, subject: Subject) -> list[Step]:
    """The three fastest fixed arms, by the best of three turns over all of them; and the planner's own favourite.

    Without the last one, an arm that was unlucky in the quick pass would leave a floor that is too high, and flatter the planner.
    """
    sizes = sorted({min(c, n) for c in LADDERS[name]})
    arms = [Step(c, cl, t) for c in sizes for cl in ((False, True) if subject.layouts else (False,)) for t in sorted({1, CORES})]
    seen: dict[Step, list[float]] = {arm: [] for arm in arms}
    for _ in range(3):
        for arm in arms:
            rows = min(n, max(arm.size, 8))
            seen[arm].append(fixed(work, rows, arm) / rows)
    planner = Planner()
    planned(planner, work, n, subject)
    favourite = Counter(Plan.parse(planned(planner, work, n, subject)[1]).steps).most_common(1)[0][0]
    return list(dict.fromkeys([*sorted(arms, key=lambda arm: min(seen[arm]))[:3], favourite]))


def measure(name: str, subject: Subject, stage: str, n: int, rounds: int) -> Line:
    work = worker(subject, stage, n)
    arms = finalists(work, name, n, subject)
    repeat = max(1, min(50, int(0.05 / max(fixed(work, n, arms[0]), 1e-6))))  # tiny work is timed many times over
    cold: list[float] = []
    warm: list[float] = []
    floors: dict[Step, list[float]] = {arm: [] for arm in arms}
    plan = ""
    for _ in range(rounds):
        for arm in arms:
            floors[arm].append(statistics.median(fixed(work, n, arm) for _ in range(repeat)))
        planners = [Planner() for _ in range(repeat)]
        cold.append(statistics.median(planned(p, work, n, subject)[0] for p in planners))
        turns = [planned(planners[-1], work, n, subject) for _ in range(repeat + 1)]
        warm.append(statistics.median(t[0] for t in turns[-repeat:]))
        plan = turns[-1][1]
    torch.set_num_threads(CORES)
    best = min(arms, key=lambda arm: statistics.median(floors[arm]))
    colds, warms = ([t / f for t, f in zip(ts, floors[best], strict=True)] for ts in (cold, warm))
    return Line(
        subject.name, stage, n, best, statistics.median(floors[best]), statistics.median(colds), statistics.median(warms), (min(colds), max(colds)), (min(warms), max(warms)), plan
    )


def show(line: Line, goals: tuple[float | None, float | None]) -> None:
    def verdict(value: float, goal: float | None) -> str:
        return "" if goal is None else f" {'ok' if value <= goal else 'MISSED'} (<= {goal:.2f})"

    best = f"{line.best.size}{' cl' if line.best.channels_last else ''} t{line.best.threads}"
    print(
        f"{line.subject:<20}{line.stage:<10}{line.rows:>6}  best {best:<12}{1e3 * line.seconds:>9.2f} ms"
        f"  cold {line.cold:.2f} [{line.cold_range[0]:.2f}-{line.cold_range[1]:.2f}]{verdict(line.cold, goals[0])}"
        f"  warm {line.warm:.2f} [{line.warm_range[0]:.2f}-{line.warm_range[1]:.2f}]{verdict(line.warm, goals[1])}  warm plan {line.plan}",
        flush=True,
    )


def table(names: list[str], rows: list[int], rounds: int, stages: list[str]) -> list[Line]:
    """Measure and print; also used by bench/engine.py."""
    lines = []
    print(f"Planner: total time / best fixed chunk, medians of {rounds} interleaved rounds, {CORES} threads, {CLOCK.__name__}")
    for name in names:
        subject = SUBJECTS[name]()
        for stage in stages:
            for n in rows:
                lines.append(measure(name, subject, stage, n, rounds))
                show(lines[-1], GOALS.get((name, n), (None, None)))
    return lines


CORES = torch.get_num_threads()
CLOCK = time.perf_counter

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--rows", nargs="+", type=int, default=[50, 200])
    parser.add_argument("--stages", nargs="+", default=["forward", "backward"], choices=["forward", "backward"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="totals in CPU time and on one thread: for a machine that is busy with other work")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    options = parser.parse_args()
    if options.cpu:
        torch.set_num_threads(1)
        CORES, CLOCK = 1, time.process_time
    table(options.models, options.rows, 3 if options.quick else options.rounds, options.stages)
