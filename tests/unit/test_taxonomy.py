"""Every procedure has its place in the taxonomy, and the lists follow it."""

import json

import pytest

from pellucid.cli import main
from pellucid.core.card import AXES, Card, Needs, placed
from pellucid.core.catalogue import KINDS, entries


@pytest.mark.parametrize("kind", KINDS)
def test_every_card_is_placed_with_words_of_the_axes(kind):
    for entry in entries(kind).values():
        place = placed(kind, entry.card)
        for axis, words in AXES.items():
            assert getattr(place, axis).split(" (")[0] in words, (entry.name, axis)
        assert entry.card.better in ("higher", "lower", "")


def test_needs_and_kind_decide_where_a_card_is_silent():
    assert placed("methods", Card(title="t", paper="")).words() == "passive, attribution, local, agnostic"
    assert placed("methods", Card(title="t", paper="", needs=Needs.GRADIENT | Needs.VALUE)).reach == "specific (gradient)"
    assert placed("surrogates", Card(title="t", paper="")).words() == "passive, rules, global, agnostic"
    assert placed("counterfactuals", Card(title="t", paper="")).gives == "examples"
    assert placed("methods", Card(title="t", paper="", stance="active", gives="rules", scope="global", reach="agnostic", needs=Needs.TREES)).words() == "active, rules, global, agnostic"


def test_known_places():
    place = {name: placed("methods", e.card) for name, e in entries("methods").items()}
    assert place["kernel-shap"].reach == "agnostic"
    assert "trees" in place["tree-shap"].reach
    assert place["deep-feature-factorization"].gives == "hidden semantics"
    assert place["permutation-importance"].scope == "semi-local"


def test_list_by_taxonomy(capsys):
    assert main(["list", "methods", "--by", "taxonomy"]) == 0
    out = capsys.readouterr().out
    assert "attribution · local · any model · passive" in out
    assert out.count("integrated-gradients") >= 1
    assert main(["list", "methods", "--json"]) == 0
    assert {"stance", "gives", "scope", "reach"} == set(json.loads(capsys.readouterr().out)[0]["taxonomy"])
    assert main(["list", "models", "--by", "taxonomy"]) == 2
    assert "no place" in capsys.readouterr().err
