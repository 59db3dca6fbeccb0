"""The engine: nothing is asked twice, memory is bounded, work can be watched and stopped, threads do not meet."""

import threading

import pytest
import torch
from torch import nn

from models import Counting, Noisy, Residual, Reused, made, normal, smooth, subjects
from pellucid.attribution import IntegratedGradients, Occlusion, Saliency, SmoothGrad
from pellucid.backends import wrap
from pellucid.core import engine, rows
from pellucid.core.errors import Cancelled, CannotComplete, UsageError
from pellucid.core.planner import Plan
from pellucid.core.points import Points
from pellucid.core.progress import Progress, watching
from pellucid.core.question import ask

X = normal(3, 5)


def counting(build=Reused, most=None):
    net = Counting(made(build), most)
    return net, wrap(net)


# ---------------------------------------------------------------- nothing is asked twice


def test_equal_rows_are_asked_once():
    net, model = counting()
    q = ask(model, X, 1, batch_size=64)
    q.target_values()
    net.tally.rows = 0
    z = torch.stack([X, X + 1, X, X + 1, X])
    got = q.value(z)
    assert net.tally.rows == 6
    assert q.value(z).equal(got)
    assert net.tally.rows == 6, "the second time everything is remembered"
    torch.testing.assert_close(got[2], got[0])
    torch.testing.assert_close(got[1], net.inner(X + 1)[:, 1].detach())


def test_memory_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(rows, "REMEMBERED", 10)
    net, model = counting()
    q = ask(model, X, 1, batch_size=4)
    z = normal(20, 3, 5, seed=3)
    torch.testing.assert_close(q.value(z), net.inner(z.flatten(0, 1))[:, 1].detach().reshape(20, 3))
    assert len(q.engine._memo) <= 10 + 4


def test_equal_rows_in_training_mode_are_asked_each():
    """With dropout, equal rows have other answers."""
    net = made(Noisy).train()
    with pytest.warns(UserWarning, match="training mode"):
        model = wrap(net)
    q = ask(model, X, 1, batch_size=64)
    assert q.value(X.expand(8, 3, 5)).std(0).min() > 0


def test_the_prefix_is_run_once():
    """Below the layer, rows are recorded and never run again; the answers are the whole network's."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.above = Counting(nn.Linear(5, 6)), nn.Sequential(nn.Tanh(), nn.Linear(6, 3))

        def forward(self, x):
            return self.above(self.below(x))

    net = made(Deep)
    q = ask(wrap(net), X, 1, at="below", batch_size=8)
    q.target_values()
    q.point  # noqa: B018
    net.below.tally.rows = 0
    z = normal(40, 3, 6, seed=3)
    got = q.value(z)
    assert net.below.tally.rows < 20
    torch.testing.assert_close(got, net.above(z)[..., 1].detach())
    torch.testing.assert_close(q.grad(z), torch.func.vmap(torch.func.vmap(torch.func.grad(lambda v: net.above(v)[1])))(z).detach())


def test_what_cannot_be_cut_is_run_whole_and_says_so():
    """Rows that see each other cannot be run above a recorded prefix."""

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.above = nn.Linear(5, 6), nn.Linear(6, 3)
            self.calls = 0

        def forward(self, x):
            h = self.below(x)
            return self.above(h * len(h))

    net = made(Mixing)
    q = ask(wrap(net), X, 1, at="below", batch_size=6)
    e = Occlusion()(q)
    alone = Occlusion()(ask(wrap(net), X, 1, at="below", batch_size=6))
    assert torch.equal(e.values, alone.values)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("ask_for", ["value", "grad"])
def test_points_are_made_chunk_by_chunk(ask_for):
    """A thousand points a row are never there at once."""
    made_sizes = []

    def make(s, rows):
        made_sizes.append(len(s))
        return X[rows] + s.to(X)[:, None] / 1000

    q = ask(wrap(made(smooth)), X, 1, batch_size=50)
    points = Points(1000, make)
    if ask_for == "value":
        assert q.value(points).shape == (1000, 3)
    else:
        assert q.grad(points, weights=torch.full((1000,), 1e-3, dtype=torch.float64)).shape == (3, 5)
    assert sum(made_sizes) == 3000
    assert max(made_sizes) <= 50


def test_methods_make_no_more_than_a_chunk(monkeypatch):
    """Integrated gradients at 400 nodes and Occlusion never ask for more than a chunk of points."""
    sizes = []
    original = engine.Engine._units

    def units(self, points, start, stop):
        sizes.append(stop - start)
        return original(self, points, start, stop)

    monkeypatch.setattr(engine.Engine, "_units", units)
    q = ask(wrap(made(smooth)), X, 1, batch_size=16)
    IntegratedGradients(steps=400)(q)
    Occlusion()(q)
    assert max(sizes) == 16
    assert sum(sizes) >= 1200


@pytest.mark.parametrize("at", [None, "inner.first"], ids=["input", "layer"])
@pytest.mark.parametrize("batch_size", [8, None])
@pytest.mark.parametrize("method", [Saliency(), IntegratedGradients(steps=8), Occlusion(), SmoothGrad(samples=4)], ids=lambda m: m.name)
def test_out_of_memory_halves_the_chunk(method, at, batch_size):
    """A device with room for two rows answers as one with room for all; the plan says what was run."""
    tight, model = counting(most=2)
    e = method(ask(model, X, 1, at=at, batch_size=batch_size))
    want = method(ask(counting()[1], X, 1, at=at, batch_size=8))
    torch.testing.assert_close(e.values, want.values)
    assert max(tight.tally.sizes) <= 2
    assert max(s.size for s in Plan.parse(e.cost.plan)) <= 2
    assert e.cost.forward_rows >= tight.tally.rows


def test_out_of_memory_at_one_row_says_so():
    with pytest.raises(CannotComplete, match="even for one row"):
        Saliency()(ask(counting(most=0)[1], X, 1))


# ---------------------------------------------------------------- progress


def test_progress_rises_to_the_whole():
    seen: list[Progress] = []
    with watching(seen.append):
        IntegratedGradients(steps=5)(ask(wrap(made(Reused)), X, 1, batch_size=4))
    stages = {p.stage for p in seen}
    assert "gradients" in stages
    for stage in stages:
        run = [p for p in seen if p.stage == stage]
        assert all(0 < p.done <= p.total for p in run)
        assert run[-1].done == run[-1].total
    assert [p.done for p in seen if p.stage == "gradients"] == [4, 8, 12, 15]


@pytest.mark.parametrize("method", [IntegratedGradients(steps=20), Occlusion(window=2, stride=1), SmoothGrad(samples=10)], ids=lambda m: m.name)
@pytest.mark.parametrize("at", [None, "b"])
def test_cancel_between_chunks(method, at):
    """It stops at once, leaves no trace, and the next question is answered as ever."""
    s = subjects()["pictures"]
    net = s.net()
    model = wrap(net)
    state, rng, threads = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state(), torch.get_num_threads()
    told = []

    def stop(p):
        told.append(p)
        if len(told) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"), watching(stop):
        method(ask(model, s.x, 1, at=at, batch_size=2))
    assert len(told) == 3
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    torch.testing.assert_close(method(ask(model, s.x, 1, at=at, batch_size=2)).values, method(ask(wrap(s.net()), s.x, 1, at=at, batch_size=2)).values, rtol=0, atol=0)


def test_watchers_of_inner_work():
    seen = []
    with watching(seen.append), watching(None):
        Saliency()(ask(wrap(made(Reused)), X, 1))
    assert seen


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("at", [None, "b"])
def test_two_threads_explain_with_one_model(at):
    """Each gets what it would have got alone, bit for bit; the global generator is untouched by both."""
    s = subjects()["pictures"]
    model = wrap(s.net())
    methods = [IntegratedGradients(steps=6), Saliency(), Occlusion(window=2, stride=2), SmoothGrad(samples=4)]
    want = [m(ask(wrap(s.net()), s.x, 1, at=at, batch_size=4)).values for m in methods]
    got: dict[int, list] = {k: [] for k in range(4)}
    errors = []
    rng = torch.get_rng_state()
    gate = threading.Barrier(4)

    def work(k):
        try:
            gate.wait()
            for _ in range(3):
                got[k].append(methods[k](ask(model, s.x, 1, at=at, batch_size=4)).values)
        except Exception as e:  # noqa: BLE001 - handed to the main thread
            errors.append(e)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not errors
    for k in range(4):
        assert all(torch.equal(v, want[k]) for v in got[k])
    assert torch.equal(rng, torch.get_rng_state())


def test_one_question_in_two_threads():
    """A question keeps its engine a thread."""
    q = ask(wrap(made(Reused)), X, 1, batch_size=4)
    got = {}

    def work(k):
        got[k] = q.grad(), q.engine

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert torch.equal(got[0][0], got[1][0])
    assert got[0][1] is not got[1][1]


# ---------------------------------------------------------------- chance


@pytest.mark.parametrize("method", [Saliency(), IntegratedGradients(steps=4), Occlusion()], ids=lambda m: m.name)
def test_dropout_is_the_seeds(method):
    """A model in training mode warns; its dropout is drawn from the question's seed."""
    with pytest.warns(UserWarning, match="training mode"):
        model = wrap(made(Noisy).train())
    rng = torch.get_rng_state()
    one, two, other = (method(ask(model, X, 1, seed=seed, batch_size=4)).values for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(rng, torch.get_rng_state())


def test_the_global_generator_decides_nothing():
    model = wrap(made(Reused))
    torch.manual_seed(1)
    one = SmoothGrad(samples=3)(ask(model, X, 1, batch_size=4)).values
    torch.manual_seed(2)
    assert torch.equal(SmoothGrad(samples=3)(ask(model, X, 1, batch_size=4)).values, one)


def test_eval_mode_does_not_warn():
    assert wrap(made(Noisy)).training is False


# ---------------------------------------------------------------- precision


def test_float64_comes_out_as_float64():
    q = ask(wrap(made(Reused)), X, 1)
    assert {q.grad().dtype, q.value(X).dtype, q.target_values().dtype, IntegratedGradients(steps=2)(q).values.dtype} == {torch.float64}


def test_sums_of_sixteen_bits_are_kept_in_single():
    """A thousand small gradients do not vanish in the sum."""
    net = made(smooth, dtype=torch.bfloat16)
    q = ask(wrap(net), X, 1, batch_size=64)
    n = 2000
    got = q.grad(Points(n, lambda s, rows: X.bfloat16()[rows]), weights=torch.full((n,), 1 / n, dtype=torch.float64))
    torch.testing.assert_close(got, q.grad(), rtol=0.02, atol=1e-3)


# ---------------------------------------------------------------- plans


def test_a_plan_of_another_question_is_refused():
    e = Saliency()(ask(wrap(made(Reused)), X, 1, batch_size=2))
    plan = Plan.parse(e.cost.plan)
    assert [s.size for s in plan] == [2, 1]
    with pytest.raises(UsageError, match="another question"):
        IntegratedGradients(steps=4)(ask(wrap(made(Reused)), X, 1, batch_size=plan))


def test_the_answer_can_be_asked_on_after_a_replay():
    """The question that an explanation carries is live: it is no longer bound to the recorded plan."""
    e = Saliency()(ask(wrap(made(Reused)), X, 1, batch_size=2))
    again = Saliency()(ask(wrap(made(Reused)), X, 1, batch_size=Plan.parse(e.cost.plan)))
    z = normal(7, 3, 5)
    torch.testing.assert_close(again.question.value(z), e.question.value(z))


@pytest.mark.parametrize("batch_size", [3, None])
def test_a_prefix_is_recorded_in_chunks(batch_size):
    """No forward sees more rows than a chunk has, however many rows are asked about, and the prefix is still used."""
    net = Counting(made(Residual), most=5)
    x = normal(23, 2, 6, 6)
    q = ask(wrap(net), x, 1, at="inner.b", batch_size=batch_size)
    z = q.point * torch.linspace(0.5, 1.5, 14, dtype=torch.float64).reshape(14, 1, 1, 1, 1)
    got = q.value(z)
    assert q.engine._suffix is not None
    assert q.engine._suffix.rows == 23
    assert not q.engine.notes
    assert max(net.tally.sizes) <= 5
    want = ask(wrap(made(Residual)), x, 1, at="b", batch_size=8)
    want.engine._whole = True
    torch.testing.assert_close(got, want.value(z))
    q.close()
    want.close()
