"""The planner: every row once, in order, whatever happens; the choice follows the measurements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pellucid.core import planner as module
from pellucid.core.errors import CannotComplete, UsageError
from pellucid.core.planner import Plan, Planner, Step

SIZES = st.integers(1, 9000)
STEPS = st.builds(Step, SIZES, st.booleans(), st.integers(0, 16))
Work = Callable[[int, int, Step], None]


class Clock:
    """Time that passes only where a test says so; stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.cpu

    def spend(self, seconds: float, threads: float = 1) -> None:
        self.now, self.cpu = self.now + seconds, self.cpu + seconds * threads


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other work on the machine, and none remembered from another test."""
    monkeypatch.setattr(module, "_HOME", module._Home())
    monkeypatch.setattr(module.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def total(clock: Clock, planner: Planner, n: int, work: Work, **kw: object) -> float:
    before = clock.now
    planner.run("k", n, work, **kw)  # type: ignore[arg-type]
    return clock.now - before


def by_size(clock: Clock, curve: dict[int, float], threads: float = 2) -> Work:
    """Work whose seconds a row are those of the nearest size of the curve."""

    def work(start: int, stop: int, step: Step) -> None:
        nearest = min(curve, key=lambda c: abs(c - (stop - start)))
        clock.spend((stop - start) * curve[nearest], threads)

    return work


# -- plans as text -------------------------------------------------------------------------------------------------


@given(st.lists(STEPS))
def test_a_plan_survives_its_text(steps: list[Step]) -> None:
    plan = Plan(steps)
    assert Plan.parse(str(plan)) == plan
    assert list(plan) == steps
    assert plan.rows == sum(s.size for s in steps)


def test_a_plan_is_short_and_readable() -> None:
    plan = Plan([Step(1), *[Step(4, True, 2)] * 2, *[Step(6, True, 2)] * 8, Step(6, False, 1)])
    assert str(plan) == "1,cl,t2,4*2,6*8,co,t1,6"
    assert plan.size == 6


@pytest.mark.parametrize("text", ["x", "0", "4*0", "-3", "4**2", "1;2", "t", "4*2*2", "1e3", "²"])
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A plan is chunk sizes"):
        Plan.parse(text)


# -- every row once ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    ns=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    numel=st.sampled_from([1, 30, 5000, 150_528]),
    layouts=st.booleans(),
    fixed=st.none() | st.integers(1, 700),
    most=st.integers(1, 5000),
    noise=st.randoms(use_true_random=False),
)
def test_every_row_is_run_once_and_in_order(ns: list[int], numel: int, layouts: bool, fixed: int | None, most: int, noise: object) -> None:
    planner, clock = Planner(), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clock)
        for n in ns:
            rows, ticks = list[int](), list[int]()

            def work(start: int, stop: int, step: Step, rows: list[int] = rows) -> None:
                if stop - start > most:
                    raise torch.OutOfMemoryError("full")
                clock.spend(noise.random() * 10 ** noise.uniform(-6, 0), noise.random() * 2)  # type: ignore[attr-defined]
                rows.extend(range(start, stop))
                assert stop - start == step.size

            steps = planner.run("k", n, work, numel=numel, layouts=layouts, fixed=fixed, tick=ticks.append)
            assert rows == list(range(n))
            assert sum(s.size for s in steps) == n
            assert ticks == [sum(s.size for s in steps[: i + 1]) for i in range(len(steps))]
            assert all(s.size <= min(most, module.LARGEST) for s in steps)
            assert layouts or not any(s.channels_last for s in steps)
            assert fixed is None or all(s.size <= fixed for s in steps)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.booleans(), st.integers(1, 60))
def test_a_recorded_plan_is_run_again(n: int, layouts: bool, numel: int) -> None:
    first = Planner().run("k", n, lambda i, j, s: None, numel=numel, layouts=layouts)
    again = Planner().run("k", n, lambda i, j, s: None, replay=iter(Plan.parse(str(Plan(first)))))
    assert again == first


def test_one_recorded_plan_feeds_several_runs() -> None:
    replay = iter(Plan.parse("3,2,cl,4"))
    assert Planner().run("a", 5, lambda i, j, s: None, replay=replay) == [Step(3), Step(2)]
    assert Planner().run("b", 4, lambda i, j, s: None, replay=replay) == [Step(4, True)]


@pytest.mark.parametrize("text", ["2", "2,9", ""])
def test_a_plan_of_another_question_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="belongs to another question"):
        Planner().run("k", 5, lambda i, j, s: None, replay=iter(Plan.parse(text)))


@pytest.mark.parametrize("size", [0, -4])
def test_a_chunk_without_rows_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="at least one row"):
        Planner().run("k", 5, lambda i, j, s: None, fixed=size)


# -- memory --------------------------------------------------------------------------------------------------------

SCARCE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SCARCE, ids=lambda e: str(e)[:20] or type(e).__name__)
@pytest.mark.parametrize("how", ["measured", "fixed", "replay"])
def test_rows_that_do_not_fit_are_halved(error: Exception, how: str) -> None:
    rows: list[int] = []

    def work(start: int, stop: int, step: Step) -> None:
        if stop - start > 5:
            raise error
        rows.extend(range(start, stop))

    more = {"fixed": {"fixed": 64}, "replay": {"replay": iter([Step(64), Step(36)])}}.get(how, {})
    steps = Planner().run("k", 100, work, **more)  # type: ignore[arg-type]
    assert rows == list(range(100))
    assert max(s.size for s in steps) <= 5


def test_the_limit_is_remembered() -> None:
    planner, failed = Planner(), list[int]()

    def work(start: int, stop: int, step: Step) -> None:
        if stop - start > 5:
            failed.append(stop - start)
            raise MemoryError

    planner.run("k", 300, work)
    assert failed
    failed.clear()
    planner.run("k", 300, work)
    assert not failed


def test_one_row_that_does_not_fit_is_said() -> None:
    def work(start: int, stop: int, step: Step) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(CannotComplete, match=r"even for one row; got 'CUDA out of memory'\. Free memory"):
        Planner().run("k", 8, work)


# -- other errors, threads, concurrency ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["work", "tick"])
def test_errors_pass_through_and_leave_no_trace(place: str, two_threads: None) -> None:
    class Stop(BaseException): ...

    def end(*_: object) -> None:
        torch.set_num_threads(1)
        raise Stop

    planner = Planner()
    with pytest.raises(Stop):
        planner.run("k", 8, end if place == "work" else lambda i, j, s: None, tick=end if place == "tick" else None)
    assert torch.get_num_threads() == 2
    assert sum(s.size for s in planner.run("k", 8, lambda i, j, s: None)) == 8


def test_an_error_of_the_model_is_not_taken_for_memory() -> None:
    def work(start: int, stop: int, step: Step) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Planner().run("k", 8, work)


def test_runs_at_the_same_time_do_not_disturb_each_other(two_threads: None) -> None:
    planner, wrong = Planner(), list[int]()

    def ask() -> None:
        for _ in range(20):
            rows: list[int] = []

            def work(start: int, stop: int, step: Step, rows: list[int] = rows) -> None:
                time.sleep(1e-4)
                rows.extend(range(start, stop))

            planner.run("k", 700, work, numel=5000, layouts=True)
            wrong.extend([] if rows == list(range(700)) else [1])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torch.get_num_threads() == 2


# -- the choice ----------------------------------------------------------------------------------------------------

KNEE = {1: 18e-3, 2: 14e-3, 4: 12e-3, 8: 15e-3, 16: 25e-3, 32: 31e-3}  # an image network: page faults beyond 4 rows
TOKENS = {1: 12e-3, 4: 5.6e-3, 8: 4.5e-3, 16: 4e-3, 32: 3.75e-3, 64: 3.7e-3}
TABLE = {1: 4e-5, 64: 1e-6, 512: 2e-7, 2048: 1.5e-7, 8192: 3e-7}


@pytest.mark.parametrize(
    ("curve", "numel", "n", "cold", "warm"),
    [
        (KNEE, 150_528, 200, 1.15, 1.05),
        (KNEE, 150_528, 50, 1.30, 1.10),
        (TOKENS, 9600, 200, 1.15, 1.08),
        (TABLE, 30, 20_000, 1.9, 1.2),
    ],
)
def test_the_search_costs_little(clock: Clock, two_threads: None, curve: dict[int, float], numel: int, n: int, cold: float, warm: float) -> None:
    planner, work, best = Planner(), by_size(clock, curve), n * min(curve.values())
    assert total(clock, planner, n, work, numel=numel) < cold * best
    assert total(clock, planner, n, work, numel=numel) < warm * best


@pytest.mark.parametrize("faster", [True, False])
def test_the_faster_layout_is_kept(clock: Clock, faster: bool) -> None:
    def work(start: int, stop: int, step: Step) -> None:
        clock.spend((stop - start) * (1.0 if step.channels_last == faster else 1.4) * 1e-2)

    steps = Planner().run("k", 200, work, numel=150_528, layouts=True)
    assert {s.channels_last for s in steps} == {True, False}
    assert sum(s.channels_last != faster for s in steps[len(steps) // 2 :]) <= 1, "the other is only asked again"


@pytest.mark.parametrize("faster", [True, False])
def test_a_layout_chosen_by_noise_is_corrected(clock: Clock, faster: bool) -> None:
    planner, seen = Planner(), set()

    def work(start: int, stop: int, step: Step) -> None:
        stalled = step.channels_last == faster and len(seen) < 4
        seen.add(clock.now)
        clock.spend((stop - start) * (3.0 if stalled else 1.0 if step.channels_last == faster else 1.4) * 1e-2)

    for _ in range(40):
        planner.run("k", 8, work, numel=150_528, layouts=True)
    steps = planner.run("k", 8, work, numel=150_528, layouts=True)
    assert {s.channels_last for s in steps} == {faster}


@pytest.mark.parametrize("slowdown", [0.6, 1.5, 50.0])
def test_threads_that_wait_are_given_up_only_when_one_is_faster(clock: Clock, two_threads: None, slowdown: float) -> None:
    def work(start: int, stop: int, step: Step) -> None:
        clock.spend((stop - start) * 1e-2 * (slowdown if step.threads == 2 else 1.0), 1.0)

    steps = Planner().run("k", 200, work, numel=150_528)
    assert {s.threads for s in steps} == {1, 2}, "contention must be answered by trying one thread"
    most = [s.threads for s in steps for _ in range(s.size)].count(1 if slowdown > 1 else 2)
    assert most > 140


def stalls(clock: Clock) -> Work:
    def work(start: int, stop: int, step: Step) -> None:
        clock.spend((stop - start) * 1e-2 * (50.0 if step.threads == 2 else 1.0), 1.0)

    return work


def test_questions_of_few_rows_give_up_stalled_threads_too(clock: Clock, two_threads: None) -> None:
    planner = Planner()
    planner.run("k", 200, by_size(clock, KNEE), numel=150_528)
    asked = [planner.run("k", 2, stalls(clock), numel=150_528)[0].threads for _ in range(20)]
    assert asked.count(1) > 15


def test_one_search_tells_the_next_that_threads_stall(clock: Clock, two_threads: None) -> None:
    Planner().run("k", 40, stalls(clock), numel=150_528)
    assert {s.threads for s in Planner().run("k", 40, stalls(clock), numel=150_528)} == {1}


def test_on_a_crowded_machine_work_starts_on_one_thread(clock: Clock, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getloadavg", lambda: (100.0, 0.0, 0.0), raising=False)
    assert {s.threads for s in Planner().run("k", 40, stalls(clock), numel=150_528)} == {1}


def test_threads_come_back_when_the_machine_is_free(clock: Clock, two_threads: None) -> None:
    busy = [True]

    def work(start: int, stop: int, step: Step) -> None:
        slow, threads = (20.0, 1.0) if busy[0] and step.threads == 2 else (1.0 if step.threads == 1 else 0.6, step.threads)
        clock.spend((stop - start) * 1e-2 * slow, threads)

    planner = Planner()
    assert planner.run("k", 200, work, numel=150_528)[-1].threads == 1
    clock.now += 120
    busy[0] = False
    assert planner.run("k", 200, work, numel=150_528)[-1].threads == 2


def test_one_thread_is_never_left_when_the_user_set_one(clock: Clock) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = Planner().run("k", 200, by_size(clock, KNEE, 0.1), numel=150_528)
    finally:
        torch.set_num_threads(before)
    assert {s.threads for s in steps} == {1}


def test_a_choice_made_by_noise_is_corrected(clock: Clock, two_threads: None) -> None:
    planner, fast = Planner(), by_size(clock, KNEE)
    noisy = iter([1.0, 3.0, 3.0, *[1.0] * 10_000])

    def work(start: int, stop: int, step: Step) -> None:
        before = clock.now
        fast(start, stop, step)
        clock.spend((clock.now - before) * (next(noisy) - 1), 2)

    for _ in range(4):
        planner.run("k", 200, work, numel=150_528)
    assert Plan(planner.run("k", 200, work, numel=150_528)).size == 4


def test_no_call_is_planned_to_be_long(clock: Clock) -> None:
    longest = [0.0]

    def work(start: int, stop: int, step: Step) -> None:
        seconds = 0.3 / (stop - start) + 0.2 * (stop - start)
        clock.spend(seconds)
        longest[0] = max(longest[0], seconds)

    Planner().run("k", 200, work, numel=150_528)
    assert longest[0] < 2.5
