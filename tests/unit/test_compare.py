"""Comparisons: one pool for all, controls beside methods, tests over rows, chunks that are kept and resumed."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pel
from pellucid.run import _compared_rows
from pellucid.run.ranking import ranking

X = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Patch(nn.Module):
    """Ten classes; each reads its own corner or its own strip of the picture, so that where the truth lies is known."""

    def forward(self, x):
        spots = [x[:, :, 2:12, 2:12], x[:, :, 16:26, 16:26], x[:, :, 2:12, 16:26], x[:, :, 16:26, 2:12]]
        return 10 * torch.stack([s.pow(2).mean((1, 2, 3)) for s in spots] + [x[:, :, k : k + 3].mean((1, 2, 3)) - 5 for k in range(6)], 1)


class Counting:
    """A black box that counts the rows it sees."""

    def __init__(self):
        self.rows = 0

    def __call__(self, z):
        self.rows += len(z)
        z = torch.as_tensor(z)
        return torch.stack([z[:, :4].sum(1), z[:, 4:].sum(1) - z[:, 0], z[:, ::2].sum(1)], 1)


@pytest.fixture(scope="module")
def found():
    return pel.compare(Patch().eval(), X, methods=["input-x-gradient", "saliency", "kernel-shap"], target=0, masker="grid:4", budget=40, chunk=3)


def test_every_line_keeps_its_parts(found):
    names = [c.name for c in found.lines]
    assert names == ["input-x-gradient", "saliency", "kernel-shap", "random", "edges", "centre"]
    assert [c.control for c in found.lines] == [False] * 3 + [True] * 3
    assert set(found.metrics) == {"mask-fidelity", "mask-fidelity-elsewhere", "mask-fidelity-beyond", "class-dependence"}
    rows = found.table()
    assert all(len(c.scores["mask-fidelity"]) == len(X) for c in found.lines)
    assert rows[0]["mask-fidelity low"] <= rows[0]["mask-fidelity"] <= rows[0]["mask-fidelity high"]
    assert rows[0]["verdict"] == "supported"
    assert rows[3]["verdict"] != "supported"
    assert not any("total" in k or "overall" in k for k in rows[0])
    assert rows[2]["forward rows a row"] > 10 * rows[0]["forward rows a row"]


def test_the_masks_are_asked_once_whatever_the_number_of_methods(found):
    assert 128 * len(X) <= found.shared.forward_rows <= 132 * len(X)


def test_scores_equal_those_of_an_explanation_alone(found):
    e = pel.explain(Patch().eval(), X[3:4], method="saliency", target=0, ids=[3])
    reading = {r.name: r for r in e.evidence.readings}
    line = next(c for c in found.lines if c.name == "saliency")
    if "128 masks" in reading["mask-fidelity"].sentence:
        assert line.scores["mask-fidelity"][3] == pytest.approx(reading["mask-fidelity"].value, abs=1e-6)
    assert line.scores["class-dependence"][3] == pytest.approx(reading["class-dependence"].value, abs=1e-6)


def test_chunks_do_not_change_the_numbers(found):
    other = pel.compare(Patch().eval(), X, methods=["input-x-gradient", "saliency", "kernel-shap"], target=0, masker="grid:4", budget=40, chunk=7)
    for a, b in zip(found.lines, other.lines, strict=True):
        for m in a.scores:
            assert a.scores[m] == pytest.approx(b.scores[m], abs=0.1 if m == "class-dependence" else 1e-6), (a.name, m)  # ranks of values that are zero but for rounding
    assert torch.allclose(found.agreement, other.agreement, atol=0.01, equal_nan=True)


def test_agreement_is_of_maps_and_the_disputed_rows_are_those_with_least(found):
    assert torch.allclose(found.agreement, found.agreement.T, equal_nan=True)
    assert torch.allclose(found.agreement.diagonal(), torch.ones(6, dtype=torch.float64))
    disputed = found.most_disputed(3)
    assert [d["agreement"] for d in disputed] == sorted(a for a in found.alike)[:3]
    assert [s.name for s in found.shown] == [str(d["row"]) for d in disputed]
    i, j = found.names.index("input-x-gradient"), found.names.index("random")
    assert abs(float(found.agreement[i, j])) < 0.3 < float(found.agreement[i, 2])
    assert any("rank correlation of their maps" in f for f in found.findings())


def test_whole_json_is_strict_and_has_every_number(found, tmp_path):
    d = json.loads(found.save(tmp_path / "c.json").read_text())
    assert d["kind"] == "Comparison"
    assert len(d["lines"][0]["scores"]["mask-fidelity"]) == len(X)
    assert d["rankings"][0]["metric"] == "mask-fidelity"
    assert len(d["agreement"]) == 6
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_stopped_run_goes_on_and_asks_nothing_twice(tmp_path):
    class Stop:
        def __call__(self, step):
            if step.done >= 2:
                raise pel.Cancelled("enough")

    rows = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    asked = {"methods": ["feature-ablation", "kernel-shap"], "target": 1, "budget": 30, "chunk": 2, "metrics": ["mask-fidelity"]}
    whole = Counting()
    reference = pel.compare(whole, rows, **asked)
    first = Counting()
    with pytest.raises(pel.Cancelled):
        pel.compare(first, rows, store=tmp_path / "kept", progress=Stop(), **asked)
    assert len(list((tmp_path / "kept" / "chunks").iterdir())) == 1
    second = Counting()
    resumed = pel.compare(second, rows, store=tmp_path / "kept", **asked)
    assert second.rows < 0.8 * whole.rows
    assert [c.scores for c in resumed.lines] == [c.scores for c in reference.lines]
    third = Counting()
    again = pel.compare(third, rows, store=tmp_path / "kept", **asked)
    assert third.rows <= 0.1 * whole.rows
    assert [c.scores for c in again.lines] == [c.scores for c in reference.lines]
    other = Counting()
    pel.compare(other, rows + 1, store=tmp_path / "kept", **asked)
    assert other.rows >= 0.9 * whole.rows  # other rows are another question: nothing kept is taken for its answer
    fresh = Counting()
    pel.compare(fresh, rows + 1, store=tmp_path / "kept", resume=False, **asked)
    assert fresh.rows >= 0.9 * whole.rows
    assert json.loads((tmp_path / "kept" / "comparison.json").read_text())["kind"] == "Comparison"


def test_memory_is_bounded_by_the_chunk(monkeypatch):
    sizes = []
    inner = _compared_rows.Runner.chunk

    def seen(self, q):
        sizes.append(q.size)
        return inner(self, q)

    monkeypatch.setattr(_compared_rows.Runner, "chunk", seen)

    def stream():
        for k in range(3):
            yield torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(k)), torch.zeros(2)

    c = pel.compare(Counting(), stream(), methods=["feature-ablation"], metrics=["mask-fidelity"], target=0)
    assert sizes == [2, 2, 2]
    assert len(c.ids) == 6


def test_a_method_that_does_not_apply_says_so_and_the_rest_goes_on():
    c = pel.compare(Counting(), torch.randn(3, 8, dtype=torch.float64), methods=["feature-ablation", "grad-cam"], metrics=["mask-fidelity"], target=0)
    line = {r["method"]: r for r in c.table()}
    assert "needs a model that offers" in line["grad-cam"]["note"]
    assert line["feature-ablation"]["mask-fidelity"] is not None
    assert any("grad-cam could not be compared" in f for f in c.findings())
    with pytest.raises(pel.NotApplicable, match="No method could be compared"):
        pel.compare(Counting(), torch.randn(3, 8, dtype=torch.float64), methods=["grad-cam"], target=0)


@pytest.mark.parametrize(("changes", "word"), [
    ({"methods": []}, "at least one method"), ({"methods": ["grad-cm"]}, "Did you mean 'grad-cam'"), ({"metrics": []}, "at least one metric"), ({"metrics": ["mask-fidelty"]}, "Did you mean"),
    ({"methods": ["saliency", "saliency"]}, "there twice"), ({"steps": 3}, "parameter of these methods"), ({"ids": ["a"]}, "one name a row"), ({"chunk": 0}, "chunk of at least 1"),
    ({"groups": ["a"]}, "one name a row"), ({"methods": [3]}, "names of methods or Methods"), ({"metrics": [3]}, "names of metrics or Metrics"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_a_sentence(changes, word):
    with pytest.raises(pel.UsageError, match=word):
        pel.compare(Patch().eval(), X[:2], **{"methods": ["saliency"], "target": 0, **changes})


def test_one_method_with_two_settings_is_two_lines():
    c = pel.compare(Patch().eval(), X[:1], methods=[("integrated-gradients", {"steps": 4}), ("integrated-gradients", {"steps": 8})], target=0, controls=False, metrics=["sparseness"])
    assert [r["method"] for r in c.table()] == ["integrated-gradients (steps 4)", "integrated-gradients (steps 8)"]
    assert c.table()[0]["verdict"] is None
    assert c.rankings == ()


# ---------------------------------------------------------------- tests over rows


def test_ranking_equals_scipy_and_holm():
    from scipy.stats import friedmanchisquare, wilcoxon

    gen = np.random.default_rng(0)
    base = gen.normal(size=20)
    scores = {"a": base + 1, "b": base + gen.normal(size=20) * 0.3, "c": gen.normal(size=20)}
    got = ranking("m", "higher", {k: v.tolist() for k, v in scores.items()}, range(20))
    assert got.p == pytest.approx(friedmanchisquare(*scores.values()).pvalue)
    raw = {("a", "b"): wilcoxon(scores["a"] - scores["b"]).pvalue, ("a", "c"): wilcoxon(scores["a"] - scores["c"]).pvalue, ("b", "c"): wilcoxon(scores["b"] - scores["c"]).pvalue}
    order = sorted(raw.values())
    holm = {order[0]: 3 * order[0], order[1]: max(3 * order[0], 2 * order[1]), order[2]: max(3 * order[0], 2 * order[1], order[2])}
    for p in got.pairs:
        assert p.p == pytest.approx(raw[p.first, p.second])
        assert p.adjusted == pytest.approx(min(1, holm[raw[p.first, p.second]]))
    assert got.best == "a"
    assert got.distance == pytest.approx(2.343 * (3 * 4 / (6 * 20)) ** 0.5, abs=1e-3)  # Demsar 2006, table 5: q = 2.343 for three methods
    assert got.pairs[0].low < got.pairs[0].difference < got.pairs[0].high


def test_lower_is_better_turns_the_order_and_missing_rows_are_left_out():
    scores = {"a": [1.0, 2.0, None, 1.0], "b": [3.0, 4.0, 5.0, 3.0]}
    assert ranking("m", "lower", scores, range(4)).best == "a"
    got = ranking("m", "higher", scores, range(4))
    assert (got.best, got.rows) == ("b", 3)
    assert "at least 6 independent rows" in got.words()


def test_rows_of_one_group_count_once():
    scores = {"a": [1.0] * 12, "b": [0.0] * 12}
    assert ranking("m", "higher", scores, [i // 6 for i in range(12)]).rows == 2
    apart = ranking("m", "higher", scores, range(12))
    assert apart.pairs[0].told
    assert apart.pairs[0].effect == 1.0


def test_chance_alone_is_seldom_told_from_chance():
    gen = np.random.default_rng(1)
    wrong = sum(any(p.told for p in ranking("m", "higher", {k: gen.normal(size=12).tolist() for k in "abcd"}, range(12)).pairs) for _ in range(60))
    assert wrong <= 8


# ---------------------------------------------------------------- what people see


def test_pictures_pages_and_fragments(found, tmp_path):
    for name in ("c.png", "c.svg", "c.html"):
        assert found.save(tmp_path / name).stat().st_size > 2_000
    html = found._repr_html_()
    assert all(c.name in html for c in found.lines)
    assert html.count("<figure") >= 18  # three rows with six maps and the picture
    assert "style=" not in html.split("</style>")[1]  # a page's policy refuses inline styles
    evil = pel.compare(Patch().eval(), X[:2], methods={"<script>alert(1)</script>": "saliency"}, target=0, metrics=["sparseness"], controls=False)
    assert "<script>" not in evil._repr_html_()


def test_axes_take_one_metric(found):
    from matplotlib.figure import Figure

    from pellucid.views.comparison import draw

    ax = Figure().add_subplot()
    assert draw(found, ax, "class-dependence") is ax
    assert len(ax.lines) >= 2 * len(found.methods)


def test_the_command_compares_and_refuses(tmp_path, capsys, monkeypatch):
    from pellucid.cli import main

    (tmp_path / "mymod.py").write_text("import numpy as np\ndef predict(x):\n    x = np.asarray(x)\n    return np.stack([x[:, 0] + x[:, 1], x[:, 2] - x[:, 3], x[:, 4]], 1)\n")
    rows = np.random.default_rng(0).normal(size=(12, 5)).round(3)
    (tmp_path / "data.csv").write_text("a,b,c,d,e\n" + "\n".join(",".join(map(str, r)) for r in rows) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["compare", "data.csv", "--row", "0", "1", "2", "--model", "mymod:predict", "--target", "0", "--methods", "feature-ablation,exact-shapley", "--metrics", "mask-fidelity", "--out", "kept"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line["method"] for line in told["comparison"]["lines"]][:2] == ["feature-ablation", "exact-shapley"]
    assert {"comparison.json", "comparison.html", "comparison.png", "results.json"} <= {p.name for p in (tmp_path / "kept").iterdir()}
    assert main([*words, "--resume"]) == 0
    assert "exact-shapley" in capsys.readouterr().out
    refused = {"--methods feature-abltion": "Did you mean 'feature-ablation'", "--metrics fidelity": "no metric 'fidelity'", "--methods ,": "names with commas", "--set stepz=3": "stepz"}
    for wrong, sentence in refused.items():
        assert main([*words, *wrong.split()]) == 2
        assert sentence in capsys.readouterr().err
