"""What a run is known by: the options that shape its result, its data, the version of the library."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lightning_reid.records import DRAWN, PACKED, ImageRecord, Splits, TrackletRecord

UNSHAPING = frozenset(
    [
        "config",
        "output",
        "resume",
        "quiet",
        "logger",
        "tensorboard",
        "log_every_n_steps",
        "accelerator",
        "num_workers",
        "checkpoint_activations",
        "eval_batch_size",
        "clips_per_pass",
        "root",
        "packed",
        "cache",
        "storage_options",
        "block_cache",
        "block_cache_gb",
    ]
)
"""Names of options, in whatever group, that say where, how fast and how loudly a result is come by."""


def options_fingerprint(cfg: Namespace, ignored: Collection[str] = ()) -> dict[str, Any]:
    """Parsed options by their full names, as JSON knows them; what names a file is replaced by its name and content.

    Args:
        cfg: As parsed.
        ignored: Full names of options that only choose which rows or pictures there are, or that others stand for.
    """
    flat = vars(cfg.as_flat())
    kept = {name: value for name, value in flat.items() if name.split(".")[-1] not in UNSHAPING and name not in ignored}
    plain: dict[str, Any] = json.loads(json.dumps(_wherever_it_lies(kept), default=str))
    return plain | {"lightning-reid": version("lightning-reid")}


def _wherever_it_lies(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _wherever_it_lies(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_wherever_it_lies(one) for one in value]
    if not isinstance(value, str) or not value:
        return value
    if os.path.isfile(value):  # noqa: PTH113  (any string is asked, also one that can be no path)
        with open(value, "rb") as file:  # noqa: PTH123
            return f"{Path(value).name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    return Path(value).name if os.path.isdir(value) or os.path.isabs(value) else value  # noqa: PTH112, PTH117


def data_fingerprint(datasets: Sequence[Splits]) -> dict[str, str]:
    """Number of records and digest of each part of each data set: names below the set's folder, sizes, identities and cameras."""
    found: dict[str, str] = {}
    for dataset in datasets:
        files = [file for _, records in dataset.splits() for record in records for file in _files(record)]
        names = _names([file for file in files if not file.startswith((DRAWN, PACKED))])
        for part, records in dataset.splits():
            digest = hashlib.sha256()
            for line in sorted(_line(record, names) for record in records):
                digest.update(line.encode("utf-8", "surrogateescape"))
            name, number = f"{dataset.name}, {part}", 2
            while name in found:
                name, number = f"{dataset.name} ({number}), {part}", number + 1
            found[name] = f"{len(records)} records, sha256 {digest.hexdigest()[:16]}"
    return found


def _names(files: Sequence[str]) -> dict[str, str]:
    """Files to their names below the folder that holds them all: data may move."""
    paths = {file: Path(file) for file in files}
    places = {path.parent: path.parent.absolute() for path in paths.values()}
    root = os.path.commonpath(places.values()) if places else ""
    below = {folder: place.relative_to(root).as_posix() for folder, place in places.items()}
    return {file: f"{below[path.parent]}/{path.name}" for file, path in paths.items()}


def _files(record: ImageRecord | TrackletRecord) -> tuple[str, ...]:
    return tuple(record.paths) if isinstance(record, TrackletRecord) else (record.path,)


def _line(record: ImageRecord | TrackletRecord, names: Mapping[str, str]) -> str:
    # what is drawn has no size; that it is drawn the same is told by the version of the library. What is packed is checked when it is read
    files = (file if file.startswith((DRAWN, PACKED)) else f"{names[file]} {Path(file).stat().st_size}" for file in _files(record))
    return f"{record.pid} {record.camid} {' '.join(files)}\n"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two fingerprints tell otherwise, a line each: ``name: <there> there, <here> here``."""
    lines = []
    for name in (*there, *(name for name in here if name not in there)):
        theirs, mine = (json.dumps(one[name]) if name in one else "nothing" for one in (there, here))
        if theirs != mine:
            lines.append(f"{name}: {theirs} there, {mine} here")
    return lines
