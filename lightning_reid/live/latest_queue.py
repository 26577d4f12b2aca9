"""A short queue between two stages: what is too old to be worth the work makes room for what is new."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from lightning_reid.arguments import require_count

Item = TypeVar("Item")


class LatestQueue(Generic[Item]):
    """Hands items from one thread to one other, in order; where that lags, the oldest is dropped, or whoever puts waits.

    Args:
        capacity: Items that wait at most, those aside that may not be dropped.
        drops: Whether the oldest is dropped when another comes; otherwise ``put`` waits.

    Attributes:
        num_dropped: Items dropped since it was made.

    Example:
        >>> from lightning_reid.live.latest_queue import LatestQueue
        >>> frames = LatestQueue[str](capacity=2)
        >>> [frames.put(one) for one in ("first", "second", "third")]
        [None, None, 'first']
        >>> frames.close()
        >>> list(frames)
        ['second', 'third']
    """

    def __init__(self, capacity: int = 2, *, drops: bool = True) -> None:
        require_count("capacity", capacity)
        self.capacity, self.drops, self.num_dropped = capacity, drops, 0
        self._waiting: deque[tuple[Item, Item | None]] = deque()
        self._changed = threading.Condition()
        self._closed = self._abandoned = self._busy = False

    def put(self, item: Item, *, rest: Item | None = None) -> Item | None:
        """Hand an item over.

        Args:
            item: What is handed over.
            rest: What stays in its place if it is dropped, such as a message that must not be lost; the item itself if it may not be
                dropped, which does not count as waiting then.

        Returns:
            What was dropped, if anything was.
        """
        with self._changed:
            counts = rest is not item
            while counts and not self.drops and not self._abandoned and self._counted() >= self.capacity:
                self._changed.wait()
            dropped = None
            if not self._abandoned:
                self._waiting.append((item, rest))
                if counts and self._counted() > self.capacity:
                    dropped = self._drop()
            self._changed.notify_all()
            return dropped

    def close(self) -> None:
        """Tell that nothing more comes: who takes items ends after the last."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Tell that nobody takes items any more: what waits and what is put is gone, and nobody waits."""
        with self._changed:
            self._abandoned = self._closed = True
            self._busy = False
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until all items that were put have been taken and the next is asked for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy)

    def __len__(self) -> int:
        """How many items wait that may be dropped."""
        with self._changed:
            return self._counted()

    def __iter__(self) -> Iterator[Item]:
        """Take items until it is closed and empty, waiting for each; an item is done when the next is asked for."""
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                item, _ = self._waiting.popleft()
                self._busy = True
                self._changed.notify_all()
            yield item

    def _counted(self) -> int:
        return sum(rest is not item for item, rest in self._waiting)

    def _drop(self) -> Item:
        place = next(number for number, (item, rest) in enumerate(self._waiting) if rest is not item)
        item, rest = self._waiting[place]
        if rest is None:
            del self._waiting[place]
        else:
            self._waiting[place] = (rest, rest)
        self.num_dropped += 1
        return item
