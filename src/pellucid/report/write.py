"""The report of a store: the same views as everywhere, in one file."""

from pathlib import Path

from ..core.errors import UsageError
from ..run.files import put
from ..run.store import Store
from ..views.page import page

NAME = "report.html"


def add_report(store: Store) -> str:
    """Writes the report into a store that is being filled; gives its file name."""
    store.write(NAME, page(store.explanations()))
    return NAME


def write_report(source: str | Path, path: str | Path | None = None) -> Path:
    """Writes the report of a finished store, beside its results or where `path` says."""
    shown = Store.open(source).explanations()
    if not shown:
        raise UsageError(f"A report needs at least one explanation; {source} holds none.")
    return put(Path(path) if path is not None else Path(source) / NAME, page(shown).encode())
