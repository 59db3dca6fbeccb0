"""Results kept: one directory of JSON, tensors, pictures and a report, whole or not there at all."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..core.errors import UsageError
from .files import put

if TYPE_CHECKING:
    from ..core.explanation import Explanation

SCHEMA = 1
MARK, INDEX = "store.json", "results.json"
"""What says that a directory is ours, and what says which results it holds; the index is written last."""


class Store:
    """A versioned directory that the report, the app and the command line read.

    How: everything is written into a hidden directory beside its place; `commit` (or leaving a `with` block without an exception) moves it there.
    The index goes last, so that a directory without `results.json` is incomplete, and says so.
    """

    def __init__(self, path: str | Path, entries: list[dict[str, Any]], files: Iterable[str] = ()) -> None:
        self.path = Path(path)
        self._entries = entries
        self._files = set(files)
        self._stage: Path | None = None

    @classmethod
    def create(cls, path: str | Path) -> "Store":
        """A store to fill, in a new directory or in place of the results that our own store holds."""
        check_writable(path)
        return cls(path, [])

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """A store that is there, to read and to add to."""
        path = Path(path)
        if _schema(path) is None:
            raise UsageError(f"{path} holds no Pellucid results; `pellucid explain ... --out {path}` makes them.")
        if not (path / INDEX).is_file():
            raise UsageError(f"The results in {path} are incomplete: the run that wrote them was stopped. Run it again.")
        index = _read(path / INDEX)
        return cls(path, index["explanations"], index["files"])

    def add(self, explanation: "Explanation", name: str | None = None) -> str:
        """Keeps an explanation; gives the name under which it is kept."""
        from safetensors.torch import save

        name = self._free(slug(name or (str(explanation.ids[0]) if explanation.ids else explanation.method)))
        tensors = {k: t.detach().to("cpu").contiguous() for k, t in explanation.tensors().items()}
        self.write(f"{name}.safetensors", save(tensors))
        self._entries.append({"name": name, "tensors": f"{name}.safetensors", "explanation": explanation.to_dict()})
        return name

    def write(self, name: str, data: bytes | str) -> None:
        """Keeps a file that belongs to the results: a picture, the report."""
        if name in (MARK, INDEX) or Path(name).name != name:
            raise UsageError(f"A file of a store needs a plain name of its own; got {name!r}.")
        put(self._room() / name, data.encode() if isinstance(data, str) else data)
        self._files.add(name)

    def write_json(self, name: str, value: Any) -> None:
        """Keeps a JSON file; numbers that JSON lacks (NaN, Infinity) become null."""
        self.write(name, to_json(value))

    @property
    def names(self) -> list[str]:
        """The names of the explanations."""
        return [entry["name"] for entry in self._entries]

    def explanations(self) -> list["Explanation"]:
        """Every explanation, in the order they were added."""
        from safetensors.torch import load_file

        from ..core.explanation import Explanation

        return [Explanation.from_parts(entry["explanation"], load_file(self._find(entry["tensors"]))) for entry in self._entries]

    def commit(self) -> Path:
        """Moves what was written to its place, the index last."""
        room = self._room()
        put(room / MARK, to_json({"pellucid": "results", "schema": SCHEMA}).encode())
        put(room / INDEX, to_json({"schema": SCHEMA, "explanations": self._entries, "files": sorted(self._files)}).encode())
        if not self.path.exists():
            room.chmod(0o755)
            os.replace(room, self.path)
        else:
            self._replace(room)
        self._stage = None
        return self.path

    def discard(self) -> None:
        """Forgets what was not committed; nothing of it stays behind."""
        if self._stage is not None:
            shutil.rmtree(self._stage, ignore_errors=True)
        self._stage = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.commit()
        finally:
            self.discard()

    def _replace(self, room: Path) -> None:
        """The old index goes first and the new one comes last: in between, the directory says that it is incomplete."""
        old = set(_read(self.path / INDEX).get("files", ())) if (self.path / INDEX).is_file() else set()
        (self.path / INDEX).unlink(missing_ok=True)
        for name in old - self._files:
            if Path(name).name == name:
                (self.path / name).unlink(missing_ok=True)
        for part in sorted(room.iterdir(), key=lambda p: p.name == INDEX):
            os.replace(part, self.path / part.name)
        room.rmdir()

    def _room(self) -> Path:
        if self._stage is None:
            inside = self.path.is_dir()
            parent = self.path if inside else self.path.parent
            parent.mkdir(parents=True, exist_ok=True)
            self._stage = Path(tempfile.mkdtemp(dir=parent, prefix=f".{self.path.name}.writing-"))
        return self._stage

    def _find(self, name: str) -> Path:
        staged = self._stage / name if self._stage else self.path / name
        found = staged if staged.is_file() else self.path / name
        if Path(name).name != name or not found.is_file():
            raise UsageError(f"{self.path} lacks the file {name!r} that its results name. Run the work again.")
        return found

    def _free(self, name: str) -> str:
        taken, n, free = set(self.names), 2, name
        while free in taken:
            free, n = f"{name}-{n}", n + 1
        return free


def check_writable(path: str | Path) -> None:
    """Refuses, before any work is done, a place where results cannot or should not be written."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"Results need a directory; {path} is a file. Name another with --out.")
    if path.is_dir() and _schema(path) is None and any(path.iterdir()):
        raise UsageError(f"Results need a new, an empty or a Pellucid directory; {path} holds other files. Name another with --out.")
    nearest = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as e:
        raise UsageError(f"Results cannot be written to {path}: {e.strerror or e}. Name another directory with --out.") from None


def slug(text: str) -> str:
    """A name that is safe as a file's name: "sample:coffee" gives "coffee", "a/b c.jpg" gives "b-c"."""
    stem = re.split(r"[/\\:]", text)[-1]
    stem = stem.rsplit(".", 1)[0] if "." in stem.strip(".") else stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:60] or "result"


def to_json(value: Any) -> str:
    """Strict JSON, readable, with NaN and Infinity as null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def _schema(path: Path) -> int | None:
    if not (path / MARK).is_file():
        return None
    told = _read(path / MARK)
    schema = told.get("schema")
    if told.get("pellucid") != "results" or not isinstance(schema, int):
        return None
    if schema > SCHEMA:
        raise UsageError(f"{path} was written by a newer Pellucid (schema {schema}; this one reads {SCHEMA}). Update Pellucid, or name another directory.")
    return schema


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{path} cannot be read: {e}.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} is not what Pellucid wrote.")
    return value
