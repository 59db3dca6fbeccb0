"""How results become files: plain data, and never half of one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UsageError


def atomic(path: Path, write: Any) -> None:
    """Writes beside the file and renames: a half-written file is never left under the name."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as e:
        raise UsageError(f"{str(path)!r} cannot be written: {e.strerror or e}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def plain(v: Any) -> Any:
    """Numbers, texts and lists of them; anything else in its own words."""
    if isinstance(v, Mapping):
        return {str(k): plain(w) for k, w in v.items()}
    if isinstance(v, (tuple, list)):
        return [plain(w) for w in v]
    return v if v is None or isinstance(v, (int, float, str, bool)) else repr(v)
