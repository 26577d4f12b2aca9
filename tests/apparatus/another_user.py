"""Calls that root, whom no permission stops, makes as somebody else: in a forked child."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534


def as_another_user(function: Callable[[Path], object]) -> None:
    """Call it with an empty folder of the user's own; where the tests are not run by root they stay who they are.

    What it needs is to be imported before: the other user may not be allowed to read the packages.

    Raises:
        AssertionError: It raised; with the traceback.
    """
    __tracebackhide__ = True
    folder = Path(tempfile.mkdtemp(prefix="as-another-user-"))  # not pytest's, which nobody else may enter
    try:
        if os.geteuid() != 0:
            function(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        said = _forked(function, folder)
        if said:
            raise AssertionError(f"{function.__qualname__} failed as user {NOBODY}\n{said}")
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def _forked(function: Callable[[Path], object], folder: Path) -> str:
    """What went wrong in a child, nothing where nothing did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            function(folder)
        except BaseException:  # whatever ends it is told
            said = traceback.format_exc()
        finally:
            os.write(writing, said.encode()[-10_000:])  # less than a pipe holds
            os._exit(0 if not said else 1)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or (f"it died with exit code {status}" if status else "")
