"""Tracking as it happens: threads, sockets and files round ``lightning_reid.tracking``, which knows none.

What needs more than the library itself (extra ``tracking``) is imported by its own name: ``live.gateway``, ``live.node_link`` and
``live.serving``.
"""

from lightning_reid.live.audit import AuditLog
from lightning_reid.live.journal import Journal
from lightning_reid.live.matching import Listener, MatchingThread, Told
from lightning_reid.live.outbox import Outbox

__all__ = [
    "AuditLog",
    "Journal",
    "Listener",
    "MatchingThread",
    "Outbox",
    "Told",
]
