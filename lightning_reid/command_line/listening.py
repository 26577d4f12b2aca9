"""What the library logs while something is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


@contextmanager
def listening(lowest: int = logging.INFO) -> Iterator[list[str]]:
    """What the library logs meanwhile from a level on: readers tell what they passed over as INFO, networks how they were loaded too."""
    listener, logger = _Listener(), logging.getLogger("lightning_reid")
    level, passes = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(lowest)
    logger.propagate = False
    try:
        yield listener.told
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = passes
