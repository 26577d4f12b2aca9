"""Files that stay open between reads, a bounded number of them."""

from __future__ import annotations

import os
from typing import Any

from typing_extensions import override

MOST = 64


class OpenFiles:
    """Handles of blocks by their numbers; of more than ``MOST`` the one that was opened first goes, and all go with this.

    Handles stay good after a fork, as they are read by position; to a process that is spawned none goes along.
    """

    def __init__(self) -> None:
        self._handles: dict[int, int] = {}

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return OpenFiles, ()

    def found(self, number: int) -> int | None:
        """The handle of a block that is open."""
        return self._handles.get(number)

    def opened(self, number: int, path: str | os.PathLike[str]) -> int:
        """The handle of a block, opened if it is not yet.

        Raises:
            OSError: It is not there, or may not be read.
        """
        found = self._handles.get(number)
        if found is None:
            found = os.open(path, os.O_RDONLY)
            if len(self._handles) >= MOST:
                self.close(next(iter(self._handles)))
            self._handles[number] = found
        return found

    def close(self, number: int) -> None:
        """Close the handle of a block that is not what it was."""
        handle = self._handles.pop(number, None)
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        for number in list(self._handles):
            self.close(number)
