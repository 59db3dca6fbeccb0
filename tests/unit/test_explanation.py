"""Explanations: read by axis, shown, kept, and compared with what was asked."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from models import Residual, Reused, TwoInputs, made, normal
from pellucid.attribution import GradCAM, IntegratedGradients, Occlusion, Saliency, SmoothGrad
from pellucid.backends import wrap
from pellucid.core.errors import NotApplicable, UsageError
from pellucid.core.explanation import Cost, Evidence, Explanation, Reading
from pellucid.core.procedure import Metric, Scores
from pellucid.core.question import ask
from pellucid.run.explain import explain

X = normal(3, 5)
PICTURES = normal(3, 2, 6, 6)


@pytest.fixture
def e():
    return Saliency(absolute=False)(ask(wrap(made(Residual)), PICTURES, [0, 1, 2], batch_size=8, seed=7, ids=("a", "b", "c")))


def test_what_it_records(e):
    net = made(Residual)
    assert (e.method, e.parameters, e.at, e.baseline, e.seed, e.ids) == ("saliency", {"absolute": False}, None, "none", 7, ("a", "b", "c"))
    assert e.target == ("0", "1", "2")
    assert e.axes == ("row", "channel", "height", "width")
    assert len(e) == 3
    torch.testing.assert_close(e.total, net(PICTURES).detach().diagonal())
    assert {"pellucid", "torch", "python", "device", "threads", "model", "model_hash", "input_hash", "notes", "created"} <= set(e.provenance)
    assert e.provenance["model_hash"] == wrap(net).digest()
    other = Saliency()(ask(wrap(net), PICTURES + 1, 0))
    assert other.provenance["input_hash"] != e.provenance["input_hash"]
    for row, p in zip(e.predictions, net(PICTURES).softmax(1), strict=True):
        assert [n for n, _ in row] == [f"class {int(i)}" for i in p.argsort(descending=True)]


def test_by_axis_and_as_a_map(e):
    torch.testing.assert_close(e.by("channel"), e.values.sum((2, 3)))
    torch.testing.assert_close(e.by("height"), e.values.sum((1, 3)))
    torch.testing.assert_close(e.heat(), e.values.sum(1))
    with pytest.raises(UsageError, match="row, channel, height, width; got 'word'"):
        e.by("word")
    columns = Saliency()(ask(wrap(made(Reused)), X, 1))
    torch.testing.assert_close(columns.by("column"), columns.values)
    assert not columns.has_map
    with pytest.raises(NotApplicable, match="heat map"):
        columns.heat()
    two = Saliency()(ask(wrap(made(TwoInputs)), (normal(3, 4), normal(3, 3)), 1))
    with pytest.raises(NotApplicable, match="several"):
        two.by("column")


def test_repr_is_one_line(e):
    assert repr(e) == "Explanation(saliency, 0, 1, 2, values (3, 2, 6, 6))"


def test_pictures_are_there_as_people_see_them():
    grey = made(lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(32, 3)))
    e = Saliency()(ask(wrap(grey), normal(2, 1, 6, 6), 0))
    assert e.picture.shape == (2, 6, 6, 3)
    assert e.picture.dtype == torch.uint8
    assert e.picture.flatten(1).amax(1).tolist() == [255, 255]


def test_signs():
    q = ask(wrap(made(Residual)), PICTURES, 1)
    signed = {"saliency": Saliency(absolute=False), "cam": GradCAM(relu=False), "ig": IntegratedGradients(steps=2), "occlusion": Occlusion(), "smooth": SmoothGrad(samples=2)}
    unsigned = {"saliency": Saliency(), "cam": GradCAM(), "smooth": SmoothGrad(samples=2, method=Saliency())}
    assert all(m(q).signed for m in signed.values())
    assert not any(m(q).signed for m in unsigned.values())


def test_evidence_is_kept(e, tmp_path):
    reading = Reading("x", "X", 0.5, (0.5, None, 1.0), "share", "good", "It holds.", "What it means.", Cost(3, 0, 0.1, 3, "3"), {"x": [0.0, 1.0], "y": [1.0, 0.5], "xlabel": "a", "ylabel": "b"})
    kept = e.with_(evidence=Evidence("supported", ("because",), (reading,), "basic", ("supported",) * 3))
    for name in ("e.json", "e.safetensors"):
        assert Explanation.load(kept.save(tmp_path / name)).evidence == kept.evidence
    assert "It holds." in kept.evidence.table()
    assert "not the model against the world" in kept.evidence.table()
    assert "supported" in repr(kept)


def test_it_holds_json_that_json_can_read(e):
    assert json.loads(json.dumps(e.to_dict())) == json.loads(json.dumps(e.to_dict()))
    back = Explanation.from_parts(json.loads(json.dumps(e.to_dict())), e.tensors())
    assert torch.equal(back.values, e.values)


@pytest.mark.parametrize("method", [Occlusion(window=(2, 3), stride=(1, 2)), SmoothGrad(samples=2, method="occlusion")], ids=lambda m: m.name)
def test_parameters_come_back(method, tmp_path):
    e = method(ask(wrap(made(Residual)), PICTURES, 1, batch_size=32))
    back = Explanation.load(e.save(tmp_path / "e.json"))
    assert type(method)(**{k: tuple(v) if isinstance(v, list) else v for k, v in back.parameters.items()}) == method


def test_files_that_are_refused(e, tmp_path):
    with pytest.raises(UsageError, match=r"e\.doc"):
        e.save(tmp_path / "e.doc")
    with pytest.raises(UsageError, match="folder"):
        e.save(tmp_path / "nowhere" / "e.json")
    with pytest.raises(UsageError, match="no file"):
        Explanation.load(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="knows"):
        Explanation.load(tmp_path / "e.txt") if (tmp_path / "e.txt").write_text("x") else None
    (tmp_path / "plain.json").write_text("{}")
    with pytest.raises(UsageError, match="no explanation"):
        Explanation.load(tmp_path / "plain.json")
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="no explanation"):
        Explanation.load(tmp_path / "w.safetensors")
    newer = {**e.to_dict(), "format": 99}
    with pytest.raises(UsageError, match="99"):
        Explanation.from_parts(newer, e.tensors())


@pytest.mark.parametrize("name", ["broken.json", "broken.safetensors"])
def test_broken_files_say_so(name, tmp_path):
    (tmp_path / name).write_bytes(b'{"format": 1, "cut')
    with pytest.raises(UsageError, match="broken"):
        Explanation.load(tmp_path / name)


def test_a_half_written_file_is_never_left(e, tmp_path, monkeypatch):
    """What fails in the middle of writing leaves the old file whole and nothing beside it."""
    path = e.save(tmp_path / "e.json")
    whole = path.read_bytes()

    def full(self, *a, **k):
        path.with_name(self.name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UsageError, match="No space left"):
        e.save(path)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_need_a_live_question(e, tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mean(Metric):
        """A metric for this test."""

        def score(self, e):
            return Scores(e.values.flatten(1).mean(1))

    torch.testing.assert_close(Mean()(e).values, e.values.flatten(1).mean(1))
    with pytest.raises(NotApplicable, match="no live question"):
        Mean()(Explanation.load(e.save(tmp_path / "e.json")))


# ---------------------------------------------------------------- pel.explain


def test_explain_is_the_method_asked():
    net = made(Residual)
    e = explain(net, PICTURES, method="integrated-gradients", target=1, at="a", baseline=0.5, evidence="none", steps=3, seed=2, batch_size=4, ids="abc")
    want = IntegratedGradients(steps=3)(ask(wrap(net), PICTURES, 1, "a", 0.5, batch_size=4))
    assert torch.equal(e.values, want.values)
    assert (e.at, e.baseline, e.seed, e.parameters["steps"], e.ids) == ("a", "0.5", 2, 3, ("a", "b", "c"))
    assert torch.equal(explain(net, PICTURES, method=IntegratedGradients(steps=3), target=1, at="a", baseline=0.5, evidence="none", batch_size=4).values, want.values)


def test_auto_says_why():
    e = explain(made(Residual), PICTURES, target=1, evidence="none")
    assert e.method in ("integrated-gradients", "occlusion")
    assert e.provenance["notes"]
    f = explain(wrap(lambda x: x * 2), X, target=1, evidence="none")
    assert f.method == "shapley"
    assert "auto: shapley, since the model gives values only" in f.provenance["notes"][0]
    g = explain(made(Reused), X, target=1, evidence="none", budget=100)
    assert g.method == "shapley"
    assert "the parameters are those of a game" in g.provenance["notes"][0]


def test_progress_of_explain():
    seen = []
    explain(made(Reused), X, method="saliency", target=1, evidence="none", progress=seen.append)
    assert seen


EXPLAIN = [
    ({"method": "saliancy"}, "'saliency'"), ({"method": 3}, "int"), ({"evidence": "much"}, "basic"), ({"method": "saliency", "steps": 3}, "steps"),
    ({"method": Saliency(), "absolute": False}, "into the method"),
]


@pytest.mark.parametrize(("asked", "says"), EXPLAIN, ids=lambda a: str(a))
def test_what_explain_refuses(asked, says):
    with pytest.raises(UsageError, match=says):
        explain(made(Reused), X, target=1, **{"evidence": "none", **asked})
