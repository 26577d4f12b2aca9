"""Drafts: files and folders that are being written, named for the process that writes them, so that a dead one's can be cleared away.

``table.md`` is drafted as ``.table.<host>_<pid>_<draw>.partial.md`` beside it. On the host that the name tells, the process is looked up;
one that began after the draft's last change only has the number of the writer. Of another host, or another pid namespace (a container),
nobody can say here whether its process lives: its drafts are left alone until they have not changed for a day.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from secrets import token_hex

from lightning_reid.processes import lives, this_host

logger = logging.getLogger(__name__)

SECONDS_OF_GRACE = 24 * 3600
"""Another host's draft is left alone until it has not changed for so long."""

_NAME = re.compile(r"\.(?P<stem>.+)\.(?P<host>[A-Za-z0-9-]+)_(?P<pid>\d+)_[0-9a-f]{8}\.partial(?P<suffix>\.[^.]*)?")
_MAX_STEM = 40  # file systems take 255 bytes


def draft_beside(path: Path) -> Path:
    """A new name for a draft of ``path``, in the same folder and with the same suffix; nothing is made."""
    return path.with_name(f".{path.stem[:_MAX_STEM]}.{this_host()}_{os.getpid()}_{token_hex(4)}.partial{path.suffix}")


def drafts_of(path: Path) -> Iterator[Path]:
    """The drafts of ``path`` that lie beside it, whoever writes them; none in a folder that may not be listed."""
    for entry in drafts_below(path.parent, deeper=False):
        told = _NAME.fullmatch(entry.name)
        if told and (told["stem"], told["suffix"] or "") == (path.stem[:_MAX_STEM], path.suffix):
            yield entry


def drafts_below(folder: Path, *, deeper: bool = True) -> Iterator[Path]:
    """All drafts in a folder, and ``deeper`` in its sub-folders, but not those within a draft; links are not followed."""
    for place, folders, files in os.walk(folder):
        found = [name for name in (*folders, *files) if _NAME.fullmatch(name)]
        folders[:] = [name for name in folders if deeper and name not in found]
        yield from (Path(place, name) for name in found)


def is_left_behind(draft: Path, *, alone: bool = False) -> bool:
    """Whether nobody is writing this draft any more.

    Args:
        draft: Its path; what is not named as a draft is nobody's to clear away.
        alone: Nobody on another host writes here at this moment (a lock says so): its drafts are left behind, whatever their age.
    """
    told = _NAME.fullmatch(draft.name)
    if told is None:
        return False
    try:
        changed = _last_change(draft)
    except FileNotFoundError:  # it was renamed or removed meanwhile
        return False
    if told["host"] != this_host():
        return alone or time.time() - changed > SECONDS_OF_GRACE
    return not lives(int(told["pid"]), changed)


def remove_left_behind(drafts: Iterable[Path], *, alone: bool = False) -> list[Path]:
    """Remove those of the drafts that nobody is writing any more; what cannot be removed is said, and stays.

    Returns:
        What was removed.
    """
    removed = []
    for draft in drafts:
        if not is_left_behind(draft, alone=alone):
            continue
        try:
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft)
            else:
                draft.unlink()
        except FileNotFoundError:
            continue  # another run clears away too
        except OSError as error:
            logger.warning("%s was left by a process that has ended, and cannot be removed (%s): remove it by hand", draft, error.strerror)
            continue
        removed.append(draft)
    return removed


def _last_change(draft: Path) -> float:
    """Of a folder, that of anything in it. A link to an old file has the file's mtime, hence ctime."""
    within: Iterable[Path] = draft.rglob("*") if draft.is_dir() else ()
    return max(max(told.st_mtime, told.st_ctime) for told in (path.lstat() for path in (draft, *within)))
