"""Tracking as it happens: threads, sockets and files round ``lightning_reid.tracking``, which knows none."""

from lightning_reid.live.matching import Listener, MatchingThread, Told

__all__ = ["Listener", "MatchingThread", "Told"]
