"""The folder of a recipe's run: whose it is, and that nobody else writes into it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from lightning_reid.files import read_json, remove_partial_files, told_as_not_written, write_json
from lightning_reid.folder_lock import FolderLock
from lightning_reid.recipes.workshop.fingerprints import data_fingerprint, differences, options_fingerprint
from lightning_reid.recipes.workshop.stored_run import LOCK_FILE, StoredRun, local_output
from lightning_reid.records import Splits

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
RUN_FILE = "run.json"


class Readable(Protocol):
    """A datamodule, or the data of a federation."""

    def prepare_data(self) -> None:
        """Make the data that is missing, as generated sets are."""

    def setup(self) -> None:
        """Read the data that is there."""


class ReadData(Readable, Protocol):
    """A datamodule of one data set."""

    @property
    def dataset(self) -> Splits:
        """The records of the data set, once it was read."""


def read_now(*data: Readable) -> None:
    """Read data before anything is trained: a folder that is missing is found now, not hours later."""
    for one in data:
        one.prepare_data()
        one.setup()


class RunFolder:
    """Holds ``--output`` for one run, from its first line to its last: ``with RunFolder(cfg): ...``.

    A folder that was used before is refused without ``--resume``, and with it where it holds another run: other options, other data or
    another version of the library. What a run is, is told in ``run.json``; the process that runs is told in ``run.lock`` while it does.
    Of several processes of one run only the first looks, locks and writes: the others are started when the folder is in use already.

    Args:
        cfg: Parsed options, with ``output`` and ``resume`` among them.
        ignored: Names of options that only choose which rows or pictures there are, which a resumed run may change, and of short forms
            that other options stand for.
    """

    def __init__(self, cfg: Namespace, ignored: Collection[str] = ()) -> None:
        self.url = str(cfg.output) if "://" in str(cfg.output) else None
        cfg.output = local_output(cfg.output)
        self.output, self.resume = Path(cfg.output), bool(cfg.resume)
        self._stored = None if self.url is None else StoredRun(self.url, self.output)
        self.options = options_fingerprint(cfg, ignored)
        self._lock: FolderLock | None = None
        self._was_there = self.output.is_dir()

    def __enter__(self) -> Self:
        """Take the folder.

        Raises:
            FileExistsError: It was used before and ``--resume`` is not asked for, or another process runs in it.
            OSError: It cannot be made, as where a file has its name, or takes no file, as a read-only or a full one.
            ValueError: It holds another run, or one whose files are damaged.
        """
        if not is_first_process():
            return self
        with told_as_not_written(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.output / LOCK_FILE)
        lock.acquire()
        self._lock = lock
        try:
            if self._stored is not None:
                self._bring_here(self._stored)
            self._require_mine()
            left = remove_partial_files(self.output, alone=True)
        except BaseException:
            self._leave()
            raise
        if self._stored is not None:
            self._stored.__enter__()
        if left:
            logger.info("%s: removed %d files that killed processes left half written", self.output, len(left))
        return self

    def _bring_here(self, stored: StoredRun) -> None:
        """A resumed run goes on from the store, or from what an earlier sitting left here and could not bring there."""
        there = stored.is_there()
        if there and not self.resume:
            raise FileExistsError(f"{self.url} holds a run: give --resume to go on with it, or another --output")
        if self.resume:
            stored.resume()
        logger.warning("the run works in %s, and is kept in %s", self.output, self.url)

    def _require_mine(self) -> None:
        # hidden files are what a process that was killed left half written, run.json itself, say
        if all(file.name.startswith((LOCK_FILE, ".")) for file in self.output.iterdir()):
            return
        if not self.resume:
            raise FileExistsError(
                f"{self.output} was used before: give --resume to go on with the run in it, or another folder, --output {self._another()}"
            )
        self._require_same("options", self.options)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the folder.

        Raises:
            OSError: The disk ran full, in words that name the folder: what loggers and libraries raise then names nothing. Or the store
                does not take the run.
        """
        try:
            if self._stored is not None and self._lock is not None:
                self._stored.__exit__(kind, error, trace)
        finally:
            self._leave()
        if isinstance(error, OSError) and error.errno in DISK_FULL and str(self.output) not in str(error):
            told = f"the disk of {self.output} is full: {error}. Free it and go on with --resume, or give another folder, --output"
            raise OSError(error.errno, told) from error

    def read(self, *data: ReadData) -> None:
        """Read data sets, see ``read_now``, and tell what the run is on, see ``holds``."""
        read_now(*data)
        self.holds(*(one.dataset for one in data))

    def holds(self, *datasets: Splits) -> None:
        """Tell what the run is on, before anything is trained.

        Raises:
            ValueError: The run in the folder was on other data.
        """
        if not is_first_process():
            return
        data = data_fingerprint(datasets)
        if (self.output / RUN_FILE).is_file():
            self._require_same("data", data)
        else:
            write_json(self.output / RUN_FILE, {"options": self.options, "data": data})

    def _require_same(self, part: str, here: Mapping[str, Any]) -> None:
        there = read_run(self.output)
        if there is None:
            raise ValueError(f"{self.output} holds no run to go on with, it lacks {RUN_FILE}: give another --output {self._another()}")
        refuse_differences(self.output, part, there[part], here, f"or give another folder, --output {self._another()}")

    def _another(self) -> Path:
        number = 2
        while (other := self.output.with_name(f"{self.output.name}-{number}")).exists():
            number += 1
        return other

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            if not self._was_there:
                with suppress(OSError):  # what cannot be trained leaves nothing behind; a folder that holds something cannot be removed
                    self.output.rmdir()


def is_first_process() -> bool:
    """Whether this is the one process of a run that looks after its folder."""
    rank = getattr(rank_zero_only, "rank", None)  # an attribute that is set dynamically
    return int(rank or 0) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def read_run(output: Path) -> dict[str, Any] | None:
    """What ``run.json`` tells: ``{"options": {...}, "data": {...}}``; ``None`` without one.

    Raises:
        ValueError: It is damaged; the message names it.
    """
    file = output / RUN_FILE
    if not file.is_file():
        return None
    return read_json(file, {"options": dict, "data": dict}, way_on="restore it, or give another folder, --output")


def refuse_differences(folder: Path, part: str, there: Mapping[str, Any], here: Mapping[str, Any], way_on: str) -> None:
    """Refuse what was made by another run than this one.

    Raises:
        ValueError: The fingerprints differ; the message names each option with both values.
    """
    lines = differences(there, here)
    if lines:
        raise ValueError(f"{folder} holds a run with other {part}: {'; '.join(lines)}. Give it the same {part}, {way_on}")
