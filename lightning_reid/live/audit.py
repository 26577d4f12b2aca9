"""Who asked what about people, and when: a line for each, before it is done."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from lightning_reid.arguments import require_choice
from lightning_reid.tracking import ForgetIdentity
from lightning_reid.tracking.events import Request

ACTIONS = ("search", "forget", "undo")


class AuditLog:
    """A file of JSON lines, one for each time that somebody asked about a person; each is on the disk before ``write`` returns.

    Lines name numbers of people and keys of tracks, never a feature. Nothing here ever removes one.

    Args:
        path: Of the file, which is appended to; its owner alone can read it.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from lightning_reid.live import AuditLog
        >>> path = Path(tempfile.mkdtemp(), "audit.log")
        >>> AuditLog(path).write("forget", by="9f3a61c2", identity=7)
        >>> line = json.loads(path.read_text())
        >>> line["action"], line["by"], line["identity"]
        ('forget', '9f3a61c2', 7)
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._guard = Path(path), threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(self._open())

    def write(self, action: str, *, by: str, **about: Any) -> None:
        """Add a line; whoever cannot must not do what it is about.

        Args:
            action: ``"search"``, ``"forget"`` or ``"undo"``.
            by: Id of the token of who asks, or another name.
            **about: What else there is to say, as JSON has it.

        Raises:
            OSError: The line does not get on the disk.
            ValueError: The action is another.
        """
        require_choice("action", action, ACTIONS)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now := time.time()))
        line = json.dumps({"at": f"{at}.{int(now % 1 * 1000):03d}Z", "action": action, "by": by, **about}) + "\n"
        with self._guard:
            descriptor = self._open()
            try:
                size = os.fstat(descriptor).st_size
                content = line.encode()
                if os.write(descriptor, content) != len(content):
                    os.ftruncate(descriptor, size)
                    raise OSError(
                        f"{self.path}: the disk is full, nobody is looked for, undone or forgotten before there is room for a line"
                    )
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def write_request(self, request: Request, *, by: str) -> None:
        """Add the line of a request, before it is done.

        Args:
            request: What is asked of a matcher.
            by: Id of the token of who asks, or another name.

        Raises:
            OSError: The line does not get on the disk.
        """
        if isinstance(request, ForgetIdentity):
            self.write("forget", by=by, identity=request.identity)
        else:
            self.write("undo", by=by, track=request.track, other=request.other)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
