"""Checkpoints that survive a kill, a full disk and a power cut: the Trainer's plugin that writes and reads them."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pytorch_lightning.plugins import CheckpointIO
from torch.serialization import MAP_LOCATION
from typing_extensions import override

from lightning_reid.checkpoints.remote import RemoteCheckpoint
from lightning_reid.files import remove_drafts_of, write_atomically
from lightning_reid.networks.archives import DamagedArchiveError, ForeignArchiveError, damage_of, load_archive, write_archive

logger = logging.getLogger(__name__)

Place = tuple[str, Callable[[], IO[bytes]]]
"""Where a checkpoint lies, and how to open it."""


class DurableCheckpointIO(CheckpointIO):
    """Saves checkpoints so that there is a whole one at every moment, and reads none that is damaged: ``Trainer(plugins=[...])``.

    A checkpoint is written beside its target, put on the disk and renamed; the one it replaces stays beside it as ``last.ckpt.previous``,
    so that two take room, three during a save. Where the latest is gone or damaged (its checksums are looked at, which ``torch.load``
    does not do), the previous one is loaded, with a warning that says what is lost. URLs that fsspec knows are served too, see
    :class:`RemoteCheckpoint`. Under DDP rank 0 saves, as Lightning has it, and every rank loads.

    Example:
        >>> from lightning_reid.checkpoints import DurableCheckpointIO
        >>> plugin = DurableCheckpointIO()  # pl.Trainer(plugins=[plugin])
        >>> plugin.save_checkpoint({"epoch": 1}, folder / "last.ckpt")
        >>> plugin.save_checkpoint({"epoch": 2}, folder / "last.ckpt")
        >>> plugin.load_checkpoint(folder / "last.ckpt"), sorted(file.name for file in folder.iterdir())
        ({'epoch': 2}, ['last.ckpt', 'last.ckpt.previous'])
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint; what is at ``path`` stays whole until the new one is.

        Args:
            checkpoint: Content.
            path: File, or a URL as fsspec reads it.
            storage_options: Not taken.

        Raises:
            OSError: The disk is full, the folder cannot be written to, or what has arrived at the URL is not what was sent; the message
                names ``path``, which still holds the checkpoint of before.
            TypeError: There are storage options.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options are not taken, got {storage_options}: fsspec's own configuration holds what its stores need")
        remote = _remote(path)
        if remote is not None:
            remote.save(checkpoint)
            return
        file = _local(path)
        _clear_drafts(file)
        # a damaged one must not take the place of the whole one before it
        previous = previous_checkpoint(file) if file.is_file() and _damage_of_file(file) is None else None
        write_atomically(file, partial(write_archive, checkpoint), previous=previous)

    @override
    def load_checkpoint(self, path: str | Path, map_location: MAP_LOCATION = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint, or the one before it where it is damaged or gone.

        Args:
            path: File or URL.
            map_location: Where tensors go, as ``torch.load`` takes it.
            weights_only: Only ``False`` runs code from the file; ``None`` is ``True``.

        Raises:
            FileNotFoundError: There is neither.
            ValueError: It is damaged and there is no whole one before it; or it is whole but no checkpoint, or holds more than tensors
                and plain values.
        """
        remote = _remote(path)
        if remote is not None:
            return _first_whole(str(path), remote.places(), map_location, weights_only is not False)
        file = _local(path)
        places = [(str(one), _reader(one)) for one in (file, previous_checkpoint(file)) if one.is_file()]
        if not places:
            raise FileNotFoundError(f"no checkpoint at {file}: name the .ckpt file, or start a new run")
        gone = [] if file.is_file() else [f"the checkpoint {file} is gone"]
        return _first_whole(str(path), places, map_location, weights_only is not False, gone)

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and the one kept as its fallback."""
        remote = _remote(path)
        if remote is not None:
            remote.remove()
            return
        file = _local(path)
        for one in (file, previous_checkpoint(file)):
            one.unlink(missing_ok=True)
        _clear_drafts(file)


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint that ``path`` held before stays; Lightning does not take it for another ``last.ckpt``."""
    return path.with_name(f"{path.name}.previous")


def _first_whole(
    name: str, places: Sequence[Place], map_location: MAP_LOCATION, weights_only: bool, gone: Sequence[str] = ()
) -> dict[str, Any]:
    damages = [*gone]
    for place, open_there in places:
        try:
            with open_there() as file:
                content = load_archive(file, map_location=map_location, weights_only=weights_only)
        except DamagedArchiveError as error:
            damages.append(f"the checkpoint {place} is damaged, {error}")
            continue
        except ForeignArchiveError as error:
            told = "; ".join([*damages, f"{place} is no checkpoint of Lightning, {error}"])
            raise ValueError(f"{told}. Resume from another file, or start a new run") from error
        except pickle.UnpicklingError as error:
            if not weights_only:
                raise ValueError(f"the checkpoint {place} cannot be unpickled: {error}") from error
            raise ValueError(_refusal(place, str(error))) from None  # torch's own words advise to run what the file holds
        if not isinstance(content, dict):
            raise ValueError(f"{place} holds a {type(content).__name__}, expected a checkpoint of Lightning, which is a dictionary")
        if damages:
            told = "; ".join(damages)
            since = content.get("epoch"), content.get("global_step")
            logger.warning("%s: %s takes its place, of epoch %s and step %s; what was trained since then is lost", told, place, *since)
        return content
    told = "; ".join([*damages, f"there is no whole one {'before' if damages else 'at'} {name}"])
    raise ValueError(f"{told}. Resume from another checkpoint, or start a new run")


def _refusal(place: str, told: str) -> str:
    found = re.search(r"GLOBAL (\S+)", told)
    return (
        f"the checkpoint {place} is not damaged, but holds {found[1] if found else 'more than tensors and plain values'}, which is not "
        "loaded, as it could run code: save strings, numbers, lists and tensors, e.g. by save_hyperparameters(ignore=[...]) in the module"
    )


def _reader(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _clear_drafts(path: Path) -> None:
    """What killed saves left; each takes hundreds of megabytes."""
    for one in (path, previous_checkpoint(path)):
        remove_drafts_of(one)


def _damage_of_file(path: Path) -> str | None:
    with path.open("rb") as file:
        return damage_of(file)


def _remote(path: str | Path) -> RemoteCheckpoint | None:
    filesystem, plain = url_to_fs(str(path))
    return None if isinstance(filesystem, LocalFileSystem) else RemoteCheckpoint(filesystem, plain, str(path))


def _local(path: str | Path) -> Path:
    return Path(url_to_fs(str(path))[1])
