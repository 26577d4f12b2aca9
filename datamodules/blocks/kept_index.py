"""The index as a file of this machine, whose arrays are mapped and not sent to workers."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning_reid.blocks.damage import ForeignIndexError
from lightning_reid.blocks.index import INDEX, BlockIndex
from lightning_reid.blocks.index_file import map_index, parse_index
from lightning_reid.datamodules.blocks.cache import digest_of
from lightning_reid.datamodules.blocks.store import BlockStore
from lightning_reid.files import write_atomically

logger = logging.getLogger(__name__)


def opened_index(store: BlockStore, cache: Path | None) -> BlockIndex:
    """The index of a set: that of a folder on this machine is mapped, another is kept in the cache and mapped there.

    Args:
        store: Of the set.
        cache: Folder of the cache; without one the index of an address stays in memory.

    Raises:
        StoreError: There is none, or it may not be read.
        ForeignIndexError: It is damaged, or of another version.
    """
    where = f"{store.url}/{INDEX}"
    if store.root is not None:
        with store.told(INDEX):
            return map_index(Path(store.root, INDEX), where)
    return parse_index(store.index(), where) if cache is None else kept_index(cache, store.index(), where)


def kept_index(folder: Path, content: bytes, where: str) -> BlockIndex:
    """The index of a store, kept in a file under its MD5; in memory where the disk does not take it, which is said.

    Args:
        folder: Of the cache. Indexes do not count to its limit: they have 24 bytes a frame, of which blocks have thousands.
        content: As the store gave it.
        where: Its place, for messages.

    Raises:
        ForeignIndexError: It is damaged, or of another version.
    """
    path = folder / f"{digest_of(content)}.safetensors"
    try:
        return map_index(path, where)
    except (OSError, ForeignIndexError):  # not there yet, or damaged there
        found = parse_index(content, where)
    try:
        write_atomically(path, lambda draft: draft.write_bytes(content))
        return map_index(path, where)
    except OSError as error:
        logger.warning("%s; the index of %s stays in memory, and is sent to each worker that is spawned", error, where)
        return found
