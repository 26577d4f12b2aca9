"""The thread in which one matcher takes what all cameras tell, and lets those who watch know what followed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from lightning_reid.arguments import require_count
from lightning_reid.tracking import CameraTracks, OnlineMatcher, StageHealth
from lightning_reid.tracking.events import Event
from lightning_reid.tracking.matcher import Input

Message = Input | StageHealth


class Told(NamedTuple):
    """A message, and what followed from it.

    Attributes:
        message: What a camera, or somebody who watches, told.
        received: When it was taken from the queue, in seconds since 1970.
        events: What the matcher announced because of it, in order.
        identities: Of a ``CameraTracks``, the number that each of its tracks bears now; empty of all others.
        refused: Why the matcher did not take it; ``None`` where it did.

    Example:
        >>> from lightning_reid.live import Told
        >>> from lightning_reid.tracking import TrackEnded
        >>> told = Told(TrackEnded("door", 0, 7, seen_until=9.5), received=10.0)
        >>> told.events, told.refused
        ((), None)
    """

    message: Message
    received: float
    events: tuple[Event, ...] = ()
    identities: tuple[int, ...] = ()
    refused: str | None = None


class Listener(Protocol):
    """Is called in the matching thread with each message and what followed, in order; it must be quick.

    Example:
        >>> from lightning_reid.live import Listener, Told
        >>> told: list[Told] = []
        >>> listeners: list[Listener] = [told.append]
    """

    def __call__(self, told: Told, /) -> object:
        """Hear of a message; what it raises ends the matching."""


class MatchingThread:
    """Feeds a matcher from any number of threads, one message at a time, and tells listeners what followed.

    A message that the matcher refuses changes nothing there; it is told with the reason. Whoever puts messages faster than they are matched
    waits. A listener that raises ends the matching: from then on ``put`` and ``close`` raise what it raised.

    Args:
        matcher: Touched by this thread alone from now on.
        listeners: Told of every message, in this order.
        clock: Seconds since 1970 when a message comes; ``None`` where capture times are the only clock there is, as of recordings that
            are played faster than they were captured.
        capacity: Messages that may wait.

    Example:
        >>> import torch
        >>> from lightning_reid.live import MatchingThread
        >>> from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher
        >>> matcher = OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18")
        >>> with MatchingThread(matcher, [lambda told: print(told.identities)], clock=None) as matching:
        ...     stamp = FrameStamp("door", 0, captured_monotonic=0.0, captured_utc=0.0)
        ...     matching.put(CameraTracks(stamp, 0, (7,), torch.tensor([[8.0, 4, 24, 60]]), torch.ones(1)))
        (0,)
    """

    def __init__(
        self, matcher: OnlineMatcher, listeners: Sequence[Listener], *, clock: Callable[[], float] | None = time.time, capacity: int = 1000
    ) -> None:
        require_count("capacity", capacity)
        self._matcher, self._listeners, self._clock = matcher, tuple(listeners), clock
        self._waiting: queue.Queue[Message | None] = queue.Queue(capacity)
        self._failure: BaseException | None = None
        self._closed, self._entering = False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="matching", daemon=True)
        self._thread.start()

    def __enter__(self) -> MatchingThread:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def put(self, message: Message) -> None:
        """Hand a message over; waits while too many wait already.

        Raises:
            RuntimeError: A listener has failed, which is its cause, or the matching is closed.
        """
        with self._entering:  # or a message could come after the end of the queue, and nobody would ever see it
            if self._closed:
                raise RuntimeError("the matching is closed: it takes no more messages")
            self.raise_failure()
            self._waiting.put(message)

    def close(self) -> None:
        """Match what waits, then stop.

        Raises:
            RuntimeError: A listener has failed, which is its cause.
        """
        with self._entering:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what a listener has raised, as ``put`` does; nothing, while all is well."""
        if self._failure is not None:
            raise RuntimeError("the matching has stopped, since a listener failed") from self._failure

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            if self._failure is None:  # afterwards the queue is only emptied, so that nobody waits for ever
                try:
                    self._tell(message)
                except BaseException as error:  # told by put and close, in the threads of those who call
                    self._failure = error

    def _tell(self, message: Message) -> None:
        received = time.time() if self._clock is None else self._clock()
        told = Told(message, received)
        if not isinstance(message, StageHealth):
            try:
                events = tuple(self._matcher.feed(message, received=None if self._clock is None else received))
            except ValueError as error:
                told = Told(message, received, refused=str(error))
            else:
                keys = message.keys if isinstance(message, CameraTracks) else ()
                told = Told(message, received, events, tuple(self._matcher.identity(key) for key in keys))
        for listener in self._listeners:
            listener(told)
