"""What the command line is asked about: pictures, texts, or rows of a table in a file."""

import argparse
import csv
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from ..core.model import Model

TABLES = (".csv", ".tsv")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
LARGEST = 1_000_000
"""Characters of a text that are read."""


@dataclass(frozen=True)
class Given:
    """Inputs as `pel.explain` takes them, the names of the rows, and the same in Python."""

    kind: str
    inputs: Any
    ids: tuple[str, ...]
    code: tuple[str, ...]
    """Lines that make `inputs`, and `background` where there is one."""
    baseline: Any = None
    columns: list[str] | None = None
    notes: tuple[str, ...] = field(default=())


def kind_of(args: argparse.Namespace) -> str:
    """ "texts", "table" or "pictures", by the words of the command line alone; one kind a command."""
    kinds = {_kind(word, args.text) for word in args.inputs}
    if len(kinds) > 1:
        raise UsageError(f"One command explains one kind of input; got {' and '.join(sorted(kinds))}. Give them one command each; --text says that every INPUT is a text.")
    kind = kinds.pop()
    for option in ("row", "background", "drop"):
        if kind != "table" and getattr(args, option):
            raise UsageError(f"--{option} goes with a table, INPUT.csv; got {kind}.")
    return kind


def _kind(word: str, text: bool) -> str:
    if text or word.startswith("@"):
        return "texts"
    if word.lower().endswith(TABLES):
        return "table"
    spaced = any(c.isspace() for c in word.strip()) and not word.lower().endswith(PICTURES) and not Path(word).exists()
    return "texts" if spaced and not word.startswith("sample:") else "pictures"


def texts(args: argparse.Namespace) -> Given:
    """Texts as they stand, or from files by @FILE."""
    read = [_text(word) if word.startswith("@") else word for word in args.inputs]
    for word, text in zip(args.inputs, read, strict=True):
        if not text.strip():
            raise UsageError(f"A text needs at least one word; {word!r} holds none.")
    lines = [f"Path({word[1:]!r}).read_text(encoding='utf-8').strip()" if word.startswith("@") else repr(word) for word in args.inputs]
    head = ("from pathlib import Path",) if any(w.startswith("@") for w in args.inputs) else ()
    return Given("texts", read, tuple(_short(w) for w in args.inputs), (*head, f"inputs = [{', '.join(lines)}]"))


def _text(word: str) -> str:
    path = Path(word[1:])
    if not path.is_file():
        raise UsageError(f"There is no text file {str(path)!r}. A text that begins with @ is given in a file, or after --text in quotes with a space before it.")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} is not a text in UTF-8.") from None
    except OSError as e:
        raise UsageError(f"{path.name} cannot be read: {e.strerror or e}.") from None
    if len(text) > LARGEST:
        raise UsageError(f"A text needs at most {LARGEST:,} characters; {path.name} has {len(text):,}. Cut out the part that matters.")
    return text


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def pictures(args: argparse.Namespace) -> Given:
    """Pictures by their paths."""
    return Given("pictures", [w if w.startswith("sample:") or w.lower().endswith(PICTURES) else Path(w) for w in args.inputs], tuple(args.inputs), (f"inputs = {list(args.inputs)!r}",))


# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """A file's columns and cells, as they are written."""

    path: Path
    columns: list[str]
    cells: list[list[str]]
    mark: str
    """What stands between cells."""

    def without(self, dropped: Sequence[str]) -> "Table":
        """The table less some columns."""
        for name in dropped:
            if name not in self.columns:
                raise UnknownName(f"column in {self.path.name}", name, self.columns)
        return self.only([c for c in self.columns if c not in dropped])

    def only(self, wanted: Sequence[str]) -> "Table":
        """Those columns, in that order."""
        for name in wanted:
            if name not in self.columns:
                raise UnknownName(f"column in {self.path.name}", name, self.columns, f"The model takes {', '.join(wanted[:8])}{', ...' if len(wanted) > 8 else ''}.")
        at = [self.columns.index(c) for c in wanted]
        return Table(self.path, list(wanted), [[row[j] for j in at] for row in self.cells], self.mark)

    def numbers(self) -> list[list[float]] | None:
        """The cells as numbers; None where one is a word or missing."""
        try:
            return [[float(c) for c in row] for row in self.cells]
        except ValueError:
            return None

    def frame(self) -> Any:
        """The cells as a DataFrame, every column in the type that its cells say."""
        pandas = pandas_for(f"{self.path.name} holds words or gaps, or the model takes a DataFrame")
        return pandas.read_csv(self.path, sep=self.mark)[self.columns]


def pandas_for(why: str) -> Any:
    """pandas, from the extra `tables`."""
    if importlib.util.find_spec("pandas") is None:
        raise UsageError(f"{why}, which needs the package 'pandas'. Install the extra: pip install 'pellucid[tables]'.")
    return importlib.import_module("pandas")


def read(path: Path) -> Table:
    """A table with a line of names and a line for every row."""
    if not path.is_file():
        raise UsageError(f"There is no table {str(path)!r}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            first = lines.readline()
            mark = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
            lines.seek(0)
            rows = [r for r in csv.reader(lines, delimiter=mark) if r]
    except (UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"{path.name} cannot be read as a table: {e}.") from None
    except OSError as e:
        raise UsageError(f"{path.name} cannot be read: {e.strerror or e}.") from None
    if len(rows) < 2:
        raise UsageError(f"A table needs a line of column names and at least one row; {path.name} has {len(rows)} line{'s' * (len(rows) != 1)}.")
    columns, cells = [c.strip() for c in rows[0]], rows[1:]
    odd = next((i for i, r in enumerate(cells) if len(r) != len(columns)), None)
    if odd is not None:
        raise UsageError(f"{path.name} needs {len(columns)} cells in every row, as its first line names columns; row {odd} has {len(cells[odd])}.")
    if len(set(columns)) < len(columns):
        raise UsageError(f"{path.name} needs a name of its own for every column; {next(c for c in columns if columns.count(c) > 1)!r} is there twice.")
    return Table(path, columns, cells, mark)


def table(args: argparse.Namespace, model: "Model") -> Given:
    """Rows of a file, as numbers or as a DataFrame, and the rows that absent cells are taken from."""
    if len(args.inputs) > 1:
        raise UsageError(f"One command explains one table; got {len(args.inputs)}. Name several of its rows: --row 3 5.")
    here = read(Path(args.inputs[0]))
    rows = rows_named(args.row, here)
    behind = read(Path(args.background)) if args.background else here
    rest = [i for i in range(len(behind.cells)) if args.background or i not in rows]
    if not rest and args.baseline is None:
        raise UsageError(f"A table needs rows that absent cells are taken from; {here.path.name} has no others. Give --background FILE.")
    here, behind = (t.only(model.columns) if model.columns is not None else t.without(args.drop) for t in (here, behind))
    if behind.columns != here.columns:
        behind = behind.only(here.columns)
    whose = f"{behind.path.name}" if args.background else f"the other rows of {here.path.name}"
    notes = (f"absent cells are taken from {len(rest):,} row{'s' * (len(rest) != 1)}: {whose}",) if args.baseline is None else ()
    ids = tuple(f"{here.path.stem} row {i}" for i in rows)
    framed = getattr(model, "takes", "") == "frame" or here.numbers() is None or behind.numbers() is None
    make = _framed if framed else _numbered
    inputs, baseline, code = make(here, behind, rows, rest, bool(args.background))
    if args.baseline is not None:
        if framed:
            raise UsageError(f"A table with words takes absent cells from a background, --background FILE; got --baseline {args.baseline}.")
        baseline = None
    return Given("table", inputs, ids, code, baseline, here.columns, notes)


def rows_named(asked: Sequence[int], t: Table) -> list[int]:
    """The rows that are asked about; a table of one row needs none named."""
    if not asked and len(t.cells) > 1:
        raise UsageError(f"{t.path.name} has {len(t.cells):,} rows; say which to explain: --row 0 is the first below the names.")
    for i in asked:
        if not 0 <= i < len(t.cells):
            raise UsageError(f"--row needs a number from 0 to {len(t.cells) - 1}, as {t.path.name} has {len(t.cells):,} rows; got {i}.")
    return list(dict.fromkeys(asked)) or [0]


def _framed(here: Table, behind: Table, rows: list[int], rest: list[int], apart: bool) -> tuple[Any, Any, tuple[str, ...]]:
    frame = here.frame()
    other = behind.frame() if apart else frame
    lines = ("import pandas as pd", f"table = pd.read_csv({str(here.path)!r}, sep={here.mark!r})[{here.columns!r}]", f"inputs = table.iloc[{rows!r}]")
    told = f"background = pd.read_csv({str(behind.path)!r}, sep={behind.mark!r})[{here.columns!r}]" if apart else f"background = table.drop(index={rows!r})"
    return frame.iloc[rows], other.iloc[rest], (*lines, told)


def _numbered(here: Table, behind: Table, rows: list[int], rest: list[int], apart: bool) -> tuple[Any, Any, tuple[str, ...]]:
    import numpy as np

    from ..core.start import Samples

    array = np.array(here.numbers())
    other = np.array(behind.numbers()) if apart else array
    lines = ("import numpy as np", f"table = {loaded(here)}", f"inputs = table[{rows!r}]")
    told = f"background = pel.Samples({loaded(behind)})" if apart else f"background = pel.Samples(np.delete(table, {rows!r}, 0))"
    return array[rows], Samples(other[rest]) if len(rest) else None, (*lines, told)


def loaded(t: Table) -> str:
    """A table of numbers as Python reads it."""
    return f"np.genfromtxt({str(t.path)!r}, delimiter={t.mark!r}, skip_header=1, usecols={[_header(t).index(c) for c in t.columns]!r}, ndmin=2)"


def _header(t: Table) -> list[str]:
    return read(t.path).columns
