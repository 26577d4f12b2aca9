"""Which process, on which host: what a file can say of who made it, and whether that one still lives."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import psutil

SECONDS_OF_CLOCKS = 5.0
"""That two readings of a time may lie apart."""
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def this_host() -> str:
    """Where numbers of processes mean what they mean here: letters, digits and dashes, of the host's name and the pid namespace.

    Containers may share a host's name, and have processes of their own.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())
    try:
        return f"{name}-{_PID_NAMESPACE.stat().st_ino}"
    except OSError:  # not Linux
        return name


def lives(pid: int, moment: float) -> bool:
    """Whether the process that had a number on this host at a moment is still there; a later one may have the same number.

    Args:
        pid: Its number.
        moment: When it was there, seconds since 1970.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + SECONDS_OF_CLOCKS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it is there, and another user's
        return True
