"""Ending by Ctrl-C or SIGTERM what would otherwise run on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop(threading.Event):
    """Set by a signal.

    Attributes:
        by: Name of the signal that came; ``None`` until one does.
    """

    by: str | None = None


@contextmanager
def stopped() -> Iterator[Stop]:
    """An event that the first Ctrl-C and the first SIGTERM set; a second one of a kind does as it always does.

    In another thread than the main one, where no signal can be taken, nothing sets it.
    """
    stop, kinds = Stop(), (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {kind: signal.getsignal(kind) for kind in kinds}

    def take(number: int, _: object) -> None:
        stop.by = stop.by or signal.Signals(number).name
        signal.signal(number, before[number])
        stop.set()

    for kind in kinds:
        signal.signal(kind, take)
    try:
        yield stop
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])
