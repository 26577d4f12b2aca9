"""Reading files that others gave: a pipe, a device or a socket under a file's name is refused, and not waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NoRegularFileError(OSError):
    """There is something else than a file under a file's name."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: It cannot be read; ``NoRegularFileError`` where it is a folder, pipe, socket or device. The message names it.
        ValueError: The name is none, as there is a zero in it.
    """
    require_regular(path, Path(path).stat().st_mode)  # sockets cannot be opened, and folders not by Python
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        require_regular(path, os.fstat(file.fileno()).st_mode)  # it may be another by now
    except NoRegularFileError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file; errors as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()


def require_regular(path: str | os.PathLike[str], mode: int) -> None:
    """Check that a ``st_mode`` is that of a file.

    Raises:
        NoRegularFileError: It is not; the message names ``path`` and what it is.
    """
    if not stat.S_ISREG(mode):
        raise NoRegularFileError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'something else')} where a file was expected: give a file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody writes into would be waited for
