"""Files that are whole or not there: written beside their place, then moved into it."""

import os
import tempfile
from pathlib import Path

from ..core.errors import UsageError


def put(path: Path, data: bytes) -> Path:
    """Writes a file in one step; a reader sees the old one or the new one, never half of one."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as e:
        raise UsageError(f"{path.parent} cannot be written to: {e.strerror or e}. Choose another place.") from None
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror or e}. Choose another place.") from None
    finally:
        Path(name).unlink(missing_ok=True)
    return path
