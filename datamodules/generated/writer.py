"""Write a generated data set so that a folder either holds all of it or does not exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from lightning_reid.files import folder_written_whole, remove_drafts_of

MANIFEST = "generated.json"

Item = TypeVar("Item")


def write_dataset(root: Path, arguments: Mapping[str, Any], counts: Mapping[str, int], fill: Callable[[Path], None]) -> Path:
    """Let ``fill`` write a data set that becomes the folder ``root``, or find it there.

    Two processes may do this at once: both write, one renames first, the other takes what it finds. What a killed one left beside ``root``
    goes.

    Args:
        root: The folder to hold the data set; its parent is made where missing.
        arguments: What the pictures depend on, kept in the manifest.
        counts: How many pictures each folder will hold, its sub-folders included.
        fill: Writes everything into the folder it is given, which exists and is empty.

    Returns:
        ``root``.

    Raises:
        FileExistsError: ``root`` holds something else, or a data set made with other arguments.
        RuntimeError: ``root`` was generated with these arguments but files are missing.
        OSError: Writing failed; nothing is left behind.
    """
    manifest = {**arguments, "counts": dict(counts)}
    remove_drafts_of(root)
    if _is_there(root, manifest):
        return root
    try:
        with folder_written_whole(root) as draft:
            fill(draft)
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    except OSError:
        if not _is_there(root, manifest):
            raise
    return root


def show_progress(items: Iterable[Item], label: str, *, progress: bool) -> Iterable[Item]:
    """The items, with a bar on standard error if ``progress``."""
    return track(items, description=label, console=Console(stderr=True), transient=True, disable=not progress)


def _is_there(root: Path, manifest: dict[str, Any]) -> bool:
    """Whether ``root`` holds exactly what the manifest says; anything else in its place is an error."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / MANIFEST).is_file():
        raise FileExistsError(f"{root} exists and was not generated (it holds no {MANIFEST}): name another folder, nothing was written")
    found = json.loads((root / MANIFEST).read_text())
    if found != manifest:
        other = ", ".join(
            f"{key}={found.get(key)!r} (asked: {manifest.get(key)!r})" for key in manifest if found.get(key) != manifest.get(key)
        )
        raise FileExistsError(f"{root} was generated with {other}: name another folder, or delete this one")
    for folder, count in manifest["counts"].items():
        files = sum(1 for _ in (root / folder).rglob("*.jpg"))
        if files != count:
            raise RuntimeError(
                f"{root / folder} should hold {count} crops by {MANIFEST}, found {files}: delete {root} and generate it again"
            )
    return True
