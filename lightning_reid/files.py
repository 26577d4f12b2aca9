"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it; what was at ``path`` stays whole until then.

    Args:
        path: Where the file goes; its folder is made if need be.
        write: Called with the temporary path, which ends as ``path`` does.

    Raises:
        OSError: The folder cannot be written to, or the disk is full; the message names ``path``, no partial file is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}. Choose another --output, or free the disk") from error
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}. Choose another --output, or free the disk") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON, atomically."""
    write_atomically(path, lambda file: file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))
