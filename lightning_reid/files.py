"""Writing files so that a reader never meets half of one, not even after a power cut."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_reid.drafts import draft_beside, drafts_below, drafts_of, remove_left_behind
from lightning_reid.regular_files import read_regular

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def write_atomically(path: Path, write: Callable[[Path], object], *, previous: Path | None = None) -> None:
    """Let ``write`` fill a draft beside ``path``, then rename it; what was at ``path`` stays whole until then.

    The draft is on the disk before it gets its name, and the name is on the disk before this returns.

    Args:
        path: Where the file goes; its folder is made if need be. It keeps its mode; that of a new file is as the umask has it.
        write: Called with the path of the draft, which ends as ``path`` does.
        previous: What was at ``path`` gets this name, in the same folder, beside its own until it is replaced.

    Raises:
        OSError: The folder cannot be written to, or the disk is full; the message names ``path``, no draft is left.
    """
    draft = draft_beside(path)
    with told_as_not_written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch(exist_ok=False)
        mode = stat.S_IMODE((path if path.is_file() else draft).stat().st_mode)  # the umask made the draft's
        try:
            draft.chmod(mode | stat.S_IWUSR)  # what only its owner may read is not shown while it is written
            write(draft)
            draft.chmod(mode)
            if previous is not None and path.exists():
                _give_second_name(path, previous)
            publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def told_as_not_written(path: Path, choice: str = "Choose another folder (--output)") -> Iterator[None]:
    """Have an ``OSError`` of the block name the file or folder that it was to write, and the way on.

    Args:
        path: Of the file or folder.
        choice: What can be done beside freeing the disk.

    Raises:
        OSError: Of the same number, caused by the block's.
    """
    try:
        yield
    except OSError as error:
        told = f"cannot write {path}: {error.strerror or error}. {choice}, or free the disk"
        raise OSError(error.errno, told) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON, atomically."""
    write_atomically(path, lambda file: file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))


class _NameTwiceError(ValueError):
    """A JSON object has a name twice, of which readers take the one or the other."""


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise _NameTwiceError(name)
        content[name] = value
    return content


def read_json(path: Path, needs: Mapping[str, Any] | None = None, *, way_on: str) -> dict[str, Any]:
    """Read a JSON object that a run wrote, and that may have been cut or edited since.

    Args:
        path: File to read.
        needs: What must be in it, each with its type or types as ``isinstance`` takes them; more may be.
        way_on: What the reader of a message can do.

    Raises:
        OSError: The file cannot be read, or is a pipe, which would be waited for; ``FileNotFoundError`` where there is none.
        ValueError: It holds no such object, or a name twice; the message names the file, what is wrong and the way on.
    """
    try:
        content = json.loads(read_regular(path).decode("utf-8"), object_pairs_hook=_each_name_once)
    except _NameTwiceError as error:
        raise ValueError(f"{path} holds {json.dumps(str(error))[:40]} twice, it was edited or is not of this library: {way_on}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is cut short or was overwritten, it is no JSON ({error}): {way_on}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {json.dumps(content)[:40]}, expected a JSON object: {way_on}")
    for name, kind in (needs or {}).items():
        if not isinstance(content.get(name), kind):
            told = f"{json.dumps(content[name])[:40]} as {name!r}" if name in content else f"no {name!r}"
            raise ValueError(f"{path} holds {told}, it was edited or is not of this library: {way_on}")
    return content


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its place if the block ends well, and goes if it does not.

    Drafts of the same folder that killed processes left beside it go too; a live one's stays, and the first that ends takes the place.

    Raises:
        OSError: The disk is full, or ``folder`` has been filled meanwhile.
    """
    remove_drafts_of(folder)
    draft = draft_beside(folder)
    draft.mkdir(parents=True)
    try:
        yield draft
        if folder.is_dir():
            folder.rmdir()  # an empty one, which Windows does not replace
        publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # after the renaming there is no draft, and nothing to say


@contextmanager
def folder_replaced_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its place if the block ends well, whatever was in it; it stays whole until then.

    No system call gives a folder the name of one that holds files. So the old one gets the name of ``replaced_folder`` first: a process
    killed in that instant leaves it whole under that name, and it gets its own back when the folder is written again.

    Raises:
        OSError: The disk is full, or does not take it for another reason; the message names ``folder``.
    """
    previous = replaced_folder(folder)
    with told_as_not_written(folder, "Give another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if previous.is_dir() and not folder.exists():
            publish(previous, folder)
        remove_drafts_of(folder)
        draft = draft_beside(folder)
        draft.mkdir()
        try:
            yield draft
            for entry in (*draft.iterdir(), draft):
                _put_on_disk(entry)
            shutil.rmtree(previous, ignore_errors=True)  # the folder is there: nobody needs the one before it
            if folder.exists():
                publish(folder, previous)
            publish(draft, folder)
            shutil.rmtree(previous, ignore_errors=True)
        finally:
            if previous.is_dir() and not folder.exists():
                publish(previous, folder)
            shutil.rmtree(draft, ignore_errors=True)


def replaced_folder(folder: Path) -> Path:
    """Where what was in ``folder`` is while it gets another content, see ``folder_replaced_whole``."""
    return folder.with_name(f".{folder.name}.replaced")


def publish(draft: Path, path: Path) -> None:
    """Give a finished file or folder its name in one step; before and after it everything is put on the disk (``fsync``).

    Args:
        draft: Of the same file system, as a neighbor of ``path`` is.
        path: A file there is replaced; a folder there must be empty.

    Raises:
        OSError: The disk or the folder does not take it.
    """
    for entry in (*(draft.rglob("*") if draft.is_dir() else ()), draft):
        _put_on_disk(entry)
    os.replace(draft, path)  # noqa: PTH105  (the tests fail it here)
    _put_on_disk(path.parent)


def remove_drafts_of(path: Path) -> list[Path]:
    """Remove the drafts of a file or folder that killed processes left beside it; a live one's stay.

    Returns:
        What was removed.
    """
    return remove_left_behind(drafts_of(path))


def remove_partial_files(folder: Path, *, alone: bool = False) -> list[Path]:
    """Remove what killed processes left half written in a folder and below; what a live process is writing stays.

    Args:
        folder: Need not be there.
        alone: Nobody on another host writes there at this moment (a lock says so). Otherwise drafts of other hosts, whose processes
            cannot be looked up from here, stay until they have not changed for a day.

    Returns:
        What was removed.
    """
    return remove_left_behind(drafts_below(folder), alone=alone)


def _give_second_name(path: Path, second: Path) -> None:
    """``path`` keeps its own; where the file system knows no hard links the second is a copy."""
    draft = draft_beside(second)
    try:
        try:
            os.link(path, draft)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy(path, draft)
        publish(draft, second)
    finally:
        draft.unlink(missing_ok=True)  # renaming a link over another to the same file does nothing, and leaves it


def _put_on_disk(path: Path) -> None:
    folder = path.is_dir()
    if os.name == "nt" and folder:
        return  # Windows opens no folders, and NTFS keeps their changes in its journal
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(handle)
