"""ONNX Runtime sessions: hand-built graphs whose answers are known."""

import numpy as np
import pytest
import torch

from pellucid.attribution import Occlusion
from pellucid.backends import load, wrap
from pellucid.core.errors import ModelError, NotApplicable, UsageError
from pellucid.core.question import ask
from pellucid.modalities.image import ImagePreprocess

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
h = pytest.importorskip("onnx.helper")
F, D, LONG = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64

RNG = np.random.default_rng(0)
W = RNG.normal(size=(5, 3)).astype(np.float32)
X = RNG.normal(size=(4, 5)).astype(np.float32)


def value(name, kind, shape):
    return h.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs, **weights):
    tensors = [onnx.numpy_helper.from_array(w, k) for k, w in weights.items()]
    model = h.make_model(h.make_graph(nodes, "g", inputs, outputs, tensors), opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def linear(rows="n", kind=F, also=False):
    w = W.astype(np.float64) if kind == D else W
    outs = [value("once", kind, [rows, 3])] + ([value("twice", kind, [rows, 3])] if also else [])
    nodes = [h.make_node("MatMul", ["x", "w"], ["once"])] + ([h.make_node("Add", ["once", "once"], ["twice"])] if also else [])
    return graph(nodes, [value("x", kind, [rows, 5])], outs, w=w)


def session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture
def file(tmp_path):
    onnx.save(linear(), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_a_file_and_a_session(file):
    model = load(str(file))
    assert (model.name, model.spec, model.dtype) == ("small", str(file), torch.float32)
    e = Occlusion()(ask(model, X, 1))
    np.testing.assert_allclose(e.values, X * W[:, 1], atol=1e-5)
    same = Occlusion()(ask(wrap(session(linear()), labels=("a", "b", "c")), X.astype(np.float64), "b"))
    torch.testing.assert_close(same.values, e.values)
    assert e.values.abs().max() > 0.1


def test_the_graphs_own_precision():
    double = X.astype(np.float64)
    e = Occlusion()(ask(wrap(session(linear(kind=D))), double, 1))
    assert e.values.dtype == torch.float64
    np.testing.assert_allclose(e.values, double * W[:, 1], rtol=1e-6, atol=1e-12)
    whole = ask(wrap(session(linear())), np.arange(20).reshape(4, 5), 1)
    np.testing.assert_allclose(whole.target_values(), (np.arange(20).reshape(4, 5) @ W)[:, 1], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_graph_of_fixed_rows_is_filled_up(rows, size):
    e = Occlusion()(ask(wrap(session(linear(rows))), X, 1, batch_size=size))
    np.testing.assert_allclose(e.values, X * W[:, 1], atol=1e-5)


def test_several_outputs_are_chosen_by_name_or_number():
    s = session(linear(also=True))
    np.testing.assert_allclose(ask(wrap(s, output="twice"), X, 1).target_values(), 2 * (X @ W)[:, 1], rtol=1e-4)
    np.testing.assert_allclose(ask(wrap(s, output=0), X, 1).target_values(), (X @ W)[:, 1], rtol=1e-4)
    with pytest.raises(ModelError, match=r"with 2 \(once, twice\)"):
        ask(wrap(s), X, 1).target_values()
    with pytest.raises(UsageError, match="one of the model's outputs, once, twice"):
        wrap(s, output="thrice")


def test_several_inputs_by_order_and_by_name():
    model = graph(
        [h.make_node("Gather", ["table", "ids"], ["e"]), h.make_node("Add", ["e", "x"], ["y"])], [value("ids", LONG, ["n"]), value("x", F, ["n", 3])], [value("y", F, ["n", 3])], table=W
    )
    ids, x = torch.tensor([0, 2, 4]), torch.from_numpy(RNG.normal(size=(3, 3)).astype(np.float32))
    want = (W[ids.numpy()] + x.numpy())[:, 1]
    for given in ((ids, x), {"x": x, "ids": ids}):
        q = ask(wrap(session(model)), given, 1)
        np.testing.assert_allclose(q.target_values(), want, rtol=1e-5)
        np.testing.assert_allclose(Occlusion()(q).values[:, 1], x[:, 1], rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="takes 2 inputs, ids, x; got 1"):
        ask(wrap(session(model)), x)
    with pytest.raises(ModelError, match="no input 'y'"):
        ask(wrap(session(model)), {"ids": ids, "y": x}).target_values()


def test_a_picture(tmp_path):
    """The mean red of a picture of 8 x 8."""
    model = graph([h.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], [value("x", F, ["n", 3, 8, 8])], [value("y", F, ["n", 3])])
    onnx.save(model, tmp_path / "mean.onnx")
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 255
    e = Occlusion(window=4, stride=4)(ask(load(str(tmp_path / "mean.onnx"), preprocess=ImagePreprocess(8, 0.0, 1.0), labels=["red", "green", "blue"]), red, "red"))
    torch.testing.assert_close(e.total, torch.ones(1))
    torch.testing.assert_close(e.values, torch.full((1, 3, 8, 8), 0.25))


def test_what_cannot_be_run_gets_one_sentence(tmp_path, file):
    (tmp_path / "bad.onnx").write_bytes(b"not a graph at all")
    with pytest.raises(UsageError, match=r"bad\.onnx cannot be read as an ONNX model"):
        load(str(tmp_path / "bad.onnx"))
    with pytest.raises(UsageError, match="There is no model file"):
        load(str(tmp_path / "none.onnx"))
    with pytest.raises(UsageError, match="brings its own weights"):
        load(str(file), weights="w.safetensors")
    with pytest.raises(ModelError, match=r"could not be run by ONNX Runtime on x \(4, 4\) float32") as told:
        ask(load(str(file)), X[:, :4]).target_values()
    assert "\n" not in str(told.value)
    with pytest.raises(NotApplicable, match="gradient"):
        ask(load(str(file)), X, 1).grad()
    words = graph([h.make_node("Identity", ["x"], ["y"])], [value("x", onnx.TensorProto.STRING, ["n"])], [value("y", onnx.TensorProto.STRING, ["n"])])
    with pytest.raises(ModelError, match=r"takes tensor\(string\)"):
        ask(wrap(session(words)), X).target_values()


def test_without_the_package_the_extra_is_named(file, monkeypatch):
    import importlib

    real = importlib.import_module

    def missing(name, *rest):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'pellucid\[onnx\]'"):
        load(str(file))
