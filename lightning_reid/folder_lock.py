"""One run at a time in a folder, told apart from runs that were killed in it."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from lightning_reid.files import read_json, told_as_not_written
from lightning_reid.processes import lives, this_host

logger = logging.getLogger(__name__)

SECONDS_TO_WRITE = 2.0
"""Between a lock that is made and one that is filled."""
_WAY_ON = "remove it if no run is at work there"


@dataclass(frozen=True)
class Holder:
    """The process that runs in a folder.

    Attributes:
        pid: Its number on its host.
        host: Where its number is known, see :func:`this_host`.
        began: When the process began, seconds since 1970: a later one may have the same number.
    """

    pid: int
    host: str
    began: float

    @classmethod
    def me(cls) -> Holder:
        """The process that asks, as the holder of a lock."""
        return cls(os.getpid(), this_host(), psutil.Process().create_time())

    def is_gone(self) -> bool:
        """Whether it is known to have ended; of another host's processes nothing is known."""
        return self.host == this_host() and not lives(self.pid, self.began)


class FolderLock:
    """A file that names the process that runs in its folder.

    No lock of the operating system's: worker processes of a run that was killed would hold it for as long as they live on.

    Args:
        file: Is there while the lock is held.
        way_on: What somebody can do while another process holds it.
    """

    def __init__(self, file: Path, way_on: str = "wait for it, or give another --output") -> None:
        self.file, self.way_on, self.me = file, way_on, Holder.me()

    def acquire(self) -> None:
        """Take the lock, also from a process that is gone.

        Raises:
            FileExistsError: Another process holds it; the message names it.
            OSError: The folder takes no file, as a read-only or a full one; the message names it, and nothing is left there.
            ValueError: The lock does not say whose it is, as one that was edited or cut.
        """
        while not self._make():
            holder = self._read()
            if holder is not None and not holder.is_gone():
                raise FileExistsError(
                    f"process {holder.pid} on {holder.host} runs in {self.file.parent}: {self.way_on}."
                    f" If you know that it has ended, remove {self.file}"
                )
            self._take_away(holder)

    def release(self) -> None:
        """Let others run here; a lock that is another's by now is left alone."""
        try:
            mine = self._read() == self.me
        except ValueError as error:
            logger.warning("%s", error)
            return
        if mine:
            self.file.unlink()

    def _make(self) -> bool:
        with told_as_not_written(self.file):
            try:
                handle = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                return False
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(self.me)))
            except OSError:
                self.file.unlink()  # an empty lock would make the next run wait
                raise
        return True

    def _read(self) -> Holder | None:
        """Who holds it; ``None`` where it is not there any more, or its maker was killed before it could say."""
        deadline = time.monotonic() + SECONDS_TO_WRITE
        while True:
            late = time.monotonic() > deadline
            try:
                if late and not self.file.stat().st_size:
                    return None
                told = read_json(self.file, {"pid": int, "host": str, "began": (int, float)}, way_on=_WAY_ON)
                if not (0 < told["pid"] < 2**31 and 0 <= told["began"] < 2**62):
                    raise ValueError(
                        f"{self.file} names the process {told['pid']!r:.40} of the time {told['began']!r:.40}, there is none: {_WAY_ON}"
                    )
                return Holder(told["pid"], told["host"], told["began"])
            except FileNotFoundError:
                return None
            except ValueError:
                if late:
                    raise
            time.sleep(0.05)

    def _take_away(self, judged: Holder | None) -> None:
        """Remove the lock that was judged, and no other that was made meanwhile: renaming succeeds for one process alone."""
        mine = self.file.with_name(f"{self.file.name}-{uuid4().hex}")
        try:
            self.file.rename(mine)
        except FileNotFoundError:
            return
        found = FolderLock(mine)._read()
        if found is not None and found != judged:
            os.link(mine, self.file)  # unlike renaming back, never in the place of a third one's
            mine.unlink()
            return
        mine.unlink()
        if judged is not None:
            logger.warning("%s: process %d, which ran here, is gone: this run takes its place", self.file.parent, judged.pid)
