"""An endpoint over HTTP, asked for real: one that is well, one that is slow, one that answers garbage, one that recovers."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

import pellucid as pel
from pellucid.attribution import Occlusion
from pellucid.backends import load
from pellucid.core.errors import CannotComplete, ModelError, UsageError
from pellucid.core.question import ask

W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.5, 0.25]])
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])


class Server:
    """A predict endpoint in a thread; `behave(handler, rows)` may answer in place of the model."""

    def __init__(self):
        self.seen, self.tokens, self.behave = [], [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(body)
                outer.tokens.append(self.headers.get("Authorization"))
                if outer.behave is None or not outer.behave(self, body):
                    self.answer({"outputs": (np.array(body["inputs"]) @ W).tolist()})

            def answer(self, value, code=200, **headers):
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(code)
                for k, v in headers.items():
                    self.send_header(k.replace("_", "-"), v)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/predict"
        threading.Thread(target=self.http.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def quick(server, **settings):
    return load(server.url, **{"backoff": 0.01, "timeout": 5} | settings)


def test_values_are_the_models_and_rows_go_in_batches(server):
    model = quick(server, batch_size=4)
    e = Occlusion()(ask(model, X, 1))
    np.testing.assert_allclose(e.values, X * W[:, 1], rtol=1e-12)
    sizes = [len(b["inputs"]) for b in server.seen]
    assert max(sizes) == 4
    assert sum(sizes) == e.cost.forward_rows == 2 * (1 + 3)
    assert model.name == server.url
    assert model.function.calls == len(sizes) == 3  # two rows, then four and two
    assert e.provenance["spec"] == server.url


@pytest.mark.parametrize(
    ("send", "read", "wrap", "dig"),
    [
        ("instances", "predictions", lambda r: {"predictions": r}, lambda b: b["instances"]),
        ("", "", lambda r: r, lambda b: b),
        ("data.rows", "a.b", lambda r: {"a": {"b": r}}, lambda b: b["data"]["rows"]),
    ],
)
def test_the_names_around_the_rows(server, send, read, wrap, dig):
    server.behave = lambda h, b: h.answer(wrap((np.array(dig(b)) @ W).tolist())) or True
    np.testing.assert_allclose(ask(quick(server, send=send, read=read), X, 0).target_values(), (X @ W)[:, 0])


def test_texts_and_labels(server):
    server.behave = lambda h, b: h.answer({"outputs": [[{"label": "long", "score": len(t) / 100}, {"label": "short", "score": 1 - len(t) / 100}] for t in b["inputs"]]}) or True
    e = pel.explain(quick(server), "not bad at all", method="feature-ablation", target="long", evidence="none")
    assert e.players.names == (("not", "bad", "at", "all"),)
    np.testing.assert_allclose(e.values, [[0.04, 0.04, 0.03, 0.04]], atol=1e-9)


def test_tables_and_pictures(server):
    pandas = pytest.importorskip("pandas")
    server.behave = lambda h, b: h.answer({"outputs": [r["age"] * (r["city"] == "Oslo") for r in b["inputs"]]}) or True
    table = pandas.DataFrame({"age": [30, 40], "city": ["Oslo", None]})
    np.testing.assert_allclose(Occlusion()(ask(quick(server), table.iloc[[0]], baseline=table.iloc[[1]])).values, [[-10, 30]])
    assert server.seen[-1]["inputs"]
    server.behave = lambda h, b: h.answer({"outputs": np.array(b["inputs"])[:, 1, 1, 0].tolist()}) or True
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert ask(quick(server), picture).target_values().tolist() == [12]


def test_what_passes_is_asked_again(server):
    turn = iter(["busy", "cut", "garbled", "well"])

    def behave(h, body):
        now = next(turn, "well")
        if now == "busy":
            h.answer(b"later", 503)
        elif now == "cut":
            h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            h.connection.shutdown(socket.SHUT_RDWR)
        elif now == "garbled":
            h.wfile.write(b"not http at all\r\n\r\n")
            h.connection.shutdown(socket.SHUT_RDWR)
        return now != "well"

    server.behave = behave
    model = quick(server)
    np.testing.assert_allclose(ask(model, X, 0).target_values(), (X @ W)[:, 0])
    assert model.function.calls == 4


def test_a_server_that_says_how_long_to_wait_is_obeyed(server):
    turn = iter([True])
    server.behave = lambda h, b: next(turn, False) and (h.answer(b"", 429, Retry_After="1") or True)
    started = time.monotonic()
    ask(quick(server), X, 0).target_values()
    assert time.monotonic() - started >= 1


def slow(h, body):
    time.sleep(1.0)
    return True


def drips(h, body):
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(20):
        time.sleep(0.1)
        try:
            h.wfile.write(b" ")
            h.wfile.flush()
        except OSError:
            break
    return True


@pytest.mark.parametrize(
    ("behave", "error", "sentence"),
    [
        (slow, CannotComplete, "gave no answer within 0.3 seconds, 2 times in a row"),
        (drips, CannotComplete, "gave no answer within 0.3 seconds, 2 times in a row"),
        (lambda h, b: h.answer(b"<html>hello</html>") or True, ModelError, "needs to answer in JSON; it answered '<html>hello</html>'"),
        (lambda h, b: h.answer(b"\xff\xfe\x00") or True, ModelError, "needs to answer in JSON"),
        (lambda h, b: h.answer(b"[" * 100_000) or True, ModelError, "needs to answer in JSON"),
        (lambda h, b: h.answer({"outputs": [[1.0, 2.0]]}) or True, ModelError, "one answer for each of 2 rows; it gave 1"),
        (lambda h, b: h.answer({"outputs": {"a": 1}}) or True, ModelError, "it gave a dict"),
        (lambda h, b: h.answer({"results": []}) or True, ModelError, "needs to answer with 'outputs'; it answered with 'results'"),
        (lambda h, b: h.answer([[1.0], [2.0]]) or True, ModelError, "it answered with a list"),
        (lambda h, b: h.answer({"outputs": [[1.0], [1.0, 2.0]]}) or True, ModelError, "lists of different lengths"),
        (lambda h, b: h.answer({"outputs": ["cat", "dog"]}) or True, ModelError, "it gave words"),
        (lambda h, b: h.answer({"outputs": [[float("nan")], [1.0]]}) or True, CannotComplete, "gave nan for row 0"),
        (lambda h, b: h.answer(b'{"detail": "rows need 4 columns"}', 422) or True, ModelError, "answered 422 .*rows need 4 columns"),
        (lambda h, b: h.answer(b"", 404) or True, ModelError, "answered 404 Not Found"),
        (lambda h, b: h.answer(b"oh no", 500) or True, CannotComplete, r"answered 500 Internal Server Error \(oh no\), 2 times in a row"),
        (lambda h, b: h.answer(b"", 307, Location="http://user:secret@elsewhere.example/x?key=secret") or True, ModelError, "on to http://elsewhere.example/x, where Pellucid does not follow"),
        (lambda h, b: h.answer(b"", 302, Location="/other") or True, ModelError, "where Pellucid does not follow"),
    ],
)
def test_what_does_not_pass_gets_one_sentence(server, behave, error, sentence):
    server.behave = behave
    with pytest.raises(error, match=sentence) as told:
        ask(quick(server, timeout=0.3, retries=1), X).target_values()
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_nobody_there():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/predict"
    with pytest.raises(CannotComplete, match=r"could not be reached: .*refused, 3 times in a row"):
        ask(load(url, retries=2, backoff=0.01), X).target_values()


def test_a_budget_that_is_spent_loses_nothing(server):
    model = quick(server, batch_size=2, max_calls=3)
    with pytest.raises(CannotComplete, match=r"may be asked 3 times \(max_calls\), and was"):
        Occlusion()(ask(model, X, 1))
    assert len(server.seen) == 3
    asked = [tuple(r) for b in server.seen for r in b["inputs"]]
    object.__setattr__(model.function, "max_calls", 100)
    e = Occlusion()(ask(model, X, 1))
    np.testing.assert_allclose(e.values, X * W[:, 1], rtol=1e-12)
    every = [tuple(r) for b in server.seen for r in b["inputs"]]
    assert len(every) == len(set(every)) == 8
    assert every[: len(asked)] == asked


def test_a_token_is_sent_and_kept_nowhere(server, monkeypatch, capsys, caplog):
    monkeypatch.setenv("A_TOKEN", "s3cr3t-t0ken")
    model = quick(server, token_env="A_TOKEN")
    e = Occlusion()(ask(model, X, 1))
    assert set(server.tokens) == {"Bearer s3cr3t-t0ken"}
    kept = repr(model) + repr(model.function) + json.dumps(e.to_dict(), default=str) + caplog.text + "".join(capsys.readouterr())
    assert "s3cr3t" not in kept
    server.behave = lambda h, b: h.answer(json.dumps({"sent": h.headers["Authorization"]}).encode(), 403) or True
    with pytest.raises(ModelError, match="answered 403") as told:
        ask(quick(server, token_env="A_TOKEN"), X).target_values()
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "settings", "sentence"),
    [
        ("http://", {}, "needs an address"),
        ("https://me:secret@host.example/x", {}, "holds no password"),
        ("https://host.example/x", {"token_env": "NOT_THERE"}, "'NOT_THERE' needs to hold the token"),
        ("https://host.example/x", {"token_env": "BAD_TOKEN"}, "plain characters"),
        ("http://host.example/x", {"token_env": "A_TOKEN"}, "over https alone"),
        ("http://host.example/x", {"batch_size": 0}, "batch_size of at least 1"),
        ("http://host.example/x", {"timeout": float("inf")}, "timeout"),
        ("http://host.example/x", {"weights": "w.safetensors"}, "brings its own weights"),
    ],
)
def test_addresses_that_are_refused_before_anything_is_sent(url, settings, sentence, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    monkeypatch.setenv("BAD_TOKEN", "s3cr3t\r\nHost: elsewhere")
    with pytest.raises(UsageError, match=sentence) as told:
        load(url, **settings)
    assert "s3cr3t" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_query_is_sent_and_not_shown(server):
    model = load(server.url + "?version=2&key=secret", backoff=0.01)
    assert "secret" not in repr(model) + model.spec + model.name
    assert torch.isfinite(ask(model, X, 0).target_values()).all()
