"""What a gateway's matcher was fed, on the disk: after a kill the same identities are there again, number for number."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_reid.arguments import require_number
from lightning_reid.files import remove_partial_files, write_atomically
from lightning_reid.live.journal_file import MAGIC, MESSAGE, STATE, Record, read_records, record_bytes, write_whole
from lightning_reid.live.matching import Told
from lightning_reid.tracking import ForgetIdentity, OnlineMatcher, StageHealth, matcher_state, read_message, restore_matcher, write_message

logger = logging.getLogger(__name__)

GATEWAY = "gateway"
"""Under which name a gateway tells of its own health; no camera may bear it."""
LARGEST_SEGMENT = 2**27
"""In bytes; then the next one begins."""
_PATTERN = "segment-[0-9]*.journal"
_LAG = 2.0
"""How many ``sync_every`` the disk may lag before health says ``stalled``."""


class Journal:
    """Writes down every message that a matcher took and when, and gives a new matcher all of it back. A listener of ``MatchingThread``.

    It comes first among the listeners: then nothing is shown that is not in it. A segment begins with the matcher's whole state, the
    messages since come after; once a new segment is on the disk the one before goes. So a restart reads ``new_segment_after`` seconds of
    messages at most, and a feature is gone from the disk as much after the matcher has forgotten it, as long as messages come; a
    ``ForgetIdentity`` begins a new segment at once.

    Each message is handed to the system before the next listener hears of it: a killed process (``kill -9``) loses nothing that was shown.
    The disk gets it within ``sync_every`` seconds: as much a power cut may lose. What a kill left half written is cut off, and logged.

    On a full or broken disk the matching goes on without a journal: an error is logged, ``health`` says ``gone`` and counts what is
    missing, what was written before stays whole, and every ``retry_after`` seconds a new segment is tried, which holds the whole state, so
    that nothing is missing once the disk takes it. A kill in the meantime restarts from before the gap.

    Args:
        folder: Of this gateway alone, which a lock sees to; what is in it is replayed.
        matcher: A new one, of a ``MatchingThread`` with a clock; the journal's rules must be the same.
        new_segment_after: Seconds from one segment to the next.
        sync_every: Seconds from one ``fsync`` to the next.
        retry_after: Seconds until a disk that failed is tried again.

    Attributes:
        replayed: Messages that were replayed after the state.

    Raises:
        OSError: Another process has the folder, or nothing can be written there.
        ValueError: The journal is damaged or of a matcher with other rules, or an argument is out of range; the message names the way on.

    Example:
        >>> import tempfile, torch
        >>> from lightning_reid.live import Journal, MatchingThread
        >>> from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher, TrackKey
        >>> folder, now = tempfile.mkdtemp(), 1_700_000_000.0
        >>> def matcher():
        ...     return OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18")
        >>> seen = CameraTracks(FrameStamp("door", 0, 0.0, now), 0, (7,), torch.tensor([[8.0, 4, 24, 60]]), torch.ones(1))
        >>> with Journal(folder, first := matcher()) as journal, MatchingThread(first, [journal], clock=lambda: now) as matching:
        ...     matching.put(seen)
        >>> with Journal(folder, second := matcher()) as journal:
        ...     print(journal.replayed, second.identity(TrackKey("door", 0, 7)))
        1 0
    """

    def __init__(
        self,
        folder: str | Path,
        matcher: OnlineMatcher,
        *,
        new_segment_after: float = 600.0,
        sync_every: float = 1.0,
        retry_after: float = 30.0,
    ) -> None:
        require_number("new_segment_after", new_segment_after, above=0)
        require_number("sync_every", sync_every, above=0)
        require_number("retry_after", retry_after, low=0)
        self.folder, self._matcher, self.replayed = Path(folder), matcher, 0
        self._new_segment_after, self._sync_every, self._retry_after = new_segment_after, sync_every, retry_after
        self._written = self._missing = self._missing_before = self._unsynced = self._size = 0
        self._number, self._tried = 0, 0.0
        self._began: float | None = None
        self._latest = self._oldest_unsynced = 0.0
        self._descriptor: int | None = None
        self._failure: OSError | None = None
        self._of_syncing: OSError | None = None
        self._closed, self._guard = threading.Event(), threading.Lock()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise OSError(f"{self.folder} is the journal of a gateway that runs: stop it, or give another folder") from error
        try:
            remove_partial_files(self.folder, alone=True)
            self._replay()
            self._begin_segment(matcher.now)
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._sync, name="journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __call__(self, told: Told) -> None:
        """Write down what the matcher took; called in the matching thread, it waits for no disk but that of a new segment."""
        if told.refused is not None or isinstance(told.message, StageHealth):
            return
        try:
            self._write(told)
        except OSError as error:
            self._fail(error, told.received)

    def health(self, at: float) -> StageHealth:
        """How the journal does: ``gone`` while the disk does not take it, ``stalled`` while it lags.

        Args:
            at: Seconds since 1970.
        """
        with self._guard:
            lags = self._unsynced and self._oldest_unsynced + _LAG * self._sync_every < at
            state = "gone" if self._failure is not None else "stalled" if lags else "live"
            latency = max(at - self._oldest_unsynced, 0.0) if self._unsynced else 0.0
            return StageHealth(GATEWAY, "journal", at, state, self._written, self._missing, self._unsynced, latency)

    def close(self) -> None:
        """Put everything on the disk, and let go of the folder."""
        self._closed.set()
        self._thread.join()
        self._sync_once()
        self._let_go()
        self._lock.release()

    def segments(self) -> list[Path]:
        """The files that there are, oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def _replay(self) -> None:
        found = self.segments()
        if not found:
            return
        path = found[-1]  # its head is whole: a segment gets its name when it is on the disk
        self._number = int(path.stem.removeprefix("segment-"))
        records = read_records(path)
        try:
            restore_matcher(self._matcher, _state_of(records))
            for record in records:
                self._matcher.feed(read_message(record.content), received=record.received)  # type: ignore[arg-type]
                self.replayed += 1
        except ValueError as error:
            told = f"{path} cannot be replayed, at its record {self.replayed + 1}: {error}"
            raise ValueError(f"{told}. To begin anew move the file away; nobody's number is known then") from error

    def _write(self, told: Told) -> None:
        if self._of_syncing is not None and self._failure is None:
            raise self._of_syncing
        if self._failure is not None:
            if abs(told.received - self._tried) < self._retry_after:
                self._missing += 1
                return
            gap = self._missing - self._missing_before
            self._begin_segment(told.received)
            logger.warning("%s is written again, and whole: %d messages had been missing", self.folder, gap)
        else:
            self._append(record_bytes(Record(MESSAGE, told.received, write_message(told.message))), told.received)
            if isinstance(told.message, ForgetIdentity) or self._full(told.received):
                self._begin_segment(told.received)
        self._written += 1

    def _full(self, received: float) -> bool:
        self._began = received if self._began is None else self._began
        return abs(received - self._began) >= self._new_segment_after or self._size >= LARGEST_SEGMENT

    def _append(self, content: bytes, received: float) -> None:
        assert self._descriptor is not None
        write_whole(self._descriptor, content, self._size)
        with self._guard:
            self._size += len(content)
            self._latest = received
            if not self._unsynced:
                self._oldest_unsynced = received
            self._unsynced += 1

    def _begin_segment(self, received: float) -> None:
        """Write the matcher's whole state, which holds all that older segments do, and remove them."""
        path = self.folder / f"segment-{self._number + 1:08d}.journal"
        content = MAGIC + record_bytes(Record(STATE, received, matcher_state(self._matcher)))
        write_atomically(path, lambda file: file.write_bytes(content))
        self._let_go()
        with self._guard:
            self._number, self._descriptor = self._number + 1, os.open(path, os.O_WRONLY | os.O_APPEND)
            self._size, self._unsynced, self._failure, self._of_syncing = len(content), 0, None, None
        self._began = None  # with its first message
        for old in self.segments():
            if old != path:
                old.unlink()

    def _fail(self, error: OSError, received: float) -> None:
        with self._guard:
            self._missing_before = self._missing if self._failure is None else self._missing_before
            self._missing, self._failure = self._missing + 1, error
        self._tried = received
        logger.error(
            "%s is not written (%s): the matching goes on without a journal, and a kill would lose what comes from now on. Free the disk:"
            " it is tried again every %g s",
            self.folder,
            error,
            self._retry_after,
        )
        self._let_go()

    def _let_go(self) -> None:
        with self._guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None

    def _sync(self) -> None:
        while not self._closed.wait(self._sync_every):
            self._sync_once()

    def _sync_once(self) -> None:
        with self._guard:
            if self._descriptor is None or not self._unsynced:
                return
            copy, segment, number, latest = os.dup(self._descriptor), self._number, self._unsynced, self._latest
        try:
            os.fsync(copy)  # outside the guard: the matching does not wait for it
        except OSError as error:
            logger.error("%s does not get on the disk: %s", self.folder, error)
            self._of_syncing = error
        else:
            with self._guard:
                if self._number == segment:  # otherwise a new one is on the disk as a whole
                    self._unsynced, self._oldest_unsynced = self._unsynced - number, latest
        finally:
            os.close(copy)


def _state_of(records: Iterator[Record]) -> bytes:
    first = next(records, None)
    if first is None or first.kind != STATE:
        raise ValueError("it does not begin with a matcher's state")
    return first.content
