"""The command line without a model: help that teaches, names that are offered, sentences and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid import cli
from pellucid.cli import doctor, exits, explain, inputs, listing, parser, words
from pellucid.core.catalogue import entries
from pellucid.core.errors import CannotComplete, UsageError
from pellucid.run.store import Store
from unit.explanations import photo

LIGHT = """
import sys
from pellucid.cli import main
main(sys.argv[1:])
heavy = {"torch", "numpy", "matplotlib", "rich", "PIL", "jinja2"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("argv", [["--help"], ["explain", "--help"], ["list", "--help"], ["show", "--help"], ["doctor", "--help"]])
def test_help_teaches(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, err) == (0, "")
    assert "usage: pellucid" in out
    if argv[0] in ("--help", "explain"):
        assert "examples:" in out
        assert "efficientnet-lite0" in out


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["list", "methods"], ["list", "models"], ["show", "integrated-gradients"], ["explain"], ["explain", "--help"]])
def test_nobody_waits_for_torch(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, *argv], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "required: COMMAND"),
        (["explan"], "Did you mean 'explain'?"),
        (["list", "method"], "Did you mean 'methods'?"),
        (["show", "integratd-gradients"], "Did you mean 'integrated-gradients'"),
        (["explain", "x.png"], "required: --model"),
        (["explain", "x.png", "--modl", "m"], "Did you mean '--model'?"),
        (["explain", "x.png", "--model", "m", "--method", "grad-cm"], "Did you mean 'grad-cam' or 'x-grad-cam'"),
        (["explain", "x.png", "--model", "m", "--method", "integrated-gradients", "--set", "stps=5"], "Did you mean 'steps'"),
        (["explain", "x.png", "--model", "m", "--method", "integrated-gradients", "--set", "steps"], "needs name=value; got 'steps'"),
        (["explain", "x.png", "--model", "m", "--set", "steps=5"], "no --method"),
        (["explain", "x.png", "--model", "m", "--against", "3"], "--against needs --target"),
        (["explain", "x.png", "--model", "m", "--evidence", "lots"], "It takes none, basic, full"),
        (["explain", "x.png", "--model", "m", "--evidence", "none", "--gate", "supported"], "--gate needs evidence"),
        (["explain", "x.png", "--model", "m", "--seed", "often"], "invalid int value: 'often'"),
        (["explain", "x.png", "--model", "m", "--out", __file__], "is a file"),
        (["explain", "x.png", "--model", "m", "--out", f"{__file__}/below"], "cannot be written"),
        (["doctor", "no-such-package"], "adds nothing to the catalogue"),
    ],
)
def test_a_wrong_word_gets_one_sentence_and_2(capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("pellucid: ")
    assert err.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from pellucid import __version__

    assert run(capsys, "--version") == (0, f"pellucid {__version__}\n", "")


@pytest.mark.parametrize("kind", ["methods", "metrics", "models"])
def test_lists_are_complete_and_json_is_json(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    code, out, _ = run(capsys, "list", kind)
    told = json.loads(run(capsys, "list", kind, "--json")[1])
    assert code == 0
    assert [row["name"] for row in told] == [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    if kind != "models":
        assert {row["name"] for row in told} == set(entries(kind))


def test_the_models_listed_are_those_that_load_knows() -> None:
    from pellucid.backends.load import BUILT_IN

    assert [m["name"] for m in listing.models()] == list(BUILT_IN)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in ("methods", "metrics") for name in entries(kind)])
def test_every_procedure_can_be_shown(capsys: pytest.CaptureFixture[str], kind: str, name: str) -> None:
    code, out, _ = run(capsys, "show", name)
    entry = entries(kind)[name]
    assert code == 0
    assert entry.card.title in out
    assert all(f.name in out for f in entry.fields)
    assert json.loads(run(capsys, "show", name, "--json")[1])["class"] == f"{entry.module}.{entry.cls}"


def test_showing_says_when_a_method_misleads(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Misleads when:" in run(capsys, "show", "integrated-gradients")[1]
    assert "EfficientNet" in run(capsys, "show", "efficientnet-lite0")[1]


def test_values_on_the_command_line_have_their_types() -> None:
    given = words.parameters(["steps=50", "tol=0.1", "rule=midpoint", "absolute=false", "window=(2, 3)", "note=a=b"])
    assert given == {"steps": 50, "tol": 0.1, "rule": "midpoint", "absolute": False, "window": (2, 3), "note": "a=b"}
    args = parser.parse(["explain", "a.png", "--model", "m", "--target", "-1", "--baseline", "0.5", "--set", "a=1", "b=2", "--set", "c=3", "--batch-size", "4"])
    assert (args.target, args.baseline, args.parameters, args.batch_size) == (-1, 0.5, ["a=1", "b=2", "c=3"], 4)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UsageError("Do this."), 2, "pellucid: Do this.\n"), (CannotComplete("NaN."), 2, "pellucid: NaN.\n"), (KeyboardInterrupt(), 2, "Interrupted; nothing was written."),
        (MemoryError(), 2, "not enough memory"), (ZeroDivisionError("ours"), 2, "fault of Pellucid's"), (SystemExit(0), 0, ""), (SystemExit(None), 0, ""), (SystemExit("no"), 2, ""),
    ],
)  # fmt: skip
def test_what_goes_wrong_becomes_a_code_that_is_not_1(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str) -> None:
    caught = exits.Exits()
    with caught:
        raise error
    assert caught.code == code
    out, err = capsys.readouterr()
    assert (sentence in err, out) == (True, "")


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    def answer(args: Any, asked: Any) -> Any:
        print("a model that talks")
        return photo(**changes), inputs.pictures(args)

    monkeypatch.setattr(explain, "_explain", answer)


def test_explaining_leaves_a_picture_a_report_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    out = tmp_path / "why"
    code, told, err = run(capsys, "explain", "sample:photo0", "--model", "m", "--out", str(out))
    assert code == 0
    assert all(word in told for word in ("Integrated gradients of espresso (967)", "Supported", "70.0 %", str(out / "report.html"), str(out / "photo0.png")))
    assert "a model that talks" in err
    assert sorted(os.listdir(out)) == ["photo0.png", "photo0.safetensors", "report.html", "results.json", "store.json"]
    kept = Store.open(out).explanations()[0]
    assert kept.provenance["command"] == f"pellucid explain sample:photo0 --model m --out {out}"
    compile(kept.provenance["code"], "code", "exec")
    assert run(capsys, "explain", "sample:photo0", "--model", "m", "--out", str(out))[0] == 0


def test_json_stands_alone_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    code, out, _ = run(capsys, "explain", "sample:photo0", "--model", "m", "--out", str(tmp_path), "--json")
    told = json.loads(out)
    assert code == 0
    assert told["verdict"] == "supported"
    assert told["explanation"]["predictions"][0][0] == ["espresso", 0.7]
    assert all(Path(told[k]).is_file() for k in ("report", "results"))


@pytest.mark.parametrize(
    ("gate", "verdict", "code"),
    [("supported", "supported", 0), ("supported", "doubtful", 1), ("supported", "contradicted", 1), ("doubtful", "doubtful", 0), ("doubtful", "contradicted", 1)],
)
def test_a_gate_that_fails_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gate: str, verdict: str, code: int) -> None:
    from unit.explanations import evidence

    pretend(monkeypatch, evidence=evidence(verdict, 1))
    got, _, err = run(capsys, "explain", "sample:photo0", "--model", "m", "--out", str(tmp_path), "--gate", gate)
    assert got == code
    assert (f"this explanation is {verdict}" in err) == bool(code)


def test_interrupted_while_writing_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.report.write.add_report", stop)
    code, out, err = run(capsys, "explain", "sample:photo0", "--model", "m", "--out", str(tmp_path / "why"))
    assert (code, out) == (2, "")
    assert "Interrupted; nothing was written." in err
    assert list(tmp_path.iterdir()) == []


def test_the_python_that_repeats_it_says_what_was_asked() -> None:
    args = parser.parse(["explain", "a.png", "--model", "p:f", "--weights", "w.safetensors", "--target", "cat", "--against", "3", "--batch-size", "1,4*2", "--at", "fc", "--fold"])
    text = explain.code(args, photo(), inputs.pictures(args), {"steps": 8})
    compile(text, "code", "exec")
    for part in ("pel.load('p:f', weights='w.safetensors', fold=True)", "pel.Contrast('cat', 3)", "pel.Plan.parse('1,4*2')", "at='fc'", "steps=8"):
        assert part in text


def test_python_m_pellucid() -> None:
    done = subprocess.run([sys.executable, "-m", "pellucid", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "pellucid", "")


def test_two_inputs_of_one_name_get_two_pictures(tmp_path: Path) -> None:
    _, pictures = explain.keep(photo(2, ids=("a/x.png", "b/x.png")), tmp_path)
    assert pictures == ["x.png", "x-1.png"]


def test_the_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.name: line for line in doctor._installation()}
    assert {"pellucid", "torch", "devices", "threads", "methods", "self check"} <= set(lines)
    assert lines["self check"].sound, lines["self check"].told
    assert not doctor._try("x", lambda: (_ for _ in ()).throw(UsageError("no"))).sound
