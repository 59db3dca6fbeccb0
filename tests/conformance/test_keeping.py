"""An explanation is kept and read again with nothing lost."""

import pytest
import torch

from conformance.subjects import METHODS, PLACES, Few, reference
from pellucid.core.explanation import Explanation
from pellucid.core.tree import leaves

methods = pytest.mark.parametrize("name", METHODS)
places = pytest.mark.parametrize("place", PLACES)
PLAIN = ("method", "parameters", "target", "at", "baseline", "seed", "ids", "axes", "names", "predictions", "signed", "provenance", "cost", "evidence")


def plain(e, k):
    """What is kept of it: a masker that a method was given is kept as its words."""
    told = getattr(e, k)
    return {n: repr(v) if isinstance(v, Few) else v for n, v in told.items()} if k == "parameters" else told


def same(a, b):
    assert {k: (plain(a, k), plain(b, k)) for k in PLAIN if plain(a, k) != plain(b, k)} == {}
    for k in ("values", "point", "error", "total", "base", "gap", "picture", "convergence"):
        one, two = getattr(a, k), getattr(b, k)
        assert type(one) is type(two), k
        if one is not None:
            assert all(torch.equal(s, t) and s.dtype == t.dtype for s, t in zip(leaves(one), leaves(two), strict=True)), k


@methods
@places
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_round_trip(name, place, suffix, tmp_path):
    e = reference(name, place)
    path = e.save(tmp_path / f"kept{suffix}")
    back = Explanation.load(path)
    same(e, back)
    assert back.question is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-written stays"
    same(back, Explanation.load(back.save(tmp_path / f"again{suffix}")))


@methods
@pytest.mark.parametrize("subject", ["two inputs", "keywords", "words"])
def test_round_trip_of_trees(name, subject, tmp_path):
    e = reference(name, "input", subject)
    if e is None:
        pytest.skip("refused: see test_answers")
    for suffix in (".safetensors", ".json"):
        same(e, Explanation.load(e.save(tmp_path / f"kept{suffix}")))
