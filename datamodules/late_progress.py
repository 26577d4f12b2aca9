"""A progress bar for work that is usually over before anybody wonders."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")


def late_progress(
    items: Iterable[Item], description: str, *, total: int | None, after: float = 2.0, disable: bool = False
) -> Iterator[Item]:
    """Yield the items; once that has taken ``after`` seconds, show a bar on standard error until the last.

    Args:
        items: What is worked on.
        description: Beside the bar.
        total: Number of items; ``None`` where nobody knows.
        after: Seconds.
        disable: Show nothing, as on all ranks but the first.
    """
    progress = Progress(console=Console(stderr=True), transient=True, disable=disable)
    task, begun, shown = progress.add_task(description, total=total), time.monotonic(), False
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not shown and time.monotonic() - begun > after:
                progress.start()
                shown = True
    finally:
        if shown:
            progress.stop()


@contextmanager
def late_status(words: str, *, after: float = 2.0, disable: bool = False) -> Iterator[None]:
    """Say on standard error what is being done, once the block has taken ``after`` seconds, until it ends: for work in one piece.

    Args:
        words: What is done.
        after: Seconds.
        disable: Say nothing.
    """
    status = Console(stderr=True).status(words)
    timer = threading.Timer(after, status.start)
    timer.daemon = True
    if not disable:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()  # what is just being started would stay
        status.stop()
