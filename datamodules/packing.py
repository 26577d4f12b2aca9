"""A cache of packed tracklets: every frame decoded and resized once, so that a clip costs one read and little or no decoding.

Layout: ``<folder>/<height>x<width>-<encoding>/<digest>.safetensors``, one file a tracklet (``lightning_reid.packed_tracklets``). The digest
is that of the bytes of its image files, so a changed image, another size or another encoding never meets an old file. ``index.json``
beside them spares the next run from reading every image again only to know its digest: it remembers digests by what the file system says
of the files (name, number, size, times of change). Files appear whole or not at all; a run that was killed goes on where it stopped, what
it left half written goes, and two runs at once cost double work at worst.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import get_args

import numpy as np

from lightning_reid.datamodules.clips import FrameReader
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.files import write_json
from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
from lightning_reid.packed_tracklets.format import Encoding, encoded_jpeg
from lightning_reid.packed_tracklets.store import TrackletStore, content_digest
from lightning_reid.records import Paths, TrackletRecord

logger = logging.getLogger(__name__)

INDEX = "index.json"
DIGEST_BYTES = 16
"""Of the content of tracklets."""
_SAMPLED_TRACKLETS = 32
_JPEG_MARGIN = 1.2


class PackedCache:
    """Packed tracklets of one size and encoding under a folder that may hold those of others too.

    Args:
        folder: Where the cache is, or shall be.
        image_size: (height, width) of the packed frames in pixels.
        encoding: ``"jpeg"`` or ``"raw"``.

    Raises:
        ValueError: The encoding is unknown.
    """

    def __init__(self, folder: Path, image_size: tuple[int, int], encoding: Encoding) -> None:
        if encoding not in get_args(Encoding):
            raise ValueError(f"the encoding of packed tracklets must be one of {', '.join(get_args(Encoding))}, got {encoding!r}")
        self.folder, self.image_size, self.encoding = folder, image_size, encoding
        self._read = FrameReader(image_size)
        self.store = TrackletStore(folder / f"{image_size[0]}x{image_size[1]}-{encoding}")
        self.home = self.store.folder

    def make(self, records: Sequence[TrackletRecord], *, num_threads: int = 2, progress: bool = True) -> None:
        """Pack what is not packed yet; one process a machine is enough.

        Args:
            records: Tracklets, the same one any number of times.
            num_threads: Tracklets packed at the same time.
            progress: Show a bar on standard error.

        Raises:
            CorruptImageError: An image does not decode; the message names it. What was packed before it stays.
            RuntimeError: An image changed meanwhile.
            OSError: The disk has no room for the rest; nothing was written. Or the folder cannot be written to.
        """
        self.store.clean()
        distinct = {record.paths: record for record in records}
        signatures, index = self._signatures_and_index(distinct, num_threads, progress)
        digests = {paths: index[signature] for paths, signature in signatures.items()}
        looked_at = late_progress(distinct.items(), f"looking for {len(distinct)} tracklets", total=len(distinct), disable=not progress)
        todo = [record for paths, record in looked_at if not self._holds(record, digests[paths])]
        self._mention_other_settings()
        if todo:
            self._require_room(todo)
        # another run may have written its own tracklets meanwhile; what is lost between reading and writing costs a digest, no more
        known = self._read_index()
        if known | index != known:  # a whole cache may lie on a medium that cannot be written to
            write_json(self.home / INDEX, known | index)
        with ThreadPoolExecutor(num_threads) as pool:
            packed = pool.map(lambda record: self._pack(record, digests[record.paths], signatures[record.paths]), todo)
            for _ in late_progress(packed, f"packing {len(todo)} tracklets", total=len(todo), disable=not progress):
                pass

    def files(self, records: Iterable[TrackletRecord]) -> dict[Paths, Path]:
        """The packed tracklets, by the ``paths`` of their records; images that the index does not know are read to learn their digest.

        Raises:
            RuntimeError: A tracklet is not packed, or its images have changed since.
        """
        signatures, index = self._signatures_and_index({record.paths for record in records}, num_threads=2, progress=False)
        found = {paths: self.store.path(index[signature]) for paths, signature in signatures.items()}
        missing = [paths for paths, file in found.items() if not file.is_file()]
        if missing:
            raise RuntimeError(
                f"{self.home} does not hold the tracklet that begins with {missing[0][0]} as it is now, nor {len(missing) - 1} others: "
                "call prepare_data(), which packs what is new or changed"
            )
        return found

    def _signatures_and_index(
        self, tracklets: Collection[Paths], num_threads: int, progress: bool
    ) -> tuple[dict[Paths, str], dict[str, str]]:
        """The signature of each tracklet, and an index that has the digest of them all."""
        index = self._read_index()
        signatures = {paths: _signature(paths) for paths in tracklets}
        unknown = [paths for paths, signature in signatures.items() if signature not in index]
        with ThreadPoolExecutor(num_threads) as pool:
            digests = pool.map(partial(content_digest, digest_bytes=DIGEST_BYTES), unknown)
            read = late_progress(digests, f"reading {len(unknown)} tracklets", total=len(unknown), disable=not progress)
            index |= {signatures[paths]: digest for paths, digest in zip(unknown, read, strict=True)}
        return signatures, index

    def _holds(self, record: TrackletRecord, digest: str) -> bool:
        """Whether the file of that digest is there and what it should be; one that is not is said and made again."""
        if not self.store.path(digest).is_file():
            return False
        try:
            packed = PackedTracklet(self.store.path(digest))
            found = packed.num_frames, packed.image_size, packed.encoding
        except ValueError as error:
            logger.warning("%s", error)
            return False
        if found != (len(record.paths), self.image_size, self.encoding):
            logger.warning(
                "%s holds %d frames of %s as %s, a cache from other settings: it is made again with %d frames of %s as %s",
                *(packed.path, *found, len(record.paths), self.image_size, self.encoding),
            )
            return False
        return True

    def _pack(self, record: TrackletRecord, digest: str, signature: str) -> None:
        frames = self._read(record, np.arange(len(record.paths))).pixels
        if _signature(record.paths) != signature:
            raise RuntimeError(
                f"the images of the tracklet that begins with {record.paths[0]} changed while they were packed: run it again"
            )
        write_packed_tracklet(self.store.path(digest), frames, encoding=self.encoding, metadata={"content": digest})

    def _read_index(self) -> dict[str, str]:
        path = self.home / INDEX
        if not path.is_file():
            return {}
        try:
            index: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): delete it, digests are then read off the images again") from error
        return index

    def _mention_other_settings(self) -> None:
        others = sorted(path.name for path in self.folder.glob("*x*-*") if path.is_dir() and path != self.home)
        if others:
            logger.info("%s also holds tracklets packed with other settings, which are not served here: %s", self.folder, ", ".join(others))

    def _require_room(self, todo: Sequence[TrackletRecord]) -> None:
        num_frames = sum(len(record.paths) for record in todo)
        needed = round(num_frames * self._bytes_a_frame(todo))
        what = f"packing {num_frames:,} frames of {self.image_size[0]}x{self.image_size[1]} as {self.encoding}"
        jpeg = "packed_encoding=jpeg, " if self.encoding == "raw" else ""
        self.store.require_room(needed, what, f"choose another folder, {jpeg}a smaller image_size, or no packed cache")

    def _bytes_a_frame(self, records: Sequence[TrackletRecord]) -> float:
        """Exact for ``raw``; for ``jpeg`` the mean over first frames of some tracklets, with a margin."""
        if self.encoding == "raw":
            return 3.0 * self.image_size[0] * self.image_size[1]
        places = np.unique(np.linspace(0, len(records) - 1, _SAMPLED_TRACKLETS).round().astype(int)).tolist()
        sizes = [len(encoded_jpeg(self._read(records[place], np.zeros(1, dtype=np.int64)).pixels[0].numpy())) for place in places]
        return _JPEG_MARGIN * sum(sizes) / len(sizes)


def _signature(paths: Paths) -> str:
    """What the file system says of the files; a file whose bytes change gets another time of change (ctime), whatever its other dates."""
    digest = blake2b(digest_size=16)
    for path in paths:
        told = os.stat(path)  # noqa: PTH116  (MARS has 1.2 million frames, too many for Path objects)
        digest.update(f"{path}\0{told.st_size}\0{told.st_mtime_ns}\0{told.st_ctime_ns}\0{told.st_ino}\n".encode())
    return digest.hexdigest()
