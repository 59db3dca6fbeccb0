"""The command line from end to end: what a person types, what comes out, and what is said when it cannot be done."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid import cli
from pellucid.run.store import Store

SMALL = ("--model", "e2e.nets:small")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    pixels[10:25, 10:30] = (250, 30, 30)
    path = tmp_path_factory.mktemp("photos") / "a photo.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], out: Path, *argv: str) -> str:
    """The one sentence that was said; nothing was printed to standard output, and nothing written."""
    code, told, err = run(capsys, "explain", *argv, "--out", str(out))
    assert (code, told) == (2, "")
    assert not out.exists()
    assert "Traceback" not in err
    assert "fault of Pellucid" not in err
    said = [line for line in err.splitlines() if line.startswith("pellucid: ")]
    assert len(said) == 1
    return said[0]


def huge_png(path: Path) -> str:
    """A PNG that says it has 50,000 x 50,000 pixels; a decoder that believes it needs 7.5 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    return str(path)


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "grad-cam"])
def test_a_photo_and_a_model_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str, method: str) -> None:
    code, told, err = run(capsys, "explain", photo, *SMALL, "--method", method, "--out", str(tmp_path / "why"))
    assert code == 0, err
    e = Store.open(tmp_path / "why").explanations()[0]
    assert e.method == method
    assert e.ids == (photo,)
    assert e.evidence
    assert e.evidence.verdict.capitalize() in told
    assert (tmp_path / "why" / "a-photo.png").is_file()
    report = (tmp_path / "why" / "report.html").read_text()
    assert all(part in report for part in ("What this does not show", "How to reproduce this", "e2e.nets:small"))


def test_several_photos_a_named_target_a_layer_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str) -> None:
    argv = ("explain", photo, photo, *SMALL, "--target", "cup", "--against", "dog", "--at", "body.1", "--method", "input-x-gradient", "--evidence", "none", "--json", "--out", str(tmp_path))
    code, out, err = run(capsys, *argv)
    assert code == 0, err
    told = json.loads(out)
    assert told["explanation"]["target"] == ["cup (2) rather than dog (1)"] * 2
    assert len(set(told["pictures"])) == 2


def test_the_python_of_the_report_gives_the_same_values(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str) -> None:
    code, _, err = run(capsys, "explain", photo, *SMALL, "--method", "smooth-grad", "--evidence", "none", "--seed", "3", "--batch-size", "4", "--out", str(tmp_path))
    assert code == 0, err
    kept = Store.open(tmp_path).explanations()[0]
    scope: dict[str, object] = {}
    exec(kept.provenance["code"], scope)
    assert (scope["e"].values == kept.values).all()  # type: ignore[attr-defined]
    assert kept.values.abs().sum() > 0


def test_the_command_of_the_report_gives_the_same_values(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str) -> None:
    import shlex

    argv = ["explain", photo, *SMALL, "--method", "smooth-grad", "--evidence", "none", "--batch-size", "4", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    first = Store.open(tmp_path).explanations()[0]
    assert cli.main(shlex.split(first.provenance["command"])[1:]) == 0
    assert (Store.open(tmp_path).explanations()[0].values == first.values).all()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("no-such.png", *SMALL), "There is no file 'no-such.png'"),
        (("sample:coffe", *SMALL), "coffee"),
        ((__file__, *SMALL), "is not a picture"),
        ((str(Path(__file__).parent), *SMALL), "is a folder"),
        (("PHOTO", "--model", "efficientnet-lite9"), "Did you mean 'efficientnet-lite0'?"),
        (("PHOTO", "--model", "e2e.nets:smal"), "Did you mean 'small'"),
        (("PHOTO", "--model", "no_such_module:net"), "no_such_module"),
        (("PHOTO", "--model", "e2e.nets:needs_an_argument"), "gave a Net. A function that makes the model takes no arguments"),
        (("PHOTO", "--model", "e2e.nets:without_preprocessing", "--weights", "none.safetensors"), "There is no weights file"),
        (("PHOTO", "--model", "e2e.nets:without_preprocessing"), "need a model with preprocessing"),
        (("PHOTO", *SMALL, "--method", "grad-cum"), "Did you mean 'grad-cam'"),
        (("PHOTO", *SMALL, "--at", "bdy.1"), "body.1"),
        (("PHOTO", *SMALL, "--target", "cta"), "Did you mean 'cat'"),
        (("PHOTO", *SMALL, "--target", "5"), "Positions run from 0 to 4"),
        (("PHOTO", *SMALL, "--method", "integrated-gradients", "--set", "steps=0"), "between 1 and"),
        (("PHOTO", *SMALL, "--method", "integrated-gradients", "--set", "step=9"), "Did you mean 'steps'"),
        (("PHOTO", *SMALL, "--baseline", "snow"), "baseline"),
        (("PHOTO", *SMALL, "--batch-size", "0"), "at least 1"),
        (("PHOTO", "--model", "e2e.nets:gives_nan"), "nan"),
        (("PHOTO", "--model", "e2e.nets:gives_a_tuple"), "tuple"),
        (("PHOTO", "--model", "e2e.nets:gives_a_word"), "str"),
        (("PHOTO", "--model", "e2e.nets:raises"), "the net is tired"),
        (("PHOTO", "--model", "e2e.nets:wants_another_size"), "another size"),
        (("PHOTO", "--model", "e2e.nets:interrupted"), "Interrupted; nothing was written."),
    ],
)
def test_what_cannot_be_done_gets_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str, argv: tuple[str, ...], sentence: str) -> None:
    said = refused(capsys, tmp_path / "why", *(photo if word == "PHOTO" else word for word in argv))
    assert sentence.casefold() in said.casefold()


def test_a_picture_of_two_and_a_half_thousand_megapixels_is_not_opened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, tmp_path / "why", huge_png(tmp_path / "huge.png"), *SMALL)
    assert "million pixels" in said


def test_a_cut_off_picture_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str) -> None:
    (tmp_path / "half.png").write_bytes(Path(photo).read_bytes()[:500])
    assert "half.png" in refused(capsys, tmp_path / "why", str(tmp_path / "half.png"), *SMALL)


@pytest.mark.parametrize("place", ["/proc/why", "FILE", "FOREIGN"])
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    out = {"FILE": str(tmp_path / "file"), "FOREIGN": str(tmp_path)}.get(place, place)
    code, told, err = run(capsys, "explain", "x.png", "--model", "no-such-model", "--out", out)
    assert (code, told) == (2, "")
    assert "--out" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_interrupted_it_keeps_the_results_of_the_last_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: str) -> None:
    assert run(capsys, "explain", photo, *SMALL, "--method", "saliency", "--evidence", "none", "--out", str(tmp_path))[0] == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    code, _, err = run(capsys, "explain", photo, "--model", "e2e.nets:interrupted", "--out", str(tmp_path))
    assert code == 2
    assert "Interrupted; nothing was written." in err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_the_main_job(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pellucid", "explain", "sample:coffee", "--model", "efficientnet-lite0", "--json", "--gate", "doubtful", "--out", str(tmp_path / "out")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["explanation"]["predictions"][0][0][0] == "espresso"
    assert told["verdict"] == "supported"
    with Image.open(told["pictures"][0]) as picture:
        assert picture.width > 1000
    report = Path(told["report"]).read_text()
    assert len(report) < 2_000_000
    assert "<script" not in report
    assert "espresso" in report


@pytest.mark.slow
def test_another_photo_another_method_another_class(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pellucid", "explain", "sample:chelsea", "--model", "efficientnet-lite0", "--target", "tabby", "--method", "grad-cam", "--out", str(tmp_path / "out")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "of tabby (281)" in done.stdout
    assert not done.stderr
