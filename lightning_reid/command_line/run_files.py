"""Files of a run, whose folder somebody else may have filled: read where they are files, lie in that folder, and are not too large."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.regular_files import require_regular

MOST_BYTES = 16 * 2**20
"""Of a file of text in a run's folder: tables of scores have kilobytes, a hundred thousand logged lines a few million bytes."""


def require_own(folder: Path, file: Path, *, most_bytes: int | None = MOST_BYTES) -> Path:
    """Check a file of a run's folder before it is read; links within the folder are followed, as Lightning makes them.

    Args:
        folder: Of the run.
        file: Below it.
        most_bytes: That it may have; ``None`` for any number, as checkpoints have.

    Returns:
        ``file``.

    Raises:
        OSError: It is gone; ``NoRegularFileError`` where it is a folder, pipe, socket or device.
        ValueError: It leads out of the folder, or is larger; the message names it.
    """
    try:
        place = file.resolve(strict=True)
    except RuntimeError as error:  # what Python before 3.13 makes of links that lead in a circle
        raise ValueError(f"{file} cannot be followed ({error}): put the file itself there") from error
    if not place.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is a link that leads out of {folder}, and is not read: put the file itself there")
    held = place.stat()
    require_regular(file, held.st_mode)
    if most_bytes is not None and held.st_size > most_bytes:
        raise ValueError(f"{file} has {held.st_size:,} bytes, more than the {most_bytes:,} that are read: it is no such file of a run")
    return file
