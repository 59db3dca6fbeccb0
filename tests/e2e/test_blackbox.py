"""The front door for black boxes: the real command, as a person types it, on a picture, a text and a row of a table."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_wine

from pellucid import cli
from pellucid.run.store import Store

BOXES = '''
import time
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.datasets import load_diabetes, load_wine
from sklearn.pipeline import make_pipeline

GOOD = ["a good film", "not bad at all", "very good", "great fun", "a great story", "good and great", "not boring at all", "loved it", "such fun", "good acting, great cast"]
BAD = ["a bad film", "not good at all", "very bad", "awful", "an awful story", "bad and boring", "not fun at all", "hated it", "so boring", "bad acting, awful cast"]
pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10)).fit(GOOD + BAD, ["good"] * 10 + ["bad"] * 10)

wine = load_wine()
forest = RandomForestClassifier(10, random_state=0).fit(wine.data, wine.target_names[wine.target])
diabetes = LinearRegression().fit(*load_diabetes(return_X_y=True))


def red(pictures):
    """How red the upper left quarter is."""
    h, w = pictures.shape[1] // 2, pictures.shape[2] // 2
    part = pictures[:, :h, :w].astype(float)
    score = (part[..., 0] - part[..., 1]).mean((1, 2)) / 255
    return [{"red": float(s), "other": float(1 - s)} for s in score]


def linear(rows):
    assert isinstance(rows, np.ndarray) and rows.dtype == float
    return diabetes.predict(rows)


def slow(rows):
    open("asked", "w").close()
    time.sleep(0.05)
    return rows[:, 0]


def shouting(texts):
    print("a model that talks")
    return [[sum(c.isupper() for c in t)] for t in texts]


def nan(rows):
    return np.full(len(rows), np.nan)


def one_too_few(rows):
    return rows[1:]


SEEN = []


def changing(rows):
    SEEN.append(1)
    return np.ones((len(rows), 3 if len(SEEN) < 5 else 2))


def by_name(frame):
    return frame["age"].to_numpy(float) * (frame["city"] == "Oslo").to_numpy()
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with somebody's module, a picture, tables and a text."""
    home = tmp_path_factory.mktemp("home")
    (home / "boxes.py").write_text(BOXES)
    pixels = np.random.default_rng(0).integers(80, 120, (48, 56, 3), dtype=np.uint8)
    pixels[:20, :20] = (250, 20, 20)
    Image.fromarray(pixels).save(home / "photo.png")
    (home / "review.txt").write_text("The cast was great.\nNot bad at all!\n")
    for name, data in (("wine", load_wine()), ("diabetes", load_diabetes())):
        rows = np.column_stack([data.data, data.target])
        with (home / f"{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([[*data.feature_names, "answer"], *rows.tolist()])
    (home / "train.csv").write_text("\n".join((home / "diabetes.csv").read_text().splitlines()[:31]))
    (home / "people.csv").write_text("age;city\n30;Oslo\n40;Rome\n50;Oslo\n60;\n")
    yield home
    sys.modules.pop("boxes", None)


def pellucid(home: Path, *argv: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "pellucid", *argv], capture_output=True, text=True, timeout=timeout, cwd=home, env=env)


def explained(home: Path, *argv: str) -> tuple[dict, object]:
    """What --json prints, and the explanation that was kept."""
    out = home / f"out{abs(hash(argv))}"
    done = pellucid(home, "explain", *argv, "--json", "--out", str(out))
    return _kept(done.returncode, done.stdout, done.stderr, out)


def inside(capsys: pytest.CaptureFixture[str], home: Path, *argv: str) -> tuple[dict, object]:
    """The same in this process."""
    out = home / f"out{abs(hash(argv))}"
    with contextlib.chdir(home):
        code = cli.main(["explain", *argv, "--json", "--out", str(out)])
    return _kept(code, *capsys.readouterr(), out)


def _kept(code: int, printed: str, err: str, out: Path) -> tuple[dict, object]:
    assert code == 0, err
    told = json.loads(printed)
    assert all(Path(p).is_file() for p in (told["report"], told["results"], *told["pictures"]))
    return told, Store.open(out).explanations()[0]


def refused(capsys: pytest.CaptureFixture[str], home: Path, *argv: str) -> str:
    """The one sentence that was said; exit code 2, nothing written. Asked in this process: a second of its own start for each would be all that is measured."""
    out = home / "refused"
    with contextlib.chdir(home):
        code = cli.main(["explain", *argv, "--out", str(out)])
    told, err = capsys.readouterr()
    assert (code, told) == (2, ""), err
    assert not out.exists()
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("pellucid: ")]
    assert len(said) == 1
    return said[0]


def repeated(home: Path, e: object) -> object:
    """The explanation that the report's own Python makes."""
    scope: dict = {}
    with contextlib.chdir(home):
        exec(e.provenance["code"], scope)
    return scope["e"]


def test_a_picture_and_a_function_on_bytes(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    asked = ("--model", "boxes:red", "--method", "permutation-shapley", "--masker", "slic:20", "--budget", "200", "--seed", "3", "--target", "red", "--evidence", "none")
    told, e = inside(capsys, home, "photo.png", *asked)
    heat = e.heat()[0]
    assert heat[:20, :20].sum() / heat.abs().sum() > 0.9
    assert e.gap.abs().max() < 1e-6
    assert e.players.error is not None
    assert told["explanation"]["predictions"][0][0][0] in ("red", "other")
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-5, atol=1e-6)


def test_a_text_and_a_pipeline(home: Path) -> None:
    told, e = explained(home, "not bad at all", "--model", "boxes:pipeline", "--target", "good", "--tol", "0.01")
    assert e.players.names == (("not", "bad", "at", "all"),)
    worth = dict(zip(e.players.names[0], e.players.values[0].tolist(), strict=True))
    assert worth["bad"] < 0 < worth["not"]
    assert told["explanation"]["predictions"][0][0][0] == "good"
    assert any(n.startswith("auto: ") for n in e.provenance["notes"])
    assert e.evidence
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-9, atol=1e-9)


def test_a_text_from_a_file_by_sentences_and_by_occlusion(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    _, e = inside(capsys, home, "@review.txt", "--model", "boxes:pipeline", "--method", "occlusion", "--masker", "sentence", "--evidence", "none")
    assert e.names["sentence"] == ["The cast was great.", "Not bad at all!"]
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-9, atol=1e-9)


def test_one_word_is_a_text_for_a_pipeline_and_with_text(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    _, e = inside(capsys, home, "awful", "--model", "boxes:pipeline", "--method", "occlusion", "--evidence", "none")
    assert e.names["word"] == ["awful"]
    told, _ = inside(capsys, home, "HELP.png ME", "--text", "--model", "boxes:shouting", "--method", "feature-ablation", "--evidence", "none")
    assert told["explanation"]["players"]["names"] == [["HELP.png", "ME"]]


def test_a_row_of_numbers_and_a_function(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """A linear function has Shapley values in closed form: a weight times the distance to the background's mean."""
    from sklearn.linear_model import LinearRegression

    asked = ("--model", "boxes:linear", "--background", "train.csv", "--method", "permutation-shapley", "--budget", "100", "--evidence", "none")
    _, e = inside(capsys, home, "diabetes.csv", "--row", "3", "5", "--drop", "answer", *asked)
    data = load_diabetes()
    weights = LinearRegression().fit(data.data, data.target).coef_
    want = (data.data[[3, 5]] - data.data[:30].mean(0)) * weights
    np.testing.assert_allclose(e.values, want, rtol=1e-6, atol=1e-6)
    assert e.ids == ("diabetes row 3", "diabetes row 5")
    assert e.names["column"] == data.feature_names
    assert any("30 rows: train.csv" in n for n in e.provenance["notes"])
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-9, atol=1e-9)


def test_the_other_rows_stand_in_where_no_background_is_named(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    _, e = inside(capsys, home, "wine.csv", "--row", "60", "--drop", "answer", "--model", "boxes:forest", "--budget", "100", "--evidence", "none")
    assert any("177 rows: the other rows of wine.csv" in n for n in e.provenance["notes"])
    assert e.gap.abs().max() < 1e-6
    assert e.cost.forward_rows > 177
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-9, atol=1e-9)


def test_a_row_with_words_and_gaps(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    pytest.importorskip("pandas")
    _, e = inside(capsys, home, "people.csv", "--row", "0", "--model", "boxes:by_name", "--method", "exact-shapley", "--evidence", "none")
    assert e.players.names == (("age = 30", "city = Oslo"),)
    # v() is the mean over the others: (0, 50, 0); v(age) = 30 / 3, v(city) = 50
    np.testing.assert_allclose(e.values, [[(10 - 50 / 3 + 30 - 50) / 2, (50 - 50 / 3 + 30 - 10) / 2]], rtol=1e-9)
    torch.testing.assert_close(repeated(home, e).values, e.values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("diabetes.csv", "--model", "boxes:linear"), "say which to explain: --row 0"),
        (("diabetes.csv", "--row", "9999", "--model", "boxes:linear"), "from 0 to 441"),
        (("diabetes.csv", "--row", "3", "--model", "boxes:linear"), "expecting 10 features"),
        (("diabetes.csv", "--row", "3", "--drop", "anwser", "--model", "boxes:linear"), "Did you mean 'answer'"),
        (("diabetes.csv", "--row", "3", "--background", "none.csv", "--model", "boxes:linear"), "There is no table 'none.csv'"),
        (("diabetes.csv", "--row", "3", "--background", "people.csv", "--model", "boxes:linear"), "no column in people.csv"),
        (("diabetes.csv", "wine.csv", "--row", "3", "--model", "boxes:linear"), "explains one table"),
        (("diabetes.csv", "photo.png", "--model", "boxes:linear"), "one kind of input"),
        (("photo.png", "--row", "3", "--model", "boxes:red"), "--row goes with a table"),
        (("@none.txt", "--model", "boxes:pipeline"), "There is no text file"),
        (("@photo.png", "--model", "boxes:pipeline"), "not a text in UTF-8"),
        (("  ", "--text", "--model", "boxes:pipeline"), "at least one word"),
        (("wine.csv", "--row", "1", "--model", "boxes:nan"), "gave nan for row 0"),
        (("wine.csv", "--row", "1", "--model", "boxes:one_too_few"), "one row of numbers for each of 1 row"),
        (("wine.csv", "--row", "1", "--model", "boxes:changing", "--batch-size", "10", "--method", "permutation-shapley", "--budget", "100"), "3 numbers a row at first and 2"),
        (("photo.png", "--model", "boxes:red", "--masker", "slick:50", "--method", "lime"), "Did you mean 'slic'"),
        (("photo.png", "--model", "boxes:red", "--budget", "3", "--method", "kernel-shap"), "budget"),
        (("photo.png", "--model", "boxes:red", "--budget", "500", "--method", "occlusion"), "no parameter of occlusion 'budget'"),
        (("photo.png", "--model", "boxes:red", "--budget", "many"), "many"),
        (("photo.png", "--model", "boxes:red", "--method", "saliency"), "offers gradient"),
        (("photo.png", "--model", "boxes:linear", "--takes", "array"), "need a model with preprocessing"),
    ],
)
def test_what_cannot_be_done_gets_one_sentence(capsys: pytest.CaptureFixture[str], home: Path, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence.casefold() in refused(capsys, home, *argv).casefold()


def test_ctrl_c_in_the_middle_of_a_slow_model(home: Path) -> None:
    asked = ("--model", "boxes:slow", "--budget", "100000", "--method", "permutation-shapley", "--batch-size", "8", "--out", "stopped")
    argv, env = [sys.executable, "-m", "pellucid", "explain", "wine.csv", "--row", "1", *asked], {**os.environ, "OMP_NUM_THREADS": "1"}
    work = subprocess.Popen(argv, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    for _ in range(600):
        if (home / "asked").exists():
            break
        time.sleep(0.2)
    assert work.poll() is None, work.communicate()
    work.send_signal(signal.SIGINT)
    out, err = work.communicate(timeout=60)
    assert (work.returncode, out) == (2, "")
    assert "Interrupted; nothing was written." in err
    assert "Traceback" not in err
    assert not (home / "stopped").exists()


def test_progress_is_shown_to_a_person_alone(home: Path) -> None:
    """On a terminal there is a bar; standard output stays JSON alone."""
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    asked = ("--model", "boxes:slow", "--budget", "60", "--method", "permutation-shapley", "--batch-size", "1000", "--evidence", "none", "--json", "--out", "bar")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    work = subprocess.Popen([sys.executable, "-m", "pellucid", "explain", "wine.csv", "--row", "1", "--drop", "answer", *asked], cwd=home, stdout=subprocess.PIPE, stderr=terminal, text=True, env=env)
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):
        while piece := os.read(person, 4096):
            seen += piece
    os.close(person)
    out, _ = work.communicate(timeout=60)
    assert work.returncode == 0, seen
    assert json.loads(out)["explanation"]["method"] == "permutation-shapley"
    assert b"values:" in seen
    assert b"row" in seen


def test_an_endpoint_from_the_command_line(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
            data = json.dumps({"outputs": [{"long": len(t), "short": -len(t)} for t in rows]}).encode()
            self.send_response(200 if self.headers["Authorization"] == "Bearer s3cr3t" else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setenv("MY_TOKEN", "s3cr3t")
    asked = ("not bad at all", "--model", f"http://127.0.0.1:{server.server_port}/predict", "--method", "feature-ablation", "--evidence", "none")
    try:
        ours = ("--endpoint", "send=texts", "token_env=MY_TOKEN", "batch_size=2", "timeout=20")
        _, e = inside(capsys, home, *asked, *ours, "--target", "long")
        np.testing.assert_allclose(e.values, [[4, 4, 3, 4]])
        assert "s3cr3t" not in json.dumps(e.to_dict(), default=str)
        torch.testing.assert_close(repeated(home, e).values, e.values)
        assert "answered 401" in refused(capsys, home, *asked, "--endpoint", "send=texts")
        assert "may be asked 2 times" in refused(capsys, home, *asked, *ours, "max_calls=2")
        assert "Did you mean 'timeout'" in refused(capsys, home, *asked, "--endpoint", "time_out=3")
        assert "--endpoint goes with" in refused(capsys, home, "not bad", "--model", "boxes:pipeline", "--endpoint", "timeout=3")
    finally:
        server.shutdown()
        server.server_close()


def test_a_row_and_an_onnx_file(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.arange(10, dtype=np.float32)[:, None] - 4
    x, y = (h.make_tensor_value_info(k, kind, ["n", n]) for k, n in (("x", 10), ("y", 1)))
    graph = h.make_graph([h.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), home / "linear.onnx")
    _, e = inside(capsys, home, "diabetes.csv", "--row", "7", "--drop", "answer", "--model", "linear.onnx", "--method", "feature-ablation", "--background", "train.csv", "--evidence", "none")
    data = load_diabetes().data
    np.testing.assert_allclose(e.values[0], (data[7] - data[:30].mean(0)) * weights[:, 0], atol=1e-5)
    torch.testing.assert_close(repeated(home, e).values, e.values)
    assert "There is no model file" in refused(capsys, home, "diabetes.csv", "--row", "7", "--model", "none.onnx")
