"""How evidence is gathered: rows, costs, levels, and what it leaves behind."""

import dataclasses

import pytest
import torch
from torch import nn

import pellucid as pel
from models import made
from pellucid.core import catalogue
from pellucid.core.evidence import Evidence
from pellucid.core.question import ask
from pellucid.metrics import _evidence, _pool
from pellucid.metrics._evidence import gather
from pellucid.metrics._permuted import permuted, variants
from pellucid.metrics._pool import Pool
from pellucid.metrics._subject import PICTURE, Grid, subject
from pellucid.metrics.class_dependence import far_class, log_odds
from pellucid.metrics.convergence import noise_share
from pellucid.metrics.stability import changes, noisy

X = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small():
    net = made(lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(196, 8)))
    net[5].weight.data *= 20
    return net


def saliency(x, level="basic", ids=None, **more):
    method = catalogue.make("methods", "input-x-gradient")
    q = ask(pel.wrap(small()), x, 2, ids=ids, **more)
    e = method(q)
    return gather(q.fresh(), e, method, level)


def named(evidence, name):
    return next(r for r in evidence.readings if r.name == name)


def test_every_reading_is_whole():
    ev = saliency(X, "full")
    assert ev.verdict in ("supported", "doubtful", "contradicted")
    assert len(ev.rows) == 3
    for r in ev.readings:
        assert min(len(r.title), len(r.sentence), len(r.meaning)) > 0
        assert r.verdict in ("good", "doubtful", "bad", "fact", "not applicable")
        assert (r.value is None and r.rows == ()) or len(r.rows) == 3
        assert r.sentence.endswith(".")
    assert {"mask-fidelity", "mask-fidelity-mean", "stability", "sparseness", "class-dependence"} <= {r.name for r in ev.readings}
    assert Evidence.from_dict(ev.to_dict()) == ev
    assert ev.table().count("\n") > 6


def test_rows_do_not_depend_on_their_neighbours():
    together = saliency(X, ids=["a", "b", "c"])
    for i, name in enumerate("abc"):
        alone = saliency(X[i : i + 1], ids=[name])
        assert alone.rows[0] == together.rows[i]
        for r in together.readings:
            if r.rows:
                assert named(alone, r.name).rows[0] == pytest.approx(r.rows[i], abs=1e-9)


def test_the_same_seed_gives_the_same_evidence_and_the_global_generator_stays():
    before = torch.get_rng_state()
    one, two, other = (saliency(X[:1], batch_size=16, seed=s) for s in (0, 0, 1))
    value = lambda ev: named(ev, "mask-fidelity").value  # noqa: E731
    assert value(one) == value(two) != value(other)
    assert torch.equal(before, torch.get_rng_state())


def test_forward_rows_are_counted_as_they_are_spent():
    seen = []

    def f(z):
        seen.append(len(z))
        return torch.stack([z.flatten(1).sum(1), z.flatten(1)[:, :40].sum(1), z.flatten(1)[:, 400:].sum(1)], 1)

    q = ask(pel.wrap(f), X[:2], [0, 1])
    values = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    e = pel.assess(f, X[:2].repeat_interleave(2, 0), values, target=[0, 1, 0, 1], evidence="none")
    seen.clear()
    ev = gather(e.question.fresh(), e, None)
    assert ev.cost.forward_rows == sum(seen)
    assert ev.cost.forward_rows >= 4 * 129
    assert sum(r.cost.forward_rows for r in ev.readings) + 4 == ev.cost.forward_rows
    q.close()


def test_one_pool_serves_many_maps():
    method = catalogue.make("methods", "input-x-gradient")
    q = ask(pel.wrap(small()), X[:1], 2)
    e = method(q)
    fresh = q.fresh()
    pool = Pool(fresh, subject(fresh, e, method).grid)
    first = gather(fresh, e, None, pool=pool)
    again = gather(fresh, dataclasses.replace(e, values=-e.values), None, pool=pool)
    assert named(first, "mask-fidelity").cost.forward_rows >= 128
    assert named(again, "mask-fidelity").cost.forward_rows in (0, 128, 256, 384)
    assert named(again, "mask-fidelity").value == pytest.approx(-named(first, "mask-fidelity").value, abs=0.2)


def test_a_longer_pool_does_not_change_a_shorter_test():
    method = catalogue.make("methods", "input-x-gradient")
    q = ask(pel.wrap(small()), X[:1], 2)
    e, fresh = method(q), q.fresh()
    pool = Pool(fresh, subject(fresh, e, method).grid)
    pool.grow([0], 384)
    one, two = gather(fresh, e, None, pool=pool), gather(q.fresh(), e, None)
    assert named(one, "mask-fidelity").value == pytest.approx(named(two, "mask-fidelity").value, abs=1e-9)


@pytest.mark.parametrize(("size", "masks"), [(8, 512), (9, 128)])
def test_few_rows_may_have_more_masks_and_many_settle_the_verdict_between_them(size, masks, monkeypatch):
    monkeypatch.setattr(_evidence, "open_to_doubt", lambda *_: True)
    x = X[:1].repeat(size, 1, 1, 1) * torch.linspace(0.7, 1.3, size)[:, None, None, None].to(X)
    e = pel.assess(small(), x, torch.rand(size, 1, *X.shape[2:], dtype=X.dtype, generator=torch.Generator().manual_seed(3)), target=2, evidence="none")
    assert named(gather(e.question.fresh(), e, None), "mask-fidelity").cost.forward_rows == masks * size


def test_whole_outputs_of_many_rows_are_not_held(monkeypatch):
    q = ask(pel.wrap(small()), X[:2], 2)
    assert Pool(q, Grid(PICTURE, tuple(X.shape[2:]))).whole
    monkeypatch.setattr(_pool, "MOST", 5)
    assert not Pool(q, Grid(PICTURE, tuple(X.shape[2:]))).whole
    q.close()


def test_metrics_of_the_catalogue_score_an_explanation():
    e = pel.explain(small(), X, target=2, method="integrated-gradients", steps=8, evidence="none")
    for name in ("mask-fidelity", "class-dependence", "completeness-gap", "convergence", "sparseness", "stability"):
        found = catalogue.make("metrics", name)(e)
        assert found.values.shape == (3,)
        assert torch.isfinite(found.values).all()
    with pytest.raises(pel.NotApplicable, match="does not promise values that add up"):
        catalogue.make("metrics", "completeness-gap")(pel.explain(small(), X, target=2, method="saliency", evidence="none"))


def test_the_far_class_is_in_the_middle_and_not_near_the_target():
    y = torch.tensor([5.0, 4.5, 3.0, 2.0, 1.0, 0.0, -1.0])
    assert far_class(y, 0, 1.0) == 3
    assert far_class(y, 3, 1.0) == 5 or far_class(y, 3, 0.5) in (2, 4)
    assert far_class(torch.tensor([1.0, 1.2, 0.8]), 0, 1.0) is None
    p = torch.tensor([[0.7, 0.2, 0.1]])
    assert torch.allclose(log_odds(p), p.double().log())
    assert torch.equal(log_odds(-p), -p.double())


def test_a_permuted_network_has_the_same_numbers_in_other_places_and_is_alive():
    net = small()
    held = [p.clone() for p in net.parameters()]
    other = permuted(net, X, seed=0)
    assert all(torch.equal(a.flatten().sort().values, b.flatten().sort().values) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert not torch.equal(net[5].weight, other[5].weight)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), held, strict=True))
    assert not torch.equal(other[1].running_mean, net[1].running_mean)
    assert float(other(X).std(0).mean()) > 0.01
    assert not other.training
    assert variants({"x": X, "n": torch.tensor([1, 2, 3])}, 5, torch.Generator().manual_seed(0))["n"].tolist() == [1, 2, 3, 1, 2]


def test_noise_shares_and_changes():
    v, e = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[0.1, 0.3], [1.0, 1.0]])
    assert noise_share([v], [e]) == (pytest.approx(0.1), 0.0)
    assert changes(v, torch.zeros(2, 2)) == [1.0, 1.0]
    assert changes(torch.zeros(1, 2), v[:1]) == [None]
    shaken = noisy(X, 0.01, 0, ("a", "b", "c"), 0)
    assert 0 < float((shaken - X).abs().max()) <= 0.01
    assert torch.equal(noisy(X[1:2], 0.01, 0, ("b",), 0)[0].sub(X[1]), shaken[1].sub(X[1]))
