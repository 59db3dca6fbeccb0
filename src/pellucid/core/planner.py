"""How many rows at once, in which memory layout, on how many threads: found by measuring the work itself."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from .errors import CannotComplete, UsageError

GAIN = 0.96  # a challenger must be this much faster, or noise would move the choice
FIRST = 0.8  # the same against a champion that ran once, and may have paid for its set-up
LONGEST = 2.0  # seconds a call may last by plan: cancelling has to wait for it
LARGEST = 8192  # rows a call; beyond it nothing is gained and one bad try costs all
RISK = 0.3  # share of a try's time that is lost when the try is a bad one
BUSY = 0.7  # share of the threads' time that must be spent computing
RECHECK = 8  # calls at the best arm before its neighbours are asked again; doubles
REMEMBERED = 256  # keys whose measurements are kept
SCARCE = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True, slots=True)
class Step:
    """How is one chunk run? `threads` 0 leaves the number as it is."""

    size: int
    channels_last: bool = False
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which chunks were run, in order? `Plan.parse(str(plan))` is the same plan again.

    How: sizes with repeats ("4*2" is two chunks of four rows); "cl" or "co" (channels last, contiguous)
    and "t2" (two threads) hold from there on. A plan starts contiguous, with the threads as they are.
    >>> str(Plan((Step(1), Step(4, True, 2), Step(4, True, 2))))
    '1,cl,t2,4*2'
    >>> Plan.parse("1,cl,t2,4*2").rows
    9
    """

    steps: Sequence[Step] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def rows(self) -> int:
        """How many rows does the plan cover?"""
        return sum(s.size for s in self.steps)

    @property
    def size(self) -> int:
        """Which chunk size ran the most rows? 0 for an empty plan."""
        rows: dict[int, int] = {}
        for s in self.steps:
            rows[s.size] = rows.get(s.size, 0) + s.size
        return max(rows, key=lambda size: rows[size], default=0)

    def __str__(self) -> str:
        words: list[str] = []
        last = Step(0)
        for step, run in itertools.groupby(self.steps):
            words += [] if step.channels_last == last.channels_last else ["cl" if step.channels_last else "co"]
            words += [] if step.threads == last.threads else [f"t{step.threads}"]
            count = len(list(run))
            words.append(f"{step.size}*{count}" if count > 1 else str(step.size))
            last = step
        return ",".join(words)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Which plan does this text record? Raises UsageError for any other text."""
        steps: list[Step] = []
        channels_last, threads = False, 0
        for word in filter(None, (w.strip() for w in text.split(","))):
            if word in ("cl", "co"):
                channels_last = word == "cl"
            elif re.fullmatch(r"t\d{1,4}", word):
                threads = int(word[1:])
            else:
                size, count = _numbers(word, text)
                steps += [Step(size, channels_last, threads)] * count
        return cls(tuple(steps))


def _numbers(word: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,8})(?:\*([1-9]\d{0,6}))?", word)
    if not found:
        raise UsageError(
            f"A plan is chunk sizes such as '1,4*2,cl,t2,6*8'; got {word!r} in {text[:60]!r}. "
            "Give back the text an explanation's cost recorded, or one whole number for equal chunks."
        )
    return int(found[1]), int(found[2] or 1)


@dataclass(frozen=True, slots=True)
class _Call:
    seconds: float
    cpu: float


class _Source(Protocol):
    """Where the next chunk comes from."""

    def pick(self, left: int) -> Step: ...
    def tell(self, step: Step, call: _Call) -> None: ...
    def shrink(self, step: Step) -> None: ...


class _Pinned:
    """Every chunk has the size that was asked for."""

    def __init__(self, size: int, threads: int) -> None:
        if size < 1:
            raise UsageError(f"A chunk needs at least one row; got {size}. Leave batch_size out to have it measured.")
        self.step = Step(size, False, threads)

    def pick(self, left: int) -> Step:
        return replace(self.step, size=min(self.step.size, left))

    def tell(self, step: Step, call: _Call) -> None:
        pass

    def shrink(self, step: Step) -> None:
        self.step = replace(self.step, size=step.size // 2)


class _Recorded:
    """The chunks of an earlier run, in their order."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self.steps, self.halves = steps, list[Step]()

    def pick(self, left: int) -> Step:
        step = self.halves.pop() if self.halves else next(self.steps, None)
        if step is None or step.size > left:
            got = "it has ended" if step is None else f"its next chunk has {step.size}"
            raise UsageError(
                f"The recorded plan belongs to another question: {left} rows are left to run and {got}. "
                "Leave the plan out, or give the same inputs, method and parameters as when it was recorded."
            )
        return step

    def tell(self, step: Step, call: _Call) -> None:
        pass

    def shrink(self, step: Step) -> None:
        half = step.size // 2
        self.halves += [replace(step, size=step.size - half), replace(step, size=half)]


class _Measured:
    """Which way of running this work is fastest? One champion, one challenger at a time.

    How: start with a small chunk. A challenger (larger chunk, other layout, other number of threads) runs on
    rows that are due anyway and takes over when it is clearly faster. A larger chunk is tried only when what
    it may save on the rows to come, by seconds a row = a + b / size, exceeds what a bad try costs.
    """

    def __init__(self, numel: int, layouts: bool, home: int) -> None:
        self.lock = threading.Lock()
        wait = _HOME.crowded() if home > 1 else 0.0
        self.start = Step(_power(2**18 // max(numel, 1), 256), layouts, 1 if wait else home)
        self.home, self.race, self.layouts = home, layouts, layouts
        self.rates: dict[Step, deque[float]] = {}
        self.best: Step | None = None
        self.trial: Step | None = None
        self.again = False  # the trial's first call may have paid for its set-up: it has a second one
        self.sized = False  # some other size has been compared with the champion
        self.below: tuple[int, float] | None = None  # size and rate of the champion's smaller predecessor
        self.ceiling, self.cap = LARGEST + 1, LARGEST
        self.calls, self.recheck, self.turn = 0, RECHECK, 0
        self.seen, self.waits, self.suspect = 0, 0, False
        self.patience, self.until = 0.25, time.perf_counter() + wait  # of trying another number of threads

    def pick(self, left: int) -> Step:
        with self.lock:
            if self.best is None:
                return replace(self.start, size=min(self.start.size, self.cap, left))
            if self.trial is None:
                few = left < self.best.size
                self.trial = self._threads(replace(self.best, size=left)) if few else self._propose(self.best, left)
                self.again = False
            if self.trial is not None and (self.trial.size == left or 1.5 * self.trial.size <= left):
                return self.trial
            if self.trial is not None:
                self._refuse(self.best, self.trial, proven=self.again)
            return replace(self.best, size=self._share(self.best, left))

    def tell(self, step: Step, call: _Call) -> None:
        with self.lock:
            rate = call.seconds / step.size
            self.seen += step.size
            known = self.rates.setdefault(step, deque(maxlen=3))
            known.append(rate)
            if self.best is None:
                self.best = step
            elif step == self.trial:
                self._judge(self.best, step, call, first=len(known) == 1)
            self.calls += 1
            if step.threads == self.best.threads:
                self._watch(step, call)

    def shrink(self, step: Step) -> None:
        with self.lock:
            self.cap, self.trial = step.size // 2, None
            self.ceiling = min(self.ceiling, self.cap + 1)
            self.rates = {s: r for s, r in self.rates.items() if s.size <= self.cap}
            if self.best is not None and self.best.size > self.cap:
                self.best, self.below = replace(self.best, size=self.cap), None

    def _rate(self, step: Step) -> float:
        return min(self.rates.get(step, ()), default=float("inf"))

    def _share(self, best: Step, left: int) -> int:
        """Rows of the next chunk at the champion: even shares at the end, so that no small tail is left."""
        if not self.sized and best.size < left <= 3 * best.size <= self.cap:
            return left  # too few for the next size: a try of its own, on what is left
        if len(self.rates.get(best, ())) < 2 and left >= best.size:
            return best.size  # a sample that counts
        if left <= min(1.5 * best.size, self.cap) and self._rate(best) * left < 5e-3:
            return left
        return -(-left // -(-left // best.size)) if left < 4 * best.size else best.size

    def _propose(self, best: Step, left: int) -> Step | None:
        """The next challenger worth its risk, if any."""
        samples, horizon = len(self.rates.get(best, ())), left + self.seen
        if samples and (other := self._threads(best)) is not None:
            return other
        wide = self.sized or best.size >= min(4, self.cap)
        if samples < 2 and (not samples or self.sized or self.race and wide):
            return None  # its only call paid for set-up: nothing may be compared with it yet
        if self.race and wide and horizon > 7 * best.size:
            self.race = False
            return replace(best, channels_last=not best.channels_last)
        return self._neighbour(best) or self._larger(best, left, horizon)

    def _threads(self, best: Step) -> Step | None:
        if self.home < 2 or time.perf_counter() < self.until:
            return None
        if best.threads == 1:  # a quarter of a long call: on busy cores it may take fifty times as long
            long = self._rate(best) * best.size > 0.02
            return replace(best, threads=self.home, size=max(1, best.size // 4) if long else best.size)
        return replace(best, threads=1) if self.suspect else None

    def _neighbour(self, best: Step) -> Step | None:
        """A smaller size where the first call took long; a neighbour or the other layout, ever more rarely, lest noise decided."""
        if not self.sized and best.size >= 4 and self._rate(best) * best.size > 0.3:
            return replace(best, size=best.size // 4)
        if self.calls < self.recheck:
            return None
        self.recheck, self.turn = 2 * self.recheck, self.turn + 1
        if self.layouts and not self.race and self.turn % 3 == 1:
            return replace(best, channels_last=not best.channels_last)
        size = min(2 * best.size, self.cap) if self.turn % 2 else max(1, best.size // 2)
        fits = size != best.size and self._rate(best) * size < LONGEST
        return replace(best, size=size) if fits else None

    def _larger(self, best: Step, left: int, horizon: int) -> Step | None:
        rate, size = self._rate(best), _jump(best.size, self._rate(best) * best.size)
        if not self.sized and best.size < self.start.size <= left:
            size = self.start.size
        while size >= self.ceiling:
            size //= 2
        if size <= best.size or size * rate > LONGEST or self.sized and not self._worth(best, size, horizon):
            return None
        return replace(best, size=size)

    def _worth(self, best: Step, size: int, horizon: int) -> bool:
        if self.below is None:
            return False
        small, slow = self.below
        slope = (slow - self._rate(best)) / (1 / small - 1 / best.size)
        return slope * (1 / best.size - 1 / size) * horizon > RISK * size * self._rate(best)

    def _judge(self, best: Step, trial: Step, call: _Call, first: bool) -> None:
        if trial.threads != best.threads:
            self._judge_threads(best, trial, call)
        elif self._rate(trial) < (GAIN if trial.size > best.size or len(self.rates.get(best, ())) > 1 else FIRST) * self._rate(best):
            self._crown(best, trial)
        elif first and not self.again and self._rate(trial) < (1.5 if call.seconds > 0.3 else 3) * self._rate(best):
            self.again = True
        else:
            self._refuse(best, trial, proven=True)

    def _refuse(self, best: Step, trial: Step, proven: bool) -> None:
        self.trial = None
        if proven and trial.size != best.size:
            self.sized = True
            self.ceiling = trial.size if trial.size > best.size else self.ceiling

    def _judge_threads(self, best: Step, trial: Step, call: _Call) -> None:
        peer = replace(trial, threads=best.threads)
        rate, known = call.seconds / trial.size, list(self.rates.get(peer) or self.rates.get(best) or (float("inf"),))
        recent = known[1:][-2:] or known  # less the first call; a stall that comes and goes has to count
        bar = sum(recent) / len(recent)
        won = rate < GAIN * bar
        if peer not in self.rates:  # a small call is judged by whether the threads were at work; its successors by speed
            won = rate < 2 * bar and call.cpu > BUSY * trial.threads * call.seconds
        self.trial, self.suspect, self.waits = None, False, 0
        self._be_patient(abs(rate - bar) * max(1, best.size // 4) if bar < float("inf") else 0.0)
        if rate < 0.5 * bar if trial.threads == 1 else rate > 2 * bar:
            _HOME.avoid(self.until)
        if won:
            self._crown(best, replace(best, threads=trial.threads))

    def _be_patient(self, stake: float) -> None:
        """Wait before the next try: longer each time, in proportion to what a try in vain costs; anew after a good while."""
        now = time.perf_counter()
        calm = now - self.until > 4 * self.patience
        self.patience = min(60.0, max(0.5 if calm else 2 * self.patience, 4 * stake))
        self.until = now + self.patience

    def _crown(self, best: Step, step: Step) -> None:
        old, now = self._rate(best), self._rate(step)
        if step.size != best.size:
            self.sized = True
            self.below = (best.size, old if len(self.rates.get(best, ())) > 1 else FIRST * old) if step.size > best.size else None
            self.ceiling = best.size if step.size < best.size else max(self.ceiling, 2 * step.size + 1)
            self.ceiling = min(self.ceiling, self.cap + 1)
        elif self.below is not None and now < float("inf"):
            self.below = (self.below[0], self.below[1] * now / old)  # in the new arm's terms
        self.best, self.trial, self.calls, self.recheck = step, None, 0, RECHECK

    def _watch(self, step: Step, call: _Call) -> None:
        """Are the threads kept waiting, by other work on the machine or by too little of ours?"""
        if step.threads < 2 or call.seconds < 2e-3 or len(self.rates[step]) < 2 and call.seconds < 0.5:
            return  # a first call sets things up on one thread: it proves nothing unless it is very long
        rate, single = call.seconds / step.size, self._rate(replace(step, threads=1))
        waits = call.cpu < BUSY * step.threads * call.seconds or rate > 2 * self._rate(step) or GAIN * rate > single
        self.waits = self.waits + 1 if waits else 0
        self.suspect = self.waits > 1 or waits and call.seconds > 0.5


def _power(n: int, most: int) -> int:
    return 1 << (max(1, min(n, most)).bit_length() - 1)


def _jump(size: int, seconds: float) -> int:
    """Cheap calls may jump; a single row tells little about its size."""
    if seconds < 2e-3:
        return 8 * size
    return (4 if seconds < 2e-2 or size == 1 and seconds < 0.25 else 2) * size


class _Home:
    """The user's number of threads: it belongs to the whole process, so the runs share one memory of it."""

    def __init__(self) -> None:
        self.lock, self.depth, self.threads = threading.Lock(), 0, 1
        self.until = 0.0

    def avoid(self, until: float) -> None:
        """Several threads were found to stall: what starts before then starts on one."""
        self.until = max(self.until, until)

    def crowded(self) -> float:
        """For how many seconds should new work stay on one thread? A start only; the work itself is measured."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return max(self.until - time.perf_counter(), 1.0 if load >= 1.5 * (os.cpu_count() or 1) else 0.0)

    def enter(self) -> int:
        with self.lock:
            if self.depth == 0:
                self.threads = torch.get_num_threads()
            self.depth += 1
            return self.threads

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            _set_threads(self.threads)


def _set_threads(threads: int) -> None:
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


_HOME = _Home()


class Planner:
    """Runs rows in chunks that are measured as they go; keeps what it learnt for the next question.

    How: one planner a model; `key` says what is run (place, pass, dtype, row shape). Several threads may
    share a planner. `threads` are put back when a run ends, also when it ends in an exception.
    >>> seen = []
    >>> steps = Planner().run("sum", 10, lambda start, stop, step: seen.extend(range(start, stop)), fixed=4)
    >>> seen == list(range(10)), [s.size for s in steps]
    (True, [4, 4, 2])
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Hashable, _Measured] = {}

    def run(
        self,
        key: Hashable, n: int, work: Callable[[int, int, Step], None], *, numel: int = 1, layouts: bool = False, device: str = "cpu",
        fixed: int | None = None, replay: Iterator[Step] | None = None, tick: Callable[[int], None] | None = None,
    ) -> list[Step]:
        """Calls `work(start, stop, step)` until rows 0..n are done, each once and in order; says how."""
        home = _HOME.enter()
        try:
            threads = home if device == "cpu" else 0
            source = self._source(key, numel, layouts, threads, fixed, replay)
            return _run(source, n, work, device, home, tick)
        finally:
            _HOME.leave()

    def _source(self, key: Hashable, numel: int, layouts: bool, home: int, fixed: int | None, replay: Iterator[Step] | None) -> _Source:
        if replay is not None:
            return _Recorded(replay)
        if fixed is not None:
            return _Pinned(fixed, home)
        with self._lock:
            full = (key, layouts, home)
            found = self._known.pop(full, None) or _Measured(numel, layouts, home)
            self._known[full] = found
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
            return found


def _run(
    source: _Source, n: int, work: Callable[[int, int, Step], None], device: str, home: int, tick: Callable[[int], None] | None
) -> list[Step]:
    done, start = list[Step](), 0
    while start < n:
        step = source.pick(n - start)
        _set_threads(step.threads or home)
        call = _attempt(work, start, step, device)
        if isinstance(call, str):
            _give_way(source, step, device, call)
            continue
        source.tell(step, call)
        done.append(step)
        start += step.size
        if tick is not None:
            tick(start)
    return done


def _attempt(work: Callable[[int, int, Step], None], start: int, step: Step, device: str) -> _Call | str:
    """Run one chunk; the text of the error where memory did not suffice.

    The exception must be gone before the next try: its traceback holds the chunk's tensors.
    """
    _wait(device)
    seconds, cpu = time.perf_counter(), time.process_time()
    try:
        work(start, start + step.size, step)
        _wait(device)
    except (MemoryError, RuntimeError) as error:
        if not scarce(error):
            raise
        return str(error) or type(error).__name__
    return _Call(max(time.perf_counter() - seconds, 1e-9), time.process_time() - cpu)


def scarce(error: BaseException) -> bool:
    """Does the error say that memory did not suffice?"""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in SCARCE)


def _give_way(source: _Source, step: Step, device: str, text: str) -> None:
    if step.size == 1:
        raise CannotComplete(
            f"The model needs more memory than {device} has, even for one row; got {text.splitlines()[0][:200]!r}. Free memory, explain a smaller input, or use another device."
        )
    source.shrink(step)
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _wait(device: str) -> None:
    """Accelerators run behind: the clock is read when they have caught up."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()
